//! Reading a registry's directory.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::endpoint::{Endpoint, TlsFiles, plan};
use super::file::HostsFile;
use super::toml;
use crate::reference::Reference;
use crate::registry::config::Registries;
use crate::registry::error::HostsError;

/// The endpoints that serve a reference's registry. Reads files.
pub(crate) fn endpoints(registries: &Registries, reference: &Reference) -> Result<Vec<Endpoint>, HostsError> {
    let mut file = HostsFile::default();
    let dirs = registries.certs_dir.as_deref().unwrap_or(Path::new(""));
    let dirs = std::env::split_paths(dirs).filter(|dir| !dir.as_os_str().is_empty());
    let candidates = dirs.flat_map(|dir| {
        names(&reference.domain)
            .into_iter()
            .map(move |name| dir.join(name))
    });
    for dir in candidates {
        if let Some(found) = read(&dir)? {
            file = found;
            break;
        }
    }
    plan(reference, file, registries.is_plain(reference))
}

/// The directories that may describe a registry, the best first.
fn names(domain: &str) -> Vec<String> {
    let mut names = Vec::with_capacity(3);
    if let Some((host, port)) = domain.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        names.push(format!("{host}_{port}_"));
    }
    names.push(domain.to_owned());
    names.push("_default".to_owned());
    names
}

fn read(dir: &Path) -> Result<Option<HostsFile>, HostsError> {
    if !dir.is_dir() {
        return Ok(None);
    }
    let path = dir.join("hosts.toml");
    match std::fs::read_to_string(&path) {
        Ok(text) => toml::parse(&text, &path).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut file = HostsFile::default();
            file.server.tls = docker_certificates(dir)?;
            Ok(Some(file))
        }
        Err(source) => Err(HostsError::Read { path, source }),
    }
}

/// Docker's layout: `*.crt` are authorities, `X.cert` with `X.key` client certificates.
fn docker_certificates(dir: &Path) -> Result<TlsFiles, HostsError> {
    let read = |source| HostsError::Read {
        path: dir.to_owned(),
        source,
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read)? {
        paths.push(entry.map_err(read)?.path());
    }
    paths.sort();
    let mut files = TlsFiles::default();
    for path in &paths {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("crt") => files.ca.push(path.clone()),
            Some("cert") => {
                let key = path.with_extension("key");
                if !paths.contains(&key) {
                    let reason = format!("there is no {} beside it", key.display());
                    return Err(HostsError::Certificate {
                        path: path.clone(),
                        reason,
                    });
                }
                files.client.push((path.clone(), Some(key)));
            }
            _ => {}
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use knode_testkit::Scratch;

    use super::*;

    fn of(scratch: &Scratch, reference: &str) -> Result<Vec<String>, HostsError> {
        let registries = Registries {
            certs_dir: Some(format!("/absent:{}", scratch.path().display()).into()),
            ..Registries::default()
        };
        let found = endpoints(&registries, &Reference::parse(reference).unwrap())?;
        let told = |endpoint: &Endpoint| {
            let url = endpoint.url("a/b", "manifests/1").unwrap();
            let may = [(endpoint.resolve, "resolve"), (endpoint.pull, "pull")];
            let may: Vec<_> = may
                .iter()
                .filter(|(may, _)| *may)
                .map(|(_, name)| *name)
                .collect();
            format!("{url} {}", may.join("+"))
        };
        Ok(found.iter().map(told).collect())
    }

    fn write(scratch: &Scratch, dir: &str, name: &str, text: &str) {
        std::fs::create_dir_all(scratch.join(dir)).unwrap();
        std::fs::write(scratch.join(dir).join(name), text).unwrap();
    }

    #[test]
    fn without_a_directory_the_registry_itself_serves() {
        let scratch = Scratch::new("hosts");
        assert_eq!(
            of(&scratch, "nginx").unwrap(),
            ["https://registry-1.docker.io/v2/a/b/manifests/1 resolve+pull"]
        );
        assert_eq!(
            of(&scratch, "127.0.0.1:5000/x").unwrap(),
            ["http://127.0.0.1:5000/v2/a/b/manifests/1 resolve+pull"]
        );
        assert_eq!(
            of(&scratch, "localhost:443/x").unwrap(),
            ["https://localhost:443/v2/a/b/manifests/1 resolve+pull"]
        );
    }

    #[test]
    fn mirrors_come_first_and_in_the_order_of_the_file() {
        let scratch = Scratch::new("hosts");
        let text = r#"
            server = "https://docker.io"
            [host."https://zeta.example"]
              capabilities = ["pull"]
            [host."http://alpha.example:5000/mirror"]
              capabilities = ["pull", "resolve"]
            [host."https://whole.example/custom"]
              override_path = true
        "#;
        write(&scratch, "docker.io", "hosts.toml", text);
        assert_eq!(
            of(&scratch, "nginx").unwrap(),
            [
                "https://zeta.example/v2/a/b/manifests/1?ns=docker.io pull",
                "http://alpha.example:5000/mirror/v2/a/b/manifests/1?ns=docker.io resolve+pull",
                "https://whole.example/custom/a/b/manifests/1?ns=docker.io resolve+pull",
                "https://registry-1.docker.io/v2/a/b/manifests/1 resolve+pull",
            ]
        );
    }

    #[test]
    fn the_default_serves_what_has_no_directory_and_ports_have_two_names() {
        let scratch = Scratch::new("hosts");
        write(
            &scratch,
            "_default",
            "hosts.toml",
            "[host.\"https://all.example\"]\n",
        );
        write(
            &scratch,
            "reg.example_5000_",
            "hosts.toml",
            "server = \"reg.inner\"\n",
        );
        assert_eq!(
            of(&scratch, "reg.example:5000/x").unwrap(),
            ["https://reg.inner/v2/a/b/manifests/1?ns=reg.example:5000 resolve+pull"]
        );
        assert_eq!(
            of(&scratch, "other.example/x").unwrap(),
            [
                "https://all.example/v2/a/b/manifests/1?ns=other.example resolve+pull",
                "https://other.example/v2/a/b/manifests/1 resolve+pull",
            ]
        );
    }

    #[test]
    fn certificates_and_headers_are_taken_from_both_layouts() {
        let scratch = Scratch::new("hosts");
        let text = r#"
            [host."https://m.example"]
              ca = "ca.pem"
              client = [["c.pem", "k.pem"], ["both.pem", ""]]
              skip_verify = true
              dial_timeout = "5s"
              [host."https://m.example".header]
                x-one = "1"
                x-two = ["2", "3"]
        "#;
        write(&scratch, "a.example", "hosts.toml", text);
        for name in ["ca.crt", "client.cert", "client.key"] {
            write(&scratch, "b.example", name, "");
        }
        let registries = Registries {
            certs_dir: Some(scratch.path().to_owned()),
            ..Registries::default()
        };
        let of = |reference: &str| endpoints(&registries, &Reference::parse(reference).unwrap()).unwrap();
        let first = of("a.example/x").remove(0);
        let dir = scratch.join("a.example");
        let expected = TlsFiles {
            ca: vec![dir.join("ca.pem")],
            client: vec![
                (dir.join("c.pem"), Some(dir.join("k.pem"))),
                (dir.join("both.pem"), None),
            ],
            skip_verify: true,
        };
        assert_eq!(
            (first.tls, first.dial_timeout),
            (expected, Some(std::time::Duration::from_secs(5)))
        );
        let mut headers: Vec<_> = first
            .headers
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
            .collect();
        headers.sort();
        assert_eq!(headers, ["x-one=1", "x-two=2", "x-two=3"]);
        let dir = scratch.join("b.example");
        let expected = TlsFiles {
            ca: vec![dir.join("ca.crt")],
            client: vec![(dir.join("client.cert"), Some(dir.join("client.key")))],
            skip_verify: false,
        };
        assert_eq!(of("b.example/x")[0].tls, expected);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let scratch = Scratch::new("hosts");
        for text in [
            "server = 1",
            "server = \"https://\"",
            "[host.\"ftp://x\"]",
            "host = 3",
            "[host.\"x\"]\ncapabilities = [\"fly\"]",
            "[host.\"x\"]\nskip_verify = \"yes\"",
            "[host.\"x\"]\ndial_timeout = \"soon\"",
            "[host.\"x\"]\nclient = [[\"a\", \"b\", \"c\"]]",
            "[host.\"x\".header]\n\"bad name\" = \"x\"",
            "[host.\"https://user:secret@x\"]",
            "[[",
        ] {
            write(&scratch, "x.example", "hosts.toml", text);
            assert!(of(&scratch, "x.example/y").is_err(), "{text} was taken");
        }
    }
}
