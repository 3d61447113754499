//! Reading certificates: who, until when, for what.

use std::net::IpAddr;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use x509_cert::Certificate as X509;
use x509_cert::der::asn1::{Ia5String, OctetString};
use x509_cert::der::{Decode, DecodePem, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::Time;

use crate::key::pem_block;
use crate::request::verify;
use crate::usage::{self, Usage};
use crate::{Error, Result, Subject};

/// The names under which a peer may be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectAltNames {
    /// DNS names, `*.` wildcards included.
    pub dns: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// Mail addresses.
    pub emails: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
}

impl SubjectAltNames {
    /// DNS names and addresses.
    pub fn new(dns: Vec<String>, ips: Vec<IpAddr>) -> Self {
        Self {
            dns,
            ips,
            ..Self::default()
        }
    }

    /// Whether there is no name at all.
    pub fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.ips.is_empty() && self.emails.is_empty() && self.uris.is_empty()
    }

    /// Whether every name of `other` is here too.
    pub fn covers(&self, other: &Self) -> bool {
        other.dns.iter().all(|name| self.dns.contains(name))
            && other.ips.iter().all(|ip| self.ips.contains(ip))
            && other.emails.iter().all(|email| self.emails.contains(email))
            && other.uris.iter().all(|uri| self.uris.contains(uri))
    }

    pub(crate) fn to_extension_value(&self) -> x509_cert::der::Result<Option<SubjectAltName>> {
        let mut names = Vec::new();
        for name in &self.dns {
            names.push(GeneralName::DnsName(Ia5String::new(name)?));
        }
        for email in &self.emails {
            names.push(GeneralName::Rfc822Name(Ia5String::new(email)?));
        }
        for ip in &self.ips {
            names.push(GeneralName::IpAddress(address_octets(*ip)?));
        }
        for uri in &self.uris {
            names.push(GeneralName::UniformResourceIdentifier(Ia5String::new(uri)?));
        }
        Ok((!names.is_empty()).then_some(SubjectAltName(names)))
    }

    pub(crate) fn from_extension_value(names: &SubjectAltName) -> Self {
        let mut found = Self::default();
        for name in &names.0 {
            match name {
                GeneralName::DnsName(text) => found.dns.push(text.to_string()),
                GeneralName::Rfc822Name(text) => found.emails.push(text.to_string()),
                GeneralName::UniformResourceIdentifier(text) => found.uris.push(text.to_string()),
                GeneralName::IpAddress(octets) => found.ips.extend(address_from(octets.as_bytes())),
                _ => {}
            }
        }
        found
    }
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whom it names.
    pub subject: Subject,
    /// Who signed it.
    pub issuer: Subject,
    /// Valid from.
    pub not_before: Timestamp,
    /// Valid until.
    pub not_after: Timestamp,
    /// Names of a server.
    pub names: SubjectAltNames,
    /// What it may be used for.
    pub usages: Vec<Usage>,
    /// Whether it may sign certificates.
    pub is_ca: bool,
    /// The public key, SubjectPublicKeyInfo DER.
    pub public_key: Vec<u8>,
    /// The certificate itself.
    pub der: Vec<u8>,
}

impl Certificate {
    /// Reads a DER certificate.
    ///
    /// # Errors
    /// [`Error::Asn1`].
    pub fn from_der(der: &[u8]) -> Result<Self> {
        let decoded = X509::from_der(der).map_err(|source| Error::Asn1 {
            what: "certificate",
            source,
        })?;
        Self::from_x509(&decoded, der.to_vec())
    }

    /// Reads the first certificate in PEM text.
    ///
    /// # Errors
    /// [`Error::Pem`], [`Error::Asn1`].
    pub fn from_pem(text: &str) -> Result<Self> {
        let x509 = first_x509(text)?;
        let der = x509.to_der().map_err(|source| Error::Asn1 {
            what: "certificate",
            source,
        })?;
        Self::from_x509(&x509, der)
    }

    fn from_x509(x509: &X509, der: Vec<u8>) -> Result<Self> {
        let asn1 = |source| Error::Asn1 {
            what: "certificate",
            source,
        };
        let tbs = x509.tbs_certificate();
        let names = tbs.get_extension::<SubjectAltName>().map_err(asn1)?;
        let bits = tbs.get_extension::<KeyUsage>().map_err(asn1)?;
        let extended = tbs.get_extension::<ExtendedKeyUsage>().map_err(asn1)?;
        let constraints = tbs.get_extension::<BasicConstraints>().map_err(asn1)?;
        Ok(Self {
            subject: Subject::from_name(tbs.subject()),
            issuer: Subject::from_name(tbs.issuer()),
            not_before: timestamp(&tbs.validity().not_before),
            not_after: timestamp(&tbs.validity().not_after),
            names: names
                .map(|(_, names)| SubjectAltNames::from_extension_value(&names))
                .unwrap_or_default(),
            usages: usage::from_extensions(bits.map(|(_, b)| b), extended.map(|(_, e)| e)),
            is_ca: constraints.is_some_and(|(_, constraints)| constraints.ca),
            public_key: tbs.subject_public_key_info().to_der().map_err(asn1)?,
            der,
        })
    }

    /// Whether `now` lies in the time of validity.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// Whether the holder of this certificate's authority signed it.
    pub fn signed_by(&self, authority: &Self) -> bool {
        let Ok(x509) = X509::from_der(&self.der) else {
            return false;
        };
        let (Ok(message), Ok(key)) = (
            x509.tbs_certificate().to_der(),
            SubjectPublicKeyInfoOwned::from_der(&authority.public_key),
        ) else {
            return false;
        };
        let signature = x509.signature().raw_bytes();
        verify(x509.signature_algorithm(), &key, &message, signature).is_ok()
    }

    /// The pin of the public key as `kubeadm join --discovery-token-ca-cert-hash` has it: `sha256:<hex>`.
    pub fn public_key_hash(&self) -> String {
        hash_of(&self.public_key)
    }
}

/// User and groups of a client certificate: the common name and the organizations in their order.
///
/// # Errors
/// [`Error::Asn1`].
pub fn identity_from_der(der: &[u8]) -> Result<(String, Vec<String>)> {
    let certificate = X509::from_der(der).map_err(|source| Error::Asn1 {
        what: "certificate",
        source,
    })?;
    let subject = Subject::from_name(certificate.tbs_certificate().subject());
    Ok((subject.common_name, subject.organizations))
}

/// All certificates in PEM text, as DER, in order.
///
/// # Errors
/// [`Error::Pem`] if there is none or one is broken.
pub fn pem_certificates(text: &str) -> Result<Vec<Vec<u8>>> {
    let mut rest = text;
    let mut found = Vec::new();
    while let Some(block) = pem_block(rest, CERTIFICATE) {
        let x509 = X509::from_pem(block).map_err(bad_pem)?;
        found.push(x509.to_der().map_err(bad_pem)?);
        let offset = block.as_ptr() as usize - rest.as_ptr() as usize + block.len();
        rest = &rest[offset..];
    }
    if found.is_empty() {
        return Err(Error::Pem {
            what: "certificate",
            source: None,
        });
    }
    Ok(found)
}

/// `sha256:<hex>` of the public key of the first certificate in PEM text.
///
/// # Errors
/// [`Error::Pem`], [`Error::Asn1`].
pub fn public_key_hash(ca_pem: &str) -> Result<String> {
    Ok(Certificate::from_pem(ca_pem)?.public_key_hash())
}

/// Splits a file that holds certificate and key together (kubelet's `*-current.pem`) into both.
///
/// # Errors
/// [`Error::Pem`] if there is no certificate, [`Error::PrivateKey`] if there is no key.
pub fn split_identity_pem(text: &str) -> Result<(String, String)> {
    let start = text.find("-----BEGIN CERTIFICATE-----");
    let end = text
        .rfind("-----END CERTIFICATE-----")
        .map(|at| at + "-----END CERTIFICATE-----".len());
    let (Some(start), Some(end)) = (start, end) else {
        return Err(Error::Pem {
            what: "certificate",
            source: None,
        });
    };
    let key = ["EC PRIVATE KEY", "PRIVATE KEY", "RSA PRIVATE KEY"]
        .iter()
        .find_map(|label| pem_block(text, label))
        .ok_or(Error::PrivateKey)?;
    Ok((format!("{}\n", &text[start..end]), format!("{key}\n")))
}

pub(crate) const CERTIFICATE: &str = "CERTIFICATE";

pub(crate) fn first_x509(text: &str) -> Result<X509> {
    let block = pem_block(text, CERTIFICATE).ok_or(Error::Pem {
        what: "certificate",
        source: None,
    })?;
    X509::from_pem(block).map_err(bad_pem)
}

pub(crate) fn bad_pem(source: x509_cert::der::Error) -> Error {
    Error::Pem {
        what: "certificate",
        source: Some(source),
    }
}

pub(crate) fn hash_of(public_key: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(public_key)))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn timestamp(time: &Time) -> Timestamp {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

fn address_octets(ip: IpAddr) -> x509_cert::der::Result<OctetString> {
    match ip {
        IpAddr::V4(ip) => OctetString::new(&ip.octets()[..]),
        IpAddr::V6(ip) => OctetString::new(&ip.octets()[..]),
    }
}

fn address_from(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(octets) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}
