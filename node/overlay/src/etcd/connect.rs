use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::error::EtcdError;

/// A member that does not answer to this is passed over.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// A connection that carries a watch is probed this often.
const PROBE_EVERY: Duration = Duration::from_secs(30);
const PROBE_WITHIN: Duration = Duration::from_secs(10);

/// Where etcd is and who asks.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// `http://host:port` or `https://host:port`, in the order in which they are tried.
    pub endpoints: Vec<String>,
    /// Certificates for `https` endpoints.
    pub tls: Tls,
    /// User, where etcd asks for one.
    pub credentials: Option<Credentials>,
}

/// Files with certificates, PEM. They are read at each connection, so renewed ones are taken up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities that etcd's certificate may be from; without it those that the system trusts.
    pub authorities: Option<PathBuf>,
    /// The client's certificate.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// User and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User.
    pub user: String,
    /// Password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A member's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// As the administrator wrote it.
    pub name: String,
    secure: bool,
    host: String,
    port: u16,
}

impl Member {
    pub fn parse(text: &str) -> Result<Self, EtcdError> {
        let wrong = || EtcdError::Endpoint(text.to_owned());
        let uri: Uri = text.trim().parse().map_err(|_| wrong())?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let host = uri.host().filter(|h| !h.is_empty()).ok_or_else(wrong)?;
        Ok(Self {
            name: text.trim().trim_end_matches('/').to_owned(),
            secure,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
        })
    }

    /// Connects.
    pub async fn connect(&self, tls: &Tls) -> Result<Channel, EtcdError> {
        let endpoint = self.endpoint()?;
        let within = tokio::time::timeout(CONNECT_WITHIN, self.open(endpoint, tls));
        within.await.unwrap_or_else(|_| {
            Err(EtcdError::Timeout {
                op: "connect",
                endpoint: self.name.clone(),
            })
        })
    }

    fn endpoint(&self) -> Result<Endpoint, EtcdError> {
        // The transport knows nothing of TLS, which is done below it: the scheme is told by the origin.
        let wrong = || EtcdError::Endpoint(self.name.clone());
        let bare = self.name.split_once("://").map_or("", |(_, rest)| rest);
        let endpoint = Endpoint::from_shared(format!("http://{bare}")).map_err(|_| wrong())?;
        Ok(endpoint
            .origin(self.name.parse().map_err(|_| wrong())?)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(PROBE_EVERY)
            .keep_alive_timeout(PROBE_WITHIN)
            .keep_alive_while_idle(true))
    }

    async fn open(&self, endpoint: Endpoint, tls: &Tls) -> Result<Channel, EtcdError> {
        let failed = |source: tonic::transport::Error| EtcdError::Connect {
            endpoint: self.name.clone(),
            source: Box::new(source),
        };
        let address = (self.host.clone(), self.port);
        if !self.secure {
            let connect = service_fn(move |_: Uri| {
                let address = address.clone();
                async move {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    std::io::Result::Ok(TokioIo::new(stream))
                }
            });
            return endpoint.connect_with_connector(connect).await.map_err(failed);
        }
        let connector = TlsConnector::from(Arc::new(tls.client_config()?));
        let name = ServerName::try_from(self.host.clone());
        let name = name.map_err(|_| EtcdError::Endpoint(self.name.clone()))?;
        let connect = service_fn(move |_: Uri| {
            let (address, connector, name) = (address.clone(), connector.clone(), name.clone());
            async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                connector.connect(name, stream).await.map(TokioIo::new)
            }
        });
        endpoint.connect_with_connector(connect).await.map_err(failed)
    }
}

impl Tls {
    fn client_config(&self) -> Result<ClientConfig, EtcdError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(EtcdError::Tls)?
            .with_root_certificates(self.roots()?);
        let mut config = match (&self.certificate, &self.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let unread = |source| EtcdError::File {
                    path: key.clone(),
                    source,
                };
                let key = PrivateKeyDer::from_pem_file(key).map_err(unread)?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, key)
                    .map_err(EtcdError::Tls)?
            }
            _ => return Err(EtcdError::HalfIdentity),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, EtcdError> {
        let mut roots = RootCertStore::empty();
        let Some(path) = &self.authorities else {
            // What the system has that cannot be read does not keep the rest from being used.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Ok(roots);
        };
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(EtcdError::Tls)?;
        }
        Ok(roots)
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, EtcdError> {
    let unread = |source| EtcdError::File {
        path: path.clone(),
        source,
    };
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(unread)?.collect();
    let all = all.map_err(unread)?;
    if all.is_empty() {
        return Err(unread(rustls_pki_types::pem::Error::NoItemsFound));
    }
    Ok(all)
}

/// Parses the endpoints.
pub(super) fn members(endpoints: &[String]) -> Result<Vec<Member>, EtcdError> {
    let named = endpoints.iter().filter(|e| !e.trim().is_empty());
    let members: Vec<_> = named.map(|e| Member::parse(e)).collect::<Result<_, _>>()?;
    if members.is_empty() {
        return Err(EtcdError::NoEndpoint);
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls() {
        let member = Member::parse("https://[2001:db8::1]:2379/").unwrap();
        assert_eq!(
            (member.host.as_str(), member.port, member.secure),
            ("2001:db8::1", 2379, true)
        );
        assert_eq!(Member::parse("http://etcd.example").unwrap().port, 80);
        assert!(matches!(
            Member::parse("192.0.2.1:2379"),
            Err(EtcdError::Endpoint(_))
        ));
        assert!(matches!(Member::parse("ftp://a:1"), Err(EtcdError::Endpoint(_))));
        assert!(matches!(members(&[" ".into()]), Err(EtcdError::NoEndpoint)));
    }

    #[test]
    fn a_password_is_not_shown() {
        let credentials = Credentials {
            user: "flannel".into(),
            password: "secret".into(),
        };
        assert!(!format!("{credentials:?}").contains("secret"));
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let tls = Tls {
            certificate: Some("a".into()),
            ..Tls::default()
        };
        assert!(matches!(tls.client_config(), Err(EtcdError::HalfIdentity)));
    }
}
