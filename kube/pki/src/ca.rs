//! The certificate authority: made once, loaded at every start, signs identities and requests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use p256::ecdsa::DerSignature;
use sha2::{Digest, Sha256};
use x509_cert::Certificate as X509;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::certificate::TbsCertificate;
use x509_cert::der::asn1::{GeneralizedTime, OctetString};
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{Decode, EncodePem};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, BasicConstraints, SubjectKeyIdentifier};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};

use crate::certificate::{Certificate, SubjectAltNames, pem_certificates};
use crate::key::PrivateKey;
use crate::request::SigningRequest;
use crate::usage::{self, Usage};
use crate::{Error, Result, Subject, files};

/// The authority's certificate in its directory.
pub const CA_CERT_FILE: &str = "ca.pem";
/// The authority's key in its directory, mode 0600.
pub const CA_KEY_FILE: &str = "ca-key.pem";
/// What is sent along with the authority's certificates, once it has followed another one.
const CA_CHAIN_FILE: &str = "ca-chain.pem";

/// An authority lives ten years unless told otherwise.
pub const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Clocks of two machines differ: certificates begin a little in the past, as upstream's signer does it. One that
/// lives less than ten times as long begins a tenth of its life in the past: it would be due for renewal else.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// What a certificate shall say.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Whom it names.
    pub subject: Subject,
    /// Under which names a server is reached.
    pub names: SubjectAltNames,
    /// What it may be used for.
    pub usages: Vec<Usage>,
    /// How long it is valid; never beyond the authority's own end.
    pub lifetime: Duration,
}

impl Profile {
    /// A client's certificate.
    pub fn client(subject: Subject, lifetime: Duration) -> Self {
        let usages = vec![Usage::DigitalSignature, Usage::ClientAuth];
        Self {
            subject,
            names: SubjectAltNames::default(),
            usages,
            lifetime,
        }
    }

    /// A server's certificate.
    pub fn server(subject: Subject, names: SubjectAltNames, lifetime: Duration) -> Self {
        Self {
            subject,
            names,
            usages: vec![Usage::DigitalSignature, Usage::ServerAuth],
            lifetime,
        }
    }
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate (and what chain belongs to it), PEM.
    pub cert_pem: String,
    /// The private key, SEC1 PEM.
    pub key_pem: String,
}

/// Where an authority lies on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityFiles {
    /// Its certificate, and after it those that are still to be trusted.
    pub cert: PathBuf,
    /// Its key, mode 0600.
    pub key: PathBuf,
    /// Its certificate as the authority before it has signed it; absent if there was none.
    pub chain: PathBuf,
}

impl AuthorityFiles {
    /// `ca.pem` and `ca-key.pem` of a directory.
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            cert: dir.join(CA_CERT_FILE),
            key: dir.join(CA_KEY_FILE),
            chain: dir.join(CA_CHAIN_FILE),
        }
    }

    /// kubeadm's names: `ca.crt` and `ca.key`, or with another stem.
    pub fn crt(dir: &Path, stem: &str) -> Self {
        Self {
            cert: dir.join(format!("{stem}.crt")),
            key: dir.join(format!("{stem}.key")),
            chain: dir.join(format!("{stem}-chain.crt")),
        }
    }
}

/// A certificate authority that can sign.
#[derive(Clone, Debug)]
pub struct CertificateAuthority {
    name: Name,
    /// Its own certificate and those of its forerunners that have not ended.
    bundle_pem: String,
    /// Its own certificate, signed by its forerunner: who trusts only that one trusts what this one issues.
    chain_pem: String,
    certificate: Certificate,
    key: PrivateKey,
}

impl CertificateAuthority {
    /// Makes a self-signed authority in memory, valid for ten years.
    ///
    /// # Errors
    /// [`Error::Build`], [`Error::Asn1`], [`Error::Time`].
    pub fn create(common_name: &str, now: Timestamp) -> Result<Self> {
        Self::with_key(PrivateKey::generate(), common_name, CA_LIFETIME, now)
    }

    /// Makes a self-signed authority in memory.
    ///
    /// # Errors
    /// [`Error::Build`], [`Error::Asn1`], [`Error::Time`].
    pub fn create_for(common_name: &str, lifetime: Duration, now: Timestamp) -> Result<Self> {
        Self::with_key(PrivateKey::generate(), common_name, lifetime, now)
    }

    fn with_key(key: PrivateKey, common_name: &str, lifetime: Duration, now: Timestamp) -> Result<Self> {
        let subject = Subject::new(common_name, &[]);
        let name = subject.to_name().map_err(bad_certificate)?;
        let x509 = self_signed_ca(&key, &name, lifetime, now)?;
        Self::from_pem(&pem_of(&x509)?, &key.to_pem()?)
    }

    /// An authority out of PEM text: of several certificates the first that belongs to the key is its own, the
    /// others are trusted beside it.
    ///
    /// # Errors
    /// [`Error::Pem`], [`Error::PrivateKey`]; [`Error::KeyMismatch`] if they do not belong together.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self> {
        let key = PrivateKey::from_pem(key_pem)?;
        let public_key = key.public_key_der()?;
        for der in pem_certificates(cert_pem)? {
            let certificate = Certificate::from_der(&der)?;
            if certificate.public_key != public_key {
                continue;
            }
            let x509 = X509::from_der(&der).map_err(bad_certificate)?;
            return Ok(Self {
                name: x509.tbs_certificate().subject().clone(),
                bundle_pem: cert_pem.to_owned(),
                chain_pem: String::new(),
                certificate,
                key,
            });
        }
        Err(Error::KeyMismatch {
            cert: CA_CERT_FILE.into(),
            key: CA_KEY_FILE.into(),
        })
    }

    /// Loads the authority from `dir` (`ca.pem`, `ca-key.pem`).
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::WeakPermissions`], [`Error::KeyMismatch`], and those of the decoding.
    pub fn load(dir: &Path) -> Result<Self> {
        Self::load_files(&AuthorityFiles::in_dir(dir))
    }

    /// Loads the authority from these files.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::WeakPermissions`], [`Error::KeyMismatch`], and those of the decoding.
    pub fn load_files(files: &AuthorityFiles) -> Result<Self> {
        let key_pem = files::read_private(&files.key)?;
        let cert_pem = files::read(&files.cert)?;
        let mut authority = Self::from_pem(&cert_pem, &key_pem).map_err(|error| match error {
            Error::KeyMismatch { .. } => Error::KeyMismatch {
                cert: files.cert.clone(),
                key: files.key.clone(),
            },
            other => other,
        })?;
        authority.chain_pem = files::read_optional(&files.chain)?.unwrap_or_default();
        Ok(authority)
    }

    /// Loads the authority from `dir`, or makes it there for ten years.
    ///
    /// # Errors
    /// Those of [`load_or_create_files`](Self::load_or_create_files).
    pub fn load_or_create(dir: &Path, common_name: &str, now: Timestamp) -> Result<Self> {
        Self::load_or_create_files(&AuthorityFiles::in_dir(dir), common_name, CA_LIFETIME, now)
    }

    /// Loads the authority from these files, or makes it there. The key is written first, so that after an
    /// interruption the next call finishes the work with the same key.
    ///
    /// # Errors
    /// Those of [`load_files`](Self::load_files) and [`create`](Self::create); [`Error::MissingCaKey`] if only the
    /// certificate is there; [`Error::Write`].
    pub fn load_or_create_files(
        files: &AuthorityFiles,
        common_name: &str,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Self> {
        match (files.cert.exists(), files.key.exists()) {
            (true, true) => return Self::load_files(files),
            (true, false) => {
                return Err(Error::MissingCaKey {
                    cert: files.cert.clone(),
                    key: files.key.clone(),
                });
            }
            _ => {}
        }
        let key = if files.key.exists() {
            PrivateKey::from_pem(&files::read_private(&files.key)?)?
        } else {
            let key = PrivateKey::generate();
            files::write_atomic(&files.key, key.to_pem()?.as_bytes(), files::PRIVATE)?;
            key
        };
        let authority = Self::with_key(key, common_name, lifetime, now)?;
        files::write_atomic(&files.cert, authority.bundle_pem.as_bytes(), files::PUBLIC)?;
        Ok(authority)
    }

    /// The same authority with the same key and name, valid from now on. What it has issued stays good, and so do
    /// pins of its key.
    ///
    /// # Errors
    /// [`Error::Build`], [`Error::Asn1`], [`Error::Time`].
    pub fn renewed(&self, lifetime: Duration, now: Timestamp) -> Result<Self> {
        let own = self_signed_ca(&self.key, &self.name, lifetime, now)?;
        let mut renewed = Self::from_pem(&self.bundle_after(&own, now)?, &self.key.to_pem()?)?;
        renewed.chain_pem = still_valid(&self.chain_pem, now)?;
        Ok(renewed)
    }

    /// The authority that follows this one: the same name, another key. Both are trusted as long as this one has not
    /// ended, and what the new one issues carries its certificate signed by this one, so that it is accepted where
    /// only this one is known.
    ///
    /// # Errors
    /// [`Error::Build`], [`Error::Asn1`], [`Error::Time`].
    pub fn succeeded(&self, lifetime: Duration, now: Timestamp) -> Result<Self> {
        let key = PrivateKey::generate();
        let own = self_signed_ca(&key, &self.name, lifetime, now)?;
        let mut next = Self::from_pem(&self.bundle_after(&own, now)?, &key.to_pem()?)?;
        let validity = self.validity(lifetime, now);
        let crossed = sign(
            ca_extensions(&self.name),
            public_key_of(&key)?,
            validity,
            &self.key,
        )?;
        next.chain_pem = pem_of(&crossed)? + &still_valid(&self.chain_pem, now)?;
        Ok(next)
    }

    /// The same authority without its forerunners: what they have signed is no longer trusted.
    ///
    /// # Errors
    /// [`Error::Pem`], [`Error::Asn1`].
    pub fn alone(&self) -> Result<Self> {
        let own = X509::from_der(&self.certificate.der).map_err(bad_certificate)?;
        Self::from_pem(&pem_of(&own)?, &self.key.to_pem()?)
    }

    fn bundle_after(&self, own: &X509, now: Timestamp) -> Result<String> {
        Ok(pem_of(own)? + &still_valid(&self.bundle_pem, now)?)
    }

    /// Writes the authority over what is there. Certificates first: an interruption leaves the old key, which still
    /// finds its own certificate among them.
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::PrivateKey`].
    pub fn save(&self, files: &AuthorityFiles) -> Result<()> {
        match self.chain_pem.as_str() {
            "" => files::remove(&files.chain)?,
            chain => files::write_atomic(&files.chain, chain.as_bytes(), files::PUBLIC)?,
        }
        files::write_atomic(&files.cert, self.bundle_pem.as_bytes(), files::PUBLIC)?;
        files::write_atomic(&files.key, self.key.to_pem()?.as_bytes(), files::PRIVATE)
    }

    /// What is to be trusted, PEM: the authority's own certificate and those of its forerunners.
    pub fn cert_pem(&self) -> &str {
        &self.bundle_pem
    }

    /// The authority's certificate, read.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The pin of the authority's key: `sha256:<hex>`.
    pub fn public_key_hash(&self) -> String {
        self.certificate.public_key_hash()
    }

    /// Makes a key and a certificate for it.
    ///
    /// # Errors
    /// [`Error::Build`], [`Error::Asn1`], [`Error::Time`].
    pub fn issue(&self, profile: &Profile, now: Timestamp) -> Result<Identity> {
        let key = PrivateKey::generate();
        let extensions = Extensions {
            issuer: self.name.clone(),
            subject: profile.subject.to_name().map_err(bad_certificate)?,
            names: profile.names.clone(),
            usages: profile.usages.clone(),
            ca: false,
        };
        let x509 = sign(
            extensions,
            public_key_of(&key)?,
            self.validity(profile.lifetime, now),
            &self.key,
        )?;
        Ok(Identity {
            cert_pem: pem_of(&x509)? + &self.chain_pem,
            key_pem: key.to_pem()?,
        })
    }

    /// Signs a request: subject exactly as it stands there, its names, and these usages. PEM.
    ///
    /// Whether the requester may have this certificate has been decided before.
    ///
    /// # Errors
    /// [`Error::Build`], [`Error::Asn1`], [`Error::Time`].
    pub fn sign_request(
        &self,
        request: &SigningRequest,
        usages: &[Usage],
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<String> {
        let extensions = Extensions {
            issuer: self.name.clone(),
            subject: request.inner.info.subject.clone(),
            names: request.names.clone(),
            usages: usages.to_vec(),
            ca: false,
        };
        let public_key = request.inner.info.public_key.clone();
        pem_of(&sign(
            extensions,
            public_key,
            self.validity(lifetime, now),
            &self.key,
        )?)
    }

    /// Whether this authority signed the certificate.
    pub fn signed(&self, certificate: &Certificate) -> bool {
        certificate.signed_by(&self.certificate)
    }

    fn validity(&self, lifetime: Duration, now: Timestamp) -> (Timestamp, Timestamp) {
        let (begin, end) = validity(lifetime, now);
        (begin, end.min(self.certificate.not_after))
    }
}

impl Identity {
    /// A self-signed certificate: valid TLS, but nobody vouches for it.
    ///
    /// # Errors
    /// [`Error::Build`], [`Error::Asn1`], [`Error::Time`].
    pub fn self_signed(profile: &Profile, now: Timestamp) -> Result<Self> {
        let key = PrivateKey::generate();
        let name = profile.subject.to_name().map_err(bad_certificate)?;
        let extensions = Extensions {
            issuer: name.clone(),
            subject: name,
            names: profile.names.clone(),
            usages: profile.usages.clone(),
            ca: false,
        };
        let validity = validity(profile.lifetime, now);
        let x509 = sign(extensions, public_key_of(&key)?, validity, &key)?;
        Ok(Self {
            cert_pem: pem_of(&x509)?,
            key_pem: key.to_pem()?,
        })
    }
}

struct Extensions {
    issuer: Name,
    subject: Name,
    names: SubjectAltNames,
    usages: Vec<Usage>,
    ca: bool,
}

impl BuilderProfile for Extensions {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        key: SubjectPublicKeyInfoRef<'_>,
        issuer_key: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        let mut list: Vec<Extension> = Vec::new();
        if let Some(usage) = usage::key_usage(&self.usages) {
            list.push(usage.to_extension(tbs.subject(), &list)?);
        }
        if let Some(usage) = usage::extended_key_usage(&self.usages) {
            list.push(usage.to_extension(tbs.subject(), &list)?);
        }
        let constraints = BasicConstraints {
            ca: self.ca,
            path_len_constraint: None,
        };
        list.push((true, &constraints).to_extension(tbs.subject(), &list)?);
        if self.ca {
            let identifier = SubjectKeyIdentifier(key_identifier(&key)?);
            list.push(identifier.to_extension(tbs.subject(), &list)?);
        }
        if !self.ca || key.subject_public_key != issuer_key.subject_public_key {
            let identifier = AuthorityKeyIdentifier {
                key_identifier: Some(key_identifier(&issuer_key)?),
                ..AuthorityKeyIdentifier::default()
            };
            list.push(identifier.to_extension(tbs.subject(), &list)?);
        }
        if let Some(names) = self.names.to_extension_value()? {
            list.push((tbs.subject().is_empty(), &names).to_extension(tbs.subject(), &list)?);
        }
        Ok(list)
    }
}

fn ca_extensions(name: &Name) -> Extensions {
    let common_name = Subject::from_name(name).common_name;
    Extensions {
        issuer: name.clone(),
        subject: name.clone(),
        names: SubjectAltNames::new(vec![common_name], Vec::new()),
        usages: vec![Usage::DigitalSignature, Usage::KeyEncipherment, Usage::CertSign],
        ca: true,
    }
}

fn self_signed_ca(key: &PrivateKey, name: &Name, lifetime: Duration, now: Timestamp) -> Result<X509> {
    let (_, end) = validity(lifetime, now);
    sign(ca_extensions(name), public_key_of(key)?, (now, end), key)
}

/// Those of the certificates that have not ended, PEM.
fn still_valid(pem: &str, now: Timestamp) -> Result<String> {
    let mut kept = String::new();
    if pem.trim().is_empty() {
        return Ok(kept);
    }
    for der in pem_certificates(pem)? {
        if now < Certificate::from_der(&der)?.not_after {
            kept += &pem_of(&X509::from_der(&der).map_err(bad_certificate)?)?;
        }
    }
    Ok(kept)
}

/// Begin and end of a certificate's life.
fn validity(lifetime: Duration, now: Timestamp) -> (Timestamp, Timestamp) {
    let lifetime = SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::MAX);
    let begin = now.saturating_sub(BACKDATE.min(lifetime / 10)).unwrap_or(now);
    (begin, now.saturating_add(lifetime).unwrap_or(Timestamp::MAX))
}

/// RFC 7093, method 1: the leftmost 160 bits of SHA-256 of the key's bits.
fn key_identifier(key: &SubjectPublicKeyInfoRef<'_>) -> x509_cert::der::Result<OctetString> {
    OctetString::new(&Sha256::digest(key.subject_public_key.raw_bytes())[..20])
}

fn sign(
    profile: Extensions,
    public_key: SubjectPublicKeyInfoOwned,
    (begin, end): (Timestamp, Timestamp),
    key: &PrivateKey,
) -> Result<X509> {
    let build = |source| Error::Build {
        what: "certificate",
        source,
    };
    let serial = SerialNumber::generate(&mut rand::rng());
    let validity = Validity::new(time_of(begin)?, time_of(end)?);
    let builder = CertificateBuilder::new(profile, serial, validity, public_key).map_err(build)?;
    builder.build::<_, DerSignature>(key.signing_key()).map_err(build)
}

fn time_of(at: Timestamp) -> Result<Time> {
    let seconds = u64::try_from(at.as_second()).map_err(|_| Error::Time(at))?;
    let time = GeneralizedTime::from_unix_duration(Duration::from_secs(seconds));
    time.map(Time::GeneralTime).map_err(|_| Error::Time(at))
}

fn public_key_of(key: &PrivateKey) -> Result<SubjectPublicKeyInfoOwned> {
    SubjectPublicKeyInfoOwned::from_der(&key.public_key_der()?).map_err(bad_certificate)
}

fn pem_of(x509: &X509) -> Result<String> {
    x509.to_pem(LineEnding::LF).map_err(bad_certificate)
}

fn bad_certificate(source: x509_cert::der::Error) -> Error {
    Error::Asn1 {
        what: "certificate",
        source,
    }
}
