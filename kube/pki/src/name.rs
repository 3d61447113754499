//! Distinguished names as Kubernetes reads them: one common name, several organizations.

use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{Any, ObjectIdentifier, Utf8StringRef};
use x509_cert::der::{self, Decode, Encode, Tag, Tagged};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");

/// The parts of a distinguished name that mean something to Kubernetes: user and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// CN: the user's name.
    pub common_name: String,
    /// O, in the order of the certificate: the user's groups.
    pub organizations: Vec<String>,
}

impl Subject {
    /// A subject with these organizations.
    pub fn new<S: Into<String>>(common_name: S, organizations: &[&str]) -> Self {
        Self {
            common_name: common_name.into(),
            organizations: organizations.iter().map(|o| (*o).to_owned()).collect(),
        }
    }

    /// Encodes the name: organizations first, each in a relative name of its own, then the common name.
    pub(crate) fn to_name(&self) -> der::Result<Name> {
        let mut sequence = RdnSequence::default();
        for organization in &self.organizations {
            sequence.push(relative_name(ORGANIZATION, organization)?);
        }
        if !self.common_name.is_empty() {
            sequence.push(relative_name(COMMON_NAME, &self.common_name)?);
        }
        Name::from_der(&sequence.to_der()?)
    }

    /// Reads a name. As in Go's `pkix.Name`, the last common name wins, and values that are no text are skipped.
    pub(crate) fn from_name(name: &Name) -> Self {
        let mut subject = Self::default();
        for attribute in name.iter() {
            let Some(text) = text_of(&attribute.value) else {
                continue;
            };
            match attribute.oid {
                COMMON_NAME => subject.common_name = text,
                ORGANIZATION => subject.organizations.push(text),
                _ => {}
            }
        }
        subject
    }
}

fn relative_name(oid: ObjectIdentifier, text: &str) -> der::Result<RelativeDistinguishedName> {
    let value = Any::encode_from(&Utf8StringRef::new(text)?)?;
    RelativeDistinguishedName::try_from(vec![AttributeTypeAndValue { oid, value }])
}

fn text_of(value: &Any) -> Option<String> {
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            String::from_utf8(value.value().to_vec()).ok()
        }
        Tag::TeletexString => Some(value.value().iter().map(|&byte| char::from(byte)).collect()),
        Tag::BmpString => {
            let units: Vec<u16> = value
                .value()
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}
