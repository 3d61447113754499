//! Registries behind TLS: private authorities, client certificates, mirrors. Debian's docker-registry answers.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::time::Duration;

use knode_images::Auth;
use knode_testkit::image::{Image, ImageBuilder, Layer};
use knode_testkit::{Host, Process, Registry, Scratch, wait_until};
use support::Fixture;

fn built() -> Image {
    ImageBuilder::new("localhost/team/app:1")
        .layer(Layer::new().file("a", 0o644, "a"))
        .build()
}

fn openssl(dir: &Path, words: &str) {
    let output = std::process::Command::new("openssl")
        .args(words.split_whitespace())
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{words}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An authority, a server's certificate for 127.0.0.1 and a client's, in files.
fn certificates() -> Scratch {
    let dir = Scratch::new("certificates");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        dir.path(),
        &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"),
    );
    for (name, extension) in [
        ("server", "subjectAltName=IP:127.0.0.1"),
        ("client", "extendedKeyUsage=clientAuth"),
    ] {
        openssl(
            dir.path(),
            &format!(
                "req -x509 {key} -CA ca.pem -CAkey ca.key -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name} -addext basicConstraints=critical,CA:FALSE -addext {extension}"
            ),
        );
    }
    dir
}

/// A registry with TLS over another's storage.
struct Secure {
    _process: Process,
    address: String,
}

fn secure(host: &Host, plain: &Registry<'_>, certificates: &Scratch, clients: bool) -> Secure {
    let listener = host.enter(|| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let dir = certificates.path().display();
    let root = plain.storage();
    let root = root.ancestors().nth(3).unwrap().display();
    let wanted = if clients {
        format!(", clientcas: [{dir}/ca.pem]")
    } else {
        String::new()
    };
    let config = format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {root}}}\nhttp:\n  addr: '{address}'\n  \
         tls: {{certificate: {dir}/server.pem, key: {dir}/server.key{wanted}}}\n"
    );
    let path = certificates.join(format!("{clients}.yml"));
    std::fs::write(&path, config).unwrap();
    let process = host.spawn("tls", "docker-registry", &["serve", &path.display().to_string()]);
    wait_until("the registry to listen", Duration::from_secs(20), || {
        host.enter(|| std::net::TcpStream::connect(&address).map(drop))
    });
    Secure {
        _process: process,
        address,
    }
}

/// Pulls with this as the registry's directory; each file is a name and its text or the file that it is copied from.
fn pull(host: &Host, domain: &str, files: &[(&str, &str)]) -> Result<String, String> {
    let certs = Scratch::new("certs");
    let dir = certs.join(domain);
    std::fs::create_dir(&dir).unwrap();
    for (name, content) in files {
        match content.starts_with('/') {
            true => drop(std::fs::copy(content, dir.join(name)).unwrap()),
            false => std::fs::write(dir.join(name), content).unwrap(),
        }
    }
    let fixture = Fixture::with(|registries| registries.certs_dir = Some(certs.path().to_owned()));
    let reference = format!("{domain}/team/app:1");
    let pulled = host.block_on(async || fixture.store.pull(&reference, &Auth::Anonymous).await);
    pulled
        .map(|image| image.id.to_string())
        .map_err(|error| error.chain())
}

#[test]
fn private_authorities_client_certificates_and_mirrors_are_as_configured() {
    let host = Host::new("tls");
    let plain = Registry::start(&host);
    plain.push(&built());
    let certificates = certificates();
    let file = |name: &str| certificates.join(name).display().to_string();
    let open = secure(&host, &plain, &certificates, false);
    let server = format!("server = \"https://{}\"\n", open.address);
    let good = Ok(built().id().to_owned());

    let told = pull(&host, &open.address, &[("hosts.toml", &server)]).unwrap_err();
    assert!(
        told.contains("tls: ") && told.contains("UnknownIssuer")
            || told.contains("no certificate authorities"),
        "{told}"
    );
    let trusting = format!("{server}ca = \"{}\"\n", file("ca.pem"));
    assert_eq!(pull(&host, &open.address, &[("hosts.toml", &trusting)]), good);
    let blind = format!("{server}skip_verify = true\n");
    assert_eq!(pull(&host, &open.address, &[("hosts.toml", &blind)]), good);
    // Docker's layout.
    assert_eq!(pull(&host, &open.address, &[("ca.crt", &file("ca.pem"))]), good);
    // Certificates for another name are refused.
    let other = open.address.replace("127.0.0.1", "localhost");
    let named = format!("server = \"https://{other}\"\nca = \"{}\"\n", file("ca.pem"));
    let told = pull(&host, "reg.example", &[("hosts.toml", &named)]).unwrap_err();
    assert!(told.contains("tls: "), "{told}");

    let closed = secure(&host, &plain, &certificates, true);
    let server = format!(
        "server = \"https://{}\"\nca = \"{}\"\n",
        closed.address,
        file("ca.pem")
    );
    let told = pull(&host, &closed.address, &[("hosts.toml", &server)]).unwrap_err();
    assert!(told.contains("failed to resolve image"), "{told}");
    let pair = format!(
        "{server}client = [[\"{}\", \"{}\"]]\n",
        file("client.pem"),
        file("client.key")
    );
    assert_eq!(pull(&host, &closed.address, &[("hosts.toml", &pair)]), good);
    let docker = [
        ("ca.crt", file("ca.pem")),
        ("me.cert", file("client.pem")),
        ("me.key", file("client.key")),
    ];
    let docker: Vec<_> = docker.iter().map(|(name, path)| (*name, path.as_str())).collect();
    assert_eq!(pull(&host, &closed.address, &docker), good);

    // A registry that nobody can reach, by way of its mirrors: the first is not there either.
    let mirrors = format!(
        "server = \"http://127.0.0.1:1\"\n[host.\"http://127.0.0.1:2\"]\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        plain.address()
    );
    assert_eq!(pull(&host, "reg.example", &[("hosts.toml", &mirrors)]), good);
    // A mirror that may not say what a tag means is not asked.
    let content = mirrors.replace(", \"resolve\"", "");
    let told = pull(&host, "reg.example", &[("hosts.toml", &content)]).unwrap_err();
    assert!(
        told.contains("127.0.0.1:1/") && told.contains("refused"),
        "{told}"
    );
    let told = pull(&host, "reg.example", &[("hosts.toml", "ca = \"absent.pem\"")]).unwrap_err();
    assert!(
        told.contains("invalid configuration of registry \"reg.example\""),
        "{told}"
    );
}
