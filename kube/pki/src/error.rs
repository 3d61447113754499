//! What can go wrong with keys, certificates and the files that hold them.

use std::path::PathBuf;

/// A failed operation on keys, certificates, signing requests or kubeconfigs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file could not be written; what stood there before is untouched.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A private key that others than its owner may read is not trusted.
    #[error(
        "private key {} has mode {mode:04o}: only its owner may have access; run `chmod 600 {}`",
        path.display(),
        path.display()
    )]
    WeakPermissions {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The CA certificate is there and its key is not, so nothing can be issued.
    #[error("{} exists but {} does not: the authority cannot sign; restore the key or remove both", cert.display(), key.display())]
    MissingCaKey {
        /// The certificate's file.
        cert: PathBuf,
        /// Where its key was looked for.
        key: PathBuf,
    },
    /// The certificate belongs to another private key.
    #[error("the certificate in {} does not belong to the key in {}", cert.display(), key.display())]
    KeyMismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The authority itself has ended.
    #[error(
        "the certificate authority in {} ended at {end}: nothing can be issued; run `knode pki renew ca --dir {}` on the control plane, start it again, and give the new file to whoever has a copy",
        cert.display(),
        cert.parent().unwrap_or(std::path::Path::new(".")).display()
    )]
    CaExpired {
        /// The certificate's file.
        cert: PathBuf,
        /// When it ended.
        end: jiff::Timestamp,
    },
    /// A file is there that nobody said may be written over.
    #[error("{} is there already and stays as it is; remove it, or add --force", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The text holds no such PEM block, or a broken one.
    #[error("no usable {what} in PEM text")]
    Pem {
        /// The block that was looked for.
        what: &'static str,
        /// The decoder's reason, if there was a block.
        #[source]
        source: Option<x509_cert::der::Error>,
    },
    /// The private key is of a kind that is not supported, or broken.
    #[error("unusable private key (want EC P-256 in SEC1 or PKCS#8 PEM)")]
    PrivateKey,
    /// An ASN.1 structure could not be decoded or encoded.
    #[error("{what}: bad ASN.1")]
    Asn1 {
        /// The structure.
        what: &'static str,
        /// The decoder's reason.
        #[source]
        source: x509_cert::der::Error,
    },
    /// A certificate or signing request could not be built and signed.
    #[error("cannot build the {what}")]
    Build {
        /// What was being built.
        what: &'static str,
        /// The builder's reason.
        #[source]
        source: x509_cert::builder::Error,
    },
    /// The signing request is not signed by the key that it carries.
    #[error("the certificate request is not signed by its own key")]
    RequestSignature,
    /// The signing request is signed with an algorithm that is not supported.
    #[error("the certificate request is signed with unsupported algorithm {oid}")]
    UnsupportedAlgorithm {
        /// The algorithm's object identifier.
        oid: String,
    },
    /// A usage name that Kubernetes does not define.
    #[error("unknown key usage {0:?}")]
    UnknownUsage(String),
    /// The point in time is outside what a certificate can express.
    #[error("{0} cannot be expressed in a certificate")]
    Time(jiff::Timestamp),
    /// The text is not a bootstrap token.
    #[error("a bootstrap token looks like abcdef.0123456789abcdef (lower-case letters and digits)")]
    BootstrapToken,
    /// The kubeconfig could not be understood.
    #[error("kubeconfig {origin} cannot be parsed")]
    KubeconfigSyntax {
        /// The file, or what stands for it.
        origin: String,
        /// The parser's reason.
        #[source]
        source: serde_norway::Error,
    },
    /// The kubeconfig names something that it doesn't define, or lacks something.
    #[error("kubeconfig {origin}: {reason}")]
    Kubeconfig {
        /// The file, or what stands for it.
        origin: String,
        /// What is missing or contradictory.
        reason: String,
    },
    /// A way of authenticating that is not supported here.
    #[error("kubeconfig {origin}: {feature} is not supported")]
    Unsupported {
        /// The file, or what stands for it.
        origin: String,
        /// The unsupported field.
        feature: &'static str,
    },
}
