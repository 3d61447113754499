//! What a failed handshake means to a person.

use std::io;

use jiff::Timestamp;
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use rustls_pki_types::UnixTime;

/// Why client and server do not trust each other, and what mends it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Refusal {
    #[error(
        "the certificate of {host} ended at {end}, and this machine's clock says {now}: renew it there (`knode server` does so at its start, `knode pki renew` for files), or set the clock"
    )]
    ServerEnded {
        host: String,
        end: Timestamp,
        now: Timestamp,
    },
    #[error(
        "the certificate of {host} begins at {begin}, and this machine's clock says {now}: set the clocks of both machines"
    )]
    ServerNotYet {
        host: String,
        begin: Timestamp,
        now: Timestamp,
    },
    #[error(
        "the certificate of {host} is not signed by the authority that is known here: it is another cluster, or its authority was replaced; bring its ca.pem here (`knode pki show` on both sides tells them apart)"
    )]
    OtherAuthority { host: String },
    #[error(
        "the certificate of {host} does not name it, but {names}: use one of these names, or issue it anew with this one"
    )]
    OtherName { host: String, names: String },
    #[error(
        "{host} refuses this client's certificate because it has ended, or the clocks differ: `knode pki show` tells its end, `knode pki renew` makes a new one"
    )]
    ClientEnded { host: String },
    #[error(
        "{host} refuses this client's certificate because it doesn't know the authority that signed it: it is another cluster's, or the authority was replaced"
    )]
    ClientUnknown { host: String },
}

fn time(at: UnixTime) -> Timestamp {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

fn refusal(error: &TlsError, host: &str) -> Option<Refusal> {
    let host = host.to_owned();
    match error {
        TlsError::InvalidCertificate(CertificateError::ExpiredContext { time: now, not_after }) => {
            Some(Refusal::ServerEnded {
                host,
                end: time(*not_after),
                now: time(*now),
            })
        }
        TlsError::InvalidCertificate(CertificateError::NotValidYetContext {
            time: now,
            not_before,
        }) => Some(Refusal::ServerNotYet {
            host,
            begin: time(*not_before),
            now: time(*now),
        }),
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            Some(Refusal::OtherAuthority { host })
        }
        TlsError::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
            let names = presented.join(", ");
            Some(Refusal::OtherName { host, names })
        }
        TlsError::AlertReceived(AlertDescription::CertificateExpired) => Some(Refusal::ClientEnded { host }),
        TlsError::AlertReceived(AlertDescription::UnknownCA | AlertDescription::DecryptError) => {
            Some(Refusal::ClientUnknown { host })
        }
        _ => None,
    }
}

/// The same error in words, where it is about a certificate.
pub(super) fn explained(error: io::Error, host: &str) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner.and_then(|inner| refusal(inner, host)) {
        Some(refusal) => io::Error::new(error.kind(), refusal),
        None => error,
    }
}
