//! Key usages under the names of Kubernetes' certificates API, and their X.509 form.

use std::fmt;
use std::str::FromStr;

use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::flagset::FlagSet;
use x509_cert::ext::pkix::{ExtendedKeyUsage, KeyUsage, KeyUsages};

use crate::Error;

macro_rules! usages {
    ($($variant:ident = $name:literal => $form:expr;)*) => {
        /// What a certificate may be used for, as `spec.usages` of a CertificateSigningRequest names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Usage {
            $(
                #[doc = concat!("`", $name, "`")]
                $variant,
            )*
        }

        impl Usage {
            /// Every usage.
            pub const ALL: &'static [Usage] = &[$(Usage::$variant),*];

            /// The name in the certificates API.
            pub fn name(self) -> &'static str {
                match self { $(Usage::$variant => $name,)* }
            }

            fn form(self) -> Form {
                match self { $(Usage::$variant => $form,)* }
            }
        }
    };
}

enum Form {
    Bit(KeyUsages),
    Extended(&'static str),
}

use Form::{Bit, Extended};

usages! {
    Signing = "signing" => Bit(KeyUsages::DigitalSignature);
    DigitalSignature = "digital signature" => Bit(KeyUsages::DigitalSignature);
    ContentCommitment = "content commitment" => Bit(KeyUsages::NonRepudiation);
    KeyEncipherment = "key encipherment" => Bit(KeyUsages::KeyEncipherment);
    DataEncipherment = "data encipherment" => Bit(KeyUsages::DataEncipherment);
    KeyAgreement = "key agreement" => Bit(KeyUsages::KeyAgreement);
    CertSign = "cert sign" => Bit(KeyUsages::KeyCertSign);
    CrlSign = "crl sign" => Bit(KeyUsages::CRLSign);
    EncipherOnly = "encipher only" => Bit(KeyUsages::EncipherOnly);
    DecipherOnly = "decipher only" => Bit(KeyUsages::DecipherOnly);
    Any = "any" => Extended("2.5.29.37.0");
    ServerAuth = "server auth" => Extended("1.3.6.1.5.5.7.3.1");
    ClientAuth = "client auth" => Extended("1.3.6.1.5.5.7.3.2");
    CodeSigning = "code signing" => Extended("1.3.6.1.5.5.7.3.3");
    EmailProtection = "email protection" => Extended("1.3.6.1.5.5.7.3.4");
    SMime = "s/mime" => Extended("1.3.6.1.5.5.7.3.4");
    IpsecEndSystem = "ipsec end system" => Extended("1.3.6.1.5.5.7.3.5");
    IpsecTunnel = "ipsec tunnel" => Extended("1.3.6.1.5.5.7.3.6");
    IpsecUser = "ipsec user" => Extended("1.3.6.1.5.5.7.3.7");
    Timestamping = "timestamping" => Extended("1.3.6.1.5.5.7.3.8");
    OcspSigning = "ocsp signing" => Extended("1.3.6.1.5.5.7.3.9");
    MicrosoftSgc = "microsoft sgc" => Extended("1.3.6.1.4.1.311.10.3.3");
    NetscapeSgc = "netscape sgc" => Extended("2.16.840.1.113730.4.1");
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Usage {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::ALL.iter().find(|usage| usage.name() == name);
        found.copied().ok_or_else(|| Error::UnknownUsage(name.to_owned()))
    }
}

/// The KeyUsage extension, if any of the usages is one of its bits.
pub(crate) fn key_usage(usages: &[Usage]) -> Option<KeyUsage> {
    let mut bits: FlagSet<KeyUsages> = FlagSet::default();
    for usage in usages {
        if let Bit(bit) = usage.form() {
            bits |= bit;
        }
    }
    (!bits.is_empty()).then_some(KeyUsage(bits))
}

/// The ExtendedKeyUsage extension, if any of the usages belongs there.
pub(crate) fn extended_key_usage(usages: &[Usage]) -> Option<ExtendedKeyUsage> {
    let mut identifiers: Vec<ObjectIdentifier> = Vec::new();
    for usage in usages {
        if let Extended(text) = usage.form() {
            let identifier = ObjectIdentifier::new_unwrap(text);
            if !identifiers.contains(&identifier) {
                identifiers.push(identifier);
            }
        }
    }
    (!identifiers.is_empty()).then_some(ExtendedKeyUsage(identifiers))
}

/// The usages that a certificate's extensions state; of two names for one form the first is given.
pub(crate) fn from_extensions(bits: Option<KeyUsage>, extended: Option<ExtendedKeyUsage>) -> Vec<Usage> {
    let stated = |usage: &&Usage| match usage.form() {
        Bit(bit) => **usage != Usage::Signing && bits.is_some_and(|usage| usage.0.contains(bit)),
        Extended(text) => {
            let identifier = ObjectIdentifier::new_unwrap(text);
            **usage != Usage::SMime
                && extended
                    .as_ref()
                    .is_some_and(|usage| usage.0.contains(&identifier))
        }
    };
    Usage::ALL.iter().filter(stated).copied().collect()
}
