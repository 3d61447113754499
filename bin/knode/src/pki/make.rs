//! Making what is missing.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;
use knode_pki::kubeconfig::{Access, Kubeconfig, Material};
use knode_pki::{
    ApiServerSans, CertificateAuthority, Identity, PrivateKey, Profile, Subject, SubjectAltNames, Usage,
    files,
};

use super::cli::{ClusterArgs, InitArgs, IssueArgs, KubeconfigArgs, LayoutName, TokenCsvArgs, Use, apart};
use super::places::{self, Authority, Entry, Names, Pair, Places, Who};
use super::tokens;
use crate::dual::Family;
use crate::preflight;

/// What `init` did, for the person.
pub struct Done(Vec<String>);

impl Done {
    fn made(&mut self, path: &Path) {
        self.0.push(format!("made  {}", path.display()));
    }

    fn kept(&mut self, path: &Path) {
        self.0.push(format!("kept  {}", path.display()));
    }
}

/// One run of `knode pki init`.
struct Init<'a> {
    args: &'a InitArgs,
    places: Places,
    server: String,
    now: Timestamp,
    done: Done,
}

/// Makes everything of a layout that is not there.
pub fn init(args: &InitArgs, now: Timestamp) -> anyhow::Result<Vec<String>> {
    let (names, first) = names(&args.cluster)?;
    let dir = std::path::absolute(&args.place.dir)?;
    let layout = args.place.layout.unwrap_or_else(|| places::detect(&dir));
    let places = places::places(layout, &dir, &names);
    let server = match &args.cluster.server {
        Some(url) => url.clone(),
        None => format!("https://{}", std::net::SocketAddr::new(first, 6443)),
    };
    let mut init = Init {
        args,
        places,
        server,
        now,
        done: Done(Vec::new()),
    };
    init.run(layout)?;
    Ok(init.done.0)
}

impl Init<'_> {
    fn run(&mut self, layout: LayoutName) -> anyhow::Result<()> {
        let mut authorities = Vec::new();
        for authority in self.places.authorities.clone() {
            authorities.push((authority.name, self.authority(&authority)?));
        }
        let of = |name: &str| {
            let found = authorities.iter().find(|(known, _)| *known == name);
            found
                .map(|(_, authority)| authority)
                .context("the layout names no such authority")
        };
        for pair in self.places.pairs.clone() {
            self.pair(of(pair.authority)?, &pair)?;
        }
        if let Some((private, public)) = self.places.service_account.clone() {
            self.service_account(&private, &public)?;
        }
        let token = self.token()?;
        let first = &authorities.first().context("the layout has no authority")?.1;
        for entry in self.places.kubeconfigs.clone() {
            self.kubeconfig(first, &entry, &token)?;
        }
        tracing::debug!(?layout, "certificates are there");
        Ok(())
    }

    /// Whether a file is to be made; what is there is kept unless told otherwise.
    fn wanted(&mut self, path: &Path) -> anyhow::Result<bool> {
        if path.exists() && !self.args.force {
            self.done.kept(path);
            return Ok(false);
        }
        if let Some(parent) = path.parent() {
            make_dir(parent)?;
        }
        self.done.made(path);
        Ok(true)
    }

    /// An authority is never made anew: everything hangs on it.
    fn authority(&mut self, authority: &Authority) -> anyhow::Result<CertificateAuthority> {
        let there = authority.files.cert.exists();
        if let Some(parent) = authority.files.cert.parent() {
            make_dir(parent)?;
        }
        let found = CertificateAuthority::load_or_create_files(
            &authority.files,
            authority.common_name,
            self.args.ca_validity,
            self.now,
        )?;
        if self.now >= found.certificate().not_after {
            return Err(knode_pki::Error::CaExpired {
                cert: authority.files.cert.clone(),
                end: found.certificate().not_after,
            }
            .into());
        }
        for path in [&authority.files.cert, &authority.files.key] {
            if there {
                self.done.kept(path);
            } else {
                self.done.made(path);
            }
        }
        Ok(found)
    }

    fn pair(&mut self, authority: &CertificateAuthority, pair: &Pair) -> anyhow::Result<()> {
        if pair.key.exists() {
            // Refused before anything is done with it.
            files::read_private(&pair.key)?;
        }
        if !self.wanted(&pair.cert)? {
            return Ok(());
        }
        let profile = Profile {
            subject: pair.subject.clone(),
            names: pair.names.clone(),
            usages: pair.usages.clone(),
            lifetime: self.args.validity,
        };
        write_pair(&authority.issue(&profile, self.now)?, &pair.cert, &pair.key)
    }

    fn service_account(&mut self, private: &Path, public: &Path) -> anyhow::Result<()> {
        // The key of tokens stays even with --force: every pod's token hangs on it.
        if private.exists() {
            self.done.kept(private);
        } else {
            let key = PrivateKey::generate();
            files::write_atomic(private, key.to_pem()?.as_bytes(), files::PRIVATE)?;
            self.done.made(private);
        }
        if self.wanted(public)? {
            let key = PrivateKey::from_pem(&files::read_private(private)?)?;
            files::write_atomic(public, key.public_key_pem()?.as_bytes(), files::PUBLIC)?;
        }
        Ok(())
    }

    /// The bootstrap user's token: that of the file if there is one.
    fn token(&mut self) -> anyhow::Result<String> {
        let path = self.places.token_csv.clone();
        let user = tokens::BOOTSTRAP_USER;
        if path.exists() {
            self.done.kept(&path);
            return tokens::of_user(&path, user);
        }
        let token = tokens::generate();
        let line = tokens::line(
            &token,
            user,
            tokens::BOOTSTRAP_UID,
            &[tokens::BOOTSTRAP_GROUP.to_owned()],
        );
        files::write_new(&path, line.as_bytes(), files::PRIVATE, false)?;
        self.done.made(&path);
        Ok(token)
    }

    fn kubeconfig(&mut self, ca: &CertificateAuthority, entry: &Entry, token: &str) -> anyhow::Result<()> {
        if !self.wanted(&entry.file)? {
            return Ok(());
        }
        let access = match &entry.who {
            Who::Token => with_token(&self.server, ca, token),
            Who::Certificate(subject) => {
                let profile = Profile::client(subject.clone(), self.args.validity);
                with_certificate(&self.server, ca, ca.issue(&profile, self.now)?)
            }
        };
        Ok(Kubeconfig::for_access(&access).write(&entry.file)?)
    }
}

/// The names of servers, and the first address among them.
fn names(cluster: &ClusterArgs) -> anyhow::Result<(Names, IpAddr)> {
    let (mut dns, mut ips) = apart(&cluster.names);
    let host = preflight::node_name(None)?;
    if cluster.names.is_empty() {
        dns.push(host.clone());
        ips.extend(preflight::node_ips(None, &[Family::V4])?.iter());
    }
    let first = *ips
        .first()
        .context("give an address of the API server by --name")?;
    let service_ip = knode_apiserver::kubernetes_address(cluster.service_cidr)
        .context("the service range holds no address")?;
    let api = ApiServerSans {
        service_ip,
        node_ips: ips.clone(),
        dns: dns.clone(),
        cluster_domain: cluster.cluster_domain.clone(),
    };
    let local = [IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()];
    dns.push("localhost".to_owned());
    ips.extend(local);
    let machine = SubjectAltNames::new(dns, ips);
    Ok((
        Names {
            api: api.names(),
            machine,
            host,
        },
        first,
    ))
}

/// Issues one certificate.
pub fn issue(args: &IssueArgs, now: Timestamp) -> anyhow::Result<Vec<String>> {
    let ca = authority(args.ca.as_deref(), args.place.layout, &args.place.dir)?;
    let key = key_file(&args.out);
    for path in [&args.out, &key] {
        anyhow::ensure!(
            args.force || !path.exists(),
            knode_pki::Error::Exists { path: path.clone() }
        );
    }
    let (dns, ips) = apart(&args.names);
    let mut usages = vec![Usage::DigitalSignature, Usage::KeyEncipherment];
    if args.usage != Use::Client {
        usages.push(Usage::ServerAuth);
    }
    if args.usage != Use::Server {
        usages.push(Usage::ClientAuth);
    }
    let groups: Vec<&str> = args.group.iter().map(String::as_str).collect();
    let profile = Profile {
        subject: Subject::new(args.common_name.clone(), &groups),
        names: SubjectAltNames::new(dns, ips),
        usages,
        lifetime: args.validity,
    };
    write_pair(&issue_within(&ca, &profile, now)?, &args.out, &key)?;
    Ok([&args.out, &key]
        .map(|p| format!("made  {}", p.display()))
        .to_vec())
}

/// Writes one kubeconfig.
pub fn kubeconfig(args: &KubeconfigArgs, now: Timestamp) -> anyhow::Result<Vec<String>> {
    let ca = authority(None, args.place.layout, &args.place.dir)?;
    let access = match &args.token_csv {
        Some(file) => with_token(&args.server, &ca, &tokens::of_user(file, &args.user)?),
        None => {
            let groups: Vec<&str> = args.group.iter().map(String::as_str).collect();
            let profile = Profile::client(Subject::new(args.user.clone(), &groups), args.validity);
            with_certificate(&args.server, &ca, issue_within(&ca, &profile, now)?)
        }
    };
    let text = Kubeconfig::for_access(&access).to_yaml()?;
    files::write_new(&args.out, text.as_bytes(), files::PRIVATE, args.force)?;
    Ok(vec![format!("made  {}", args.out.display())])
}

/// Writes a token file.
pub fn token_csv(args: &TokenCsvArgs) -> anyhow::Result<Vec<String>> {
    let line = tokens::line(&tokens::generate(), &args.user, &args.uid, &args.group);
    let text = if args.append && args.out.exists() {
        let mut text = files::read(&args.out)?;
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text + &line
    } else {
        line
    };
    files::write_new(
        &args.out,
        text.as_bytes(),
        files::PRIVATE,
        args.force || args.append,
    )?;
    Ok(vec![format!("made  {}", args.out.display())])
}

/// The authority that was named, or that of the directory.
pub fn authority(
    named: Option<&Path>,
    layout: Option<LayoutName>,
    dir: &Path,
) -> anyhow::Result<CertificateAuthority> {
    let place = match named {
        Some(cert) => {
            let mut place = places::authority_files(None, cert.parent().unwrap_or(Path::new(".")));
            place.key = key_file(cert);
            place.cert = cert.to_owned();
            place
        }
        None => places::authority_files(layout, dir),
    };
    CertificateAuthority::load_files(&place).with_context(|| {
        format!(
            "use the authority {} (`knode pki init` makes one)",
            place.cert.display()
        )
    })
}

/// Issues, unless the authority has ended.
fn issue_within(ca: &CertificateAuthority, profile: &Profile, now: Timestamp) -> anyhow::Result<Identity> {
    let end = ca.certificate().not_after;
    anyhow::ensure!(
        now < end,
        "the authority ended at {end}; renew it by `knode pki renew ca`"
    );
    Ok(ca.issue(profile, now)?)
}

/// Where the key of a certificate lies: `X-key.pem` for `X.pem`, `X.key` for others.
pub fn key_file(cert: &Path) -> PathBuf {
    match cert.extension().is_some_and(|ending| ending == "pem") {
        true => {
            let stem = cert.file_stem().unwrap_or_default().to_string_lossy();
            cert.with_file_name(format!("{stem}-key.pem"))
        }
        false => cert.with_extension("key"),
    }
}

/// Key first: a certificate is never there without its key.
pub fn write_pair(identity: &Identity, cert: &Path, key: &Path) -> anyhow::Result<()> {
    files::write_atomic(key, identity.key_pem.as_bytes(), files::PRIVATE)?;
    Ok(files::write_atomic(
        cert,
        identity.cert_pem.as_bytes(),
        files::PUBLIC,
    )?)
}

fn make_dir(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))
}

fn with_token(server: &str, ca: &CertificateAuthority, token: &str) -> Access {
    Access {
        server: server.to_owned(),
        ca: Some(Material::Data(ca.cert_pem().to_owned())),
        token: Some(Material::Data(token.to_owned())),
        ..Access::default()
    }
}

fn with_certificate(server: &str, ca: &CertificateAuthority, identity: Identity) -> Access {
    Access {
        server: server.to_owned(),
        ca: Some(Material::Data(ca.cert_pem().to_owned())),
        client_cert: Some(Material::Data(identity.cert_pem)),
        client_key: Some(Material::Data(identity.key_pem)),
        ..Access::default()
    }
}
