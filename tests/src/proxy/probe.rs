//! What real packets do, and what `knode proxy` says that they do.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use knode_testkit::Host;

use super::{Pod, ProxySite, address};
use crate::Output;

/// So many connections reach every one of a few endpoints.
const TRIES: usize = 24;
/// curl's exit codes: refused, and no answer in time.
const REFUSED: i32 = 7;
const TIMED_OUT: i32 = 28;

/// What clients got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answers {
    /// Answers of these pods, which saw these sources.
    From {
        /// Names of pods.
        pods: BTreeSet<String>,
        /// The client's address as they saw it.
        sources: BTreeSet<IpAddr>,
    },
    /// They were told at once that nobody is there.
    Refused,
    /// They were told nothing.
    Silence,
}

impl Answers {
    /// What these pods answer when they see these sources.
    ///
    /// # Panics
    /// When a source is no address.
    #[track_caller]
    pub fn from(pods: &[&Pod], sources: &[&dyn ToString]) -> Self {
        Self::From {
            pods: pods.iter().map(|pod| pod.name.clone()).collect(),
            sources: sources.iter().map(|ip| address(ip.to_string())).collect(),
        }
    }

    /// Connects as often as needed to see every endpoint.
    ///
    /// # Panics
    /// When connections end differently.
    #[track_caller]
    pub fn over_http(host: &Host, to: SocketAddr) -> Self {
        let first = reached(host, to);
        match first.code {
            0 => Self::read((0..TRIES).map(|_| reached(host, to).ok()).chain([first.stdout])),
            REFUSED => Self::Refused,
            TIMED_OUT => Self::Silence,
            _ => panic!("{to}: {first}"),
        }
    }

    /// Sends datagrams from as many sockets as needed to see every endpoint.
    ///
    /// # Panics
    /// When only some are answered.
    #[track_caller]
    pub fn over_udp(host: &Host, to: SocketAddr) -> Self {
        match datagram(host, to) {
            Ok(first) => {
                let more = (0..TRIES).map(|_| datagram(host, to).unwrap_or_else(|e| panic!("{to}: {e}")));
                Self::read(more.chain([first]))
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Self::Refused,
            Err(_) => Self::Silence,
        }
    }

    #[track_caller]
    fn read(texts: impl Iterator<Item = String>) -> Self {
        let (mut pods, mut sources) = (BTreeSet::new(), BTreeSet::new());
        for text in texts {
            let (pod, source) = text
                .trim()
                .split_once(' ')
                .unwrap_or_else(|| panic!("odd answer {text:?}"));
            pods.insert(pod.to_owned());
            sources.insert(source.parse().unwrap_or_else(|e| panic!("{e}: {text:?}")));
        }
        Self::From { pods, sources }
    }
}

/// One connection and what came of it.
#[track_caller]
pub fn reached(host: &Host, to: SocketAddr) -> Output {
    let mut command = host.command("curl");
    command.args(["--silent", "--show-error", "--fail", "--globoff"]);
    // A silence is one after three seconds; an answer takes a thousandth of that.
    Output::of(command.args(["--max-time", "3"]).arg(format!("http://{to}/")))
}

fn datagram(host: &Host, to: SocketAddr) -> std::io::Result<String> {
    host.enter(|| {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(Duration::from_secs(3)))?;
        socket.connect(to)?;
        socket.send(b"who")?;
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}

/// A client: its host, and its address towards a destination.
#[derive(Clone, Copy)]
pub struct Client<'a> {
    host: &'a Host,
    address: IpAddr,
}

impl<'a> Client<'a> {
    /// A pod.
    pub fn pod(pod: &'a Pod, to: SocketAddr) -> Self {
        let (host, address) = (&*pod.host, pod.ip_like(to.ip()));
        Self { host, address }
    }

    /// [`ProxySite::outside`].
    pub fn outside(site: &'a ProxySite, to: SocketAddr) -> Self {
        let (host, address) = (&site.outside, ProxySite::ip_towards(ProxySite::OUTSIDE, to.ip()));
        Self { host, address }
    }

    /// [`ProxySite::stranger`].
    pub fn stranger(site: &'a ProxySite, to: SocketAddr) -> Self {
        let (host, address) = (
            &site.stranger,
            ProxySite::ip_towards(ProxySite::STRANGER, to.ip()),
        );
        Self { host, address }
    }

    /// Connects, and compares with what `knode proxy trace` says.
    ///
    /// # Panics
    /// When that is something else.
    #[track_caller]
    pub fn connects(&self, site: &ProxySite, to: SocketAddr) -> Answers {
        let seen = Answers::over_http(self.host, to);
        Said::of(site, self.address, to, "tcp").agrees_with(site, self.address, &seen);
        seen
    }

    /// Sends datagrams, and compares as [`Client::connects`] does.
    ///
    /// # Panics
    /// As there.
    #[track_caller]
    pub fn sends(&self, site: &ProxySite, to: SocketAddr) -> Answers {
        let seen = Answers::over_udp(self.host, to);
        Said::of(site, self.address, to, "udp").agrees_with(site, self.address, &seen);
        seen
    }
}

/// What `knode proxy trace` says about a packet.
#[derive(Debug, Clone)]
pub struct Said {
    /// All of it.
    pub text: String,
}

impl Said {
    /// Asks it.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn of(site: &ProxySite, source: IpAddr, to: SocketAddr, protocol: &str) -> Self {
        let (source, to) = (source.to_string(), to.to_string());
        let text = site
            .inspect(&["trace", &source, &to, "--protocol", protocol])
            .ok();
        Self { text }
    }

    /// Where it says that the packet ends up.
    pub fn end(&self) -> &str {
        let last = self.text.lines().last().unwrap_or_default();
        last.strip_prefix("=> ").unwrap_or_default()
    }

    /// Whether it says what has been seen: the same pods, and the source that they saw.
    ///
    /// # Panics
    /// When not.
    #[track_caller]
    pub fn agrees_with(&self, site: &ProxySite, client: IpAddr, seen: &Answers) {
        let text = &self.text;
        match seen {
            Answers::Refused => assert!(self.end().starts_with("refused"), "refused, but it says\n{text}"),
            Answers::Silence => assert!(self.end().starts_with("dropped"), "silence, but it says\n{text}"),
            Answers::From { pods, sources } => {
                assert_eq!(&self.pods(site), pods, "{text}");
                for source in sources {
                    self.has_source(site, client, *source, pods);
                }
            }
        }
    }

    /// The pods that it names.
    #[track_caller]
    fn pods(&self, site: &ProxySite) -> BTreeSet<String> {
        let named = |part: &str| {
            let address: SocketAddr = part.parse().unwrap_or_else(|e| panic!("{e}: {}", self.text));
            let pod = site
                .pods
                .iter()
                .find(|pod| pod.ip_like(address.ip()) == address.ip());
            pod.unwrap_or_else(|| panic!("no pod has {address}: {}", self.text))
                .name
                .clone()
        };
        self.end().split(" or ").map(named).collect()
    }

    #[track_caller]
    fn has_source(&self, site: &ProxySite, client: IpAddr, source: IpAddr, pods: &BTreeSet<String>) {
        let text = &self.text;
        let by_node = text.contains("the endpoint sees an address of this node as the source");
        let itself = text.contains("where it reaches itself it sees an address of this node");
        let kept = text.contains(&format!("the endpoint sees {client} as the source"));
        let own = site.pods.iter().find(|pod| pod.ip_like(client) == client);
        let can_reach_itself = own.is_some_and(|pod| pods.contains(&pod.name));
        if source == client {
            assert!(kept, "the client's address was seen, but it says\n{text}");
        } else {
            let said = by_node || (itself && can_reach_itself);
            assert!(said, "{source} was seen for {client}, but it says\n{text}");
        }
    }
}
