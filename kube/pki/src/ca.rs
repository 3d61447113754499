//! The certificate authority: made once, loaded at every start, signs identities and requests.

use std::path::Path;
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
use x509_cert::der::{Decode, Encode, EncodePem};
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, BasicConstraints, SubjectKeyIdentifier};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};

use crate::certificate::{Certificate, SubjectAltNames, first_x509};
use crate::key::PrivateKey;
use crate::request::SigningRequest;
use crate::usage::{self, Usage};
use crate::{Error, Result, Subject, files};

/// The authority's certificate in its directory.
pub const CA_CERT_FILE: &str = "ca.pem";
/// The authority's key in its directory, mode 0600.
pub const CA_KEY_FILE: &str = "ca-key.pem";

const CA_LIFETIME: SignedDuration = SignedDuration::from_hours(24 * 365 * 10);
/// Clocks of two machines differ: certificates begin a little in the past, as upstream's signer does it.
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

/// A certificate authority that can sign.
#[derive(Clone, Debug)]
pub struct CertificateAuthority {
    name: Name,
    cert_pem: String,
    certificate: Certificate,
    key: PrivateKey,
}

impl CertificateAuthority {
    /// Makes a self-signed authority in memory, valid for ten years.
    ///
    /// # Errors
    /// [`Error::Build`], [`Error::Asn1`], [`Error::Time`].
    pub fn create(common_name: &str, now: Timestamp) -> Result<Self> {
        Self::with_key(PrivateKey::generate(), common_name, now)
    }

    fn with_key(key: PrivateKey, common_name: &str, now: Timestamp) -> Result<Self> {
        let subject = Subject::new(common_name, &[]);
        let name = subject.to_name().map_err(bad_certificate)?;
        let profile = Extensions {
            issuer: name.clone(),
            subject: name,
            names: SubjectAltNames::new(vec![common_name.to_owned()], Vec::new()),
            usages: vec![Usage::DigitalSignature, Usage::KeyEncipherment, Usage::CertSign],
            ca: true,
        };
        let public_key = public_key_of(&key)?;
        let end = now.saturating_add(CA_LIFETIME).unwrap_or(Timestamp::MAX);
        let x509 = sign(profile, public_key, (now, end), &key)?;
        Self::from_pem(&pem_of(&x509)?, &key.to_pem()?)
    }

    /// An authority out of PEM text.
    ///
    /// # Errors
    /// [`Error::Pem`], [`Error::PrivateKey`]; [`Error::KeyMismatch`] if they do not belong together.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self> {
        let x509 = first_x509(cert_pem)?;
        let certificate = Certificate::from_pem(cert_pem)?;
        let key = PrivateKey::from_pem(key_pem)?;
        if key.public_key_der()? != certificate.public_key {
            return Err(Error::KeyMismatch {
                cert: CA_CERT_FILE.into(),
                key: CA_KEY_FILE.into(),
            });
        }
        let name = x509.tbs_certificate().subject().clone();
        Ok(Self {
            name,
            cert_pem: cert_pem.to_owned(),
            certificate,
            key,
        })
    }

    /// Loads the authority from `dir` (`ca.pem`, `ca-key.pem`).
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::WeakPermissions`], [`Error::KeyMismatch`], and those of the decoding.
    pub fn load(dir: &Path) -> Result<Self> {
        let (cert, key) = (dir.join(CA_CERT_FILE), dir.join(CA_KEY_FILE));
        let key_pem = files::read_private(&key)?;
        let cert_pem = files::read(&cert)?;
        Self::from_pem(&cert_pem, &key_pem).map_err(|error| match error {
            Error::KeyMismatch { .. } => Error::KeyMismatch { cert, key },
            other => other,
        })
    }

    /// Loads the authority from `dir`, or makes it there. The key is written first, so that after an interruption
    /// the next call finishes the work with the same key.
    ///
    /// # Errors
    /// Those of [`load`](Self::load) and [`create`](Self::create); [`Error::MissingCaKey`] if only the certificate
    /// is there; [`Error::Write`].
    pub fn load_or_create(dir: &Path, common_name: &str, now: Timestamp) -> Result<Self> {
        let (cert, key_path) = (dir.join(CA_CERT_FILE), dir.join(CA_KEY_FILE));
        match (cert.exists(), key_path.exists()) {
            (true, true) => return Self::load(dir),
            (true, false) => return Err(Error::MissingCaKey { cert, key: key_path }),
            _ => {}
        }
        let key = if key_path.exists() {
            PrivateKey::from_pem(&files::read_private(&key_path)?)?
        } else {
            let key = PrivateKey::generate();
            files::write_atomic(&key_path, key.to_pem()?.as_bytes(), files::PRIVATE)?;
            key
        };
        let authority = Self::with_key(key, common_name, now)?;
        files::write_atomic(&cert, authority.cert_pem.as_bytes(), files::PUBLIC)?;
        Ok(authority)
    }

    /// The authority's certificate, PEM.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
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
            cert_pem: pem_of(&x509)?,
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
        let Ok(x509) = X509::from_der(&certificate.der) else {
            return false;
        };
        let Ok(message) = x509.tbs_certificate().to_der() else {
            return false;
        };
        let point = self.key.public_point();
        ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_ASN1, point)
            .verify(&message, x509.signature().raw_bytes())
            .is_ok()
    }

    fn validity(&self, lifetime: Duration, now: Timestamp) -> (Timestamp, Timestamp) {
        let lifetime = SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::MAX);
        let end = now.saturating_add(lifetime).unwrap_or(Timestamp::MAX);
        let begin = now.saturating_sub(BACKDATE).unwrap_or(now);
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
        let lifetime = SignedDuration::try_from(profile.lifetime).unwrap_or(SignedDuration::MAX);
        let begin = now.saturating_sub(BACKDATE).unwrap_or(now);
        let end = now.saturating_add(lifetime).unwrap_or(Timestamp::MAX);
        let x509 = sign(extensions, public_key_of(&key)?, (begin, end), &key)?;
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
        } else {
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
