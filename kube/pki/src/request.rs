//! Certificate signing requests (PKCS#10).

use p256::ecdsa::DerSignature;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use x509_cert::builder::Builder;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{Decode, DecodePem, Encode, EncodePem};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::request::{CertReq, ExtensionReq, RequestBuilder};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::certificate::SubjectAltNames;
use crate::key::{PrivateKey, pem_block};
use crate::usage::{self, Usage};
use crate::{Error, Result, Subject};

/// A parsed signing request whose signature has been verified.
#[derive(Clone, Debug)]
pub struct SigningRequest {
    /// Whom it asks a certificate for.
    pub subject: Subject,
    /// The names it asks for.
    pub names: SubjectAltNames,
    /// The usages stated inside the request (those of the API object are apart).
    pub usages: Vec<Usage>,
    pub(crate) inner: CertReq,
}

impl SigningRequest {
    /// Makes a PEM request for `subject` and `names`, signed by `key`.
    ///
    /// # Errors
    /// [`Error::Build`], [`Error::Asn1`].
    pub fn create(key: &PrivateKey, subject: &Subject, names: &SubjectAltNames) -> Result<String> {
        let asn1 = |source| Error::Asn1 {
            what: "certificate request",
            source,
        };
        let build = |source| Error::Build {
            what: "certificate request",
            source,
        };
        let name = subject.to_name().map_err(asn1)?;
        let mut builder = RequestBuilder::new(name).map_err(build)?;
        if let Some(names) = names.to_extension_value().map_err(asn1)? {
            builder.add_extension(&names).map_err(asn1)?;
        }
        let request = builder
            .build::<_, DerSignature>(key.signing_key())
            .map_err(build)?;
        request.to_pem(LineEnding::LF).map_err(asn1)
    }

    /// Parses a PEM request and verifies that it is signed by its own key.
    ///
    /// # Errors
    /// [`Error::Pem`], [`Error::Asn1`], [`Error::RequestSignature`], [`Error::UnsupportedAlgorithm`].
    pub fn parse(pem: &str) -> Result<Self> {
        let what = "certificate request";
        let block = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"]
            .iter()
            .find_map(|label| pem_block(pem, label))
            .ok_or(Error::Pem { what, source: None })?
            .replace("NEW CERTIFICATE", "CERTIFICATE");
        let inner = CertReq::from_pem(&block).map_err(|source| Error::Pem {
            what,
            source: Some(source),
        })?;
        verify_own(&inner)?;
        let extensions = requested_extensions(&inner)?;
        let names = decode::<SubjectAltName>(&extensions)?;
        let bits = decode::<KeyUsage>(&extensions)?;
        let extended = decode::<ExtendedKeyUsage>(&extensions)?;
        Ok(Self {
            subject: Subject::from_name(&inner.info.subject),
            names: names
                .as_ref()
                .map(SubjectAltNames::from_extension_value)
                .unwrap_or_default(),
            usages: usage::from_extensions(bits, extended),
            inner,
        })
    }

    /// The public key, SubjectPublicKeyInfo DER.
    ///
    /// # Errors
    /// [`Error::Asn1`].
    pub fn public_key(&self) -> Result<Vec<u8>> {
        let encoded = self.inner.info.public_key.to_der();
        encoded.map_err(|source| Error::Asn1 {
            what: "certificate request",
            source,
        })
    }
}

fn requested_extensions(request: &CertReq) -> Result<Vec<Extension>> {
    let asn1 = |source| Error::Asn1 {
        what: "certificate request attributes",
        source,
    };
    let mut found = Vec::new();
    for attribute in request.info.attributes.iter() {
        if attribute.oid != <ExtensionReq as x509_cert::der::oid::AssociatedOid>::OID {
            continue;
        }
        for value in attribute.values.iter() {
            let encoded = value.to_der().map_err(asn1)?;
            found.extend(Vec::<Extension>::from_der(&encoded).map_err(asn1)?);
        }
    }
    Ok(found)
}

fn decode<T>(extensions: &[Extension]) -> Result<Option<T>>
where
    T: x509_cert::der::oid::AssociatedOid + for<'a> Decode<'a, Error = x509_cert::der::Error>,
{
    let extension = extensions.iter().find(|extension| extension.extn_id == T::OID);
    extension
        .map(|extension| T::from_der(extension.extn_value.as_bytes()))
        .transpose()
        .map_err(|source| Error::Asn1 {
            what: "certificate request extensions",
            source,
        })
}

fn verify_own(request: &CertReq) -> Result<()> {
    let message = request.info.to_der().map_err(|source| Error::Asn1 {
        what: "certificate request",
        source,
    })?;
    let signature = request.signature.raw_bytes();
    verify(&request.algorithm, &request.info.public_key, &message, signature)
}

/// Whether `signature` is that of the key's owner over `message`.
pub(crate) fn verify(
    signed_with: &AlgorithmIdentifierOwned,
    key: &SubjectPublicKeyInfoOwned,
    message: &[u8],
    signature: &[u8],
) -> Result<()> {
    let curve = key.algorithm.parameters.as_ref();
    let curve = curve.and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
    UnparsedPublicKey::new(
        algorithm(&signed_with.oid, curve)?,
        key.subject_public_key.raw_bytes(),
    )
    .verify(message, signature)
    .map_err(|_| Error::RequestSignature)
}

fn algorithm(
    oid: &ObjectIdentifier,
    curve: Option<ObjectIdentifier>,
) -> Result<&'static dyn VerificationAlgorithm> {
    const P256: &str = "1.2.840.10045.3.1.7";
    const P384: &str = "1.3.132.0.34";
    let curve = curve.map(|curve| curve.to_string());
    Ok(match (oid.to_string().as_str(), curve.as_deref()) {
        ("1.2.840.10045.4.3.2", Some(P256)) => &signature::ECDSA_P256_SHA256_ASN1,
        ("1.2.840.10045.4.3.2", Some(P384)) => &signature::ECDSA_P384_SHA256_ASN1,
        ("1.2.840.10045.4.3.3", Some(P256)) => &signature::ECDSA_P256_SHA384_ASN1,
        ("1.2.840.10045.4.3.3", Some(P384)) => &signature::ECDSA_P384_SHA384_ASN1,
        ("1.3.101.112", _) => &signature::ED25519,
        ("1.2.840.113549.1.1.11", _) => &signature::RSA_PKCS1_2048_8192_SHA256,
        ("1.2.840.113549.1.1.12", _) => &signature::RSA_PKCS1_2048_8192_SHA384,
        ("1.2.840.113549.1.1.13", _) => &signature::RSA_PKCS1_2048_8192_SHA512,
        _ => return Err(Error::UnsupportedAlgorithm { oid: oid.to_string() }),
    })
}
