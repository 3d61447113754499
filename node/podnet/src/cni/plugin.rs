use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use tokio::sync::watch;

use super::answer;
use super::call::{Attached, Call, Command, NetConf, Told, id, subnet_of};
use super::check::check;
use super::error::CniError;
use super::loopback;
use crate::config::{AddRequest, Config, Subnet};
use crate::error::Error;
use crate::masquerade;
use crate::network::PodNet;

/// What the plugin says to the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// For standard output; may be empty.
    pub output: String,
    /// Whether it is no error.
    pub success: bool,
}

/// Does what an engine asks for by the environment (`CNI_COMMAND` and its like) and the configuration on standard
/// input, in the calling thread's network namespace. Calls of several processes wait for one another.
pub async fn plugin(env: impl Fn(&str) -> Option<String>, input: &[u8]) -> Answer {
    let call = match Call::parse(env, input) {
        Ok(call) => call,
        Err(error) => return failure(&error, &version_of(input)),
    };
    match execute(&call).await {
        Ok(output) => Answer {
            output,
            success: true,
        },
        Err(error) => failure(&error, &call.conf.cni_version),
    }
}

/// [`plugin`] for the engine that started this process: its environment, standard input and standard output. Says whether
/// the answer is no error.
///
/// # Errors
/// When standard input cannot be read, or standard output not be written.
pub async fn process() -> io::Result<bool> {
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input)?;
    let answer = plugin(|key| std::env::var(key).ok(), &input).await;
    io::stdout().write_all(answer.output.as_bytes())?;
    Ok(answer.success)
}

fn failure(error: &CniError, version: &str) -> Answer {
    Answer {
        output: error.json(version).to_string(),
        success: false,
    }
}

/// The version of a configuration that is otherwise not understood.
fn version_of(input: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(input).unwrap_or_default();
    value["cniVersion"].as_str().unwrap_or_default().to_owned()
}

async fn execute(call: &Call) -> Result<String, CniError> {
    let conf = &call.conf;
    if conf.plugin == loopback::TYPE {
        return loopback::execute(call);
    }
    match &call.command {
        Command::Version => Ok(answer::versions(&conf.cni_version).to_string()),
        Command::Status => match told(conf) {
            Ok(_) => Ok(String::new()),
            Err(error) => Err(CniError {
                code: CniError::NOT_AVAILABLE,
                ..error
            }),
        },
        Command::Add(attached) => add(conf, attached).await,
        Command::Delete(attached) => {
            let network = Locked::open(conf, &attached.interface, None).await?;
            network.podnet.remove(&attached.id()).await?;
            network.tidy_up(conf).await
        }
        Command::Check(attached) => {
            let prev = conf.prev_result.as_ref();
            let prev = prev.ok_or_else(|| CniError::new(CniError::CONFIG, "CHECK needs prevResult"))?;
            let network = Locked::open(conf, &attached.interface, None).await?;
            let leases = network.podnet.leases().into_iter();
            let own = leases.filter(|(_, owner)| *owner == attached.id());
            let ips: Vec<_> = own.map(|(ip, _)| ip).collect();
            check(attached, &ips, prev).map(|()| String::new())
        }
        Command::Gc => collect(conf).await,
    }
}

async fn add(conf: &NetConf, attached: &Attached) -> Result<String, CniError> {
    let (told, asked) = (told(conf)?, &conf.runtime_config);
    let subnet = told.subnet;
    let netns = attached.netns.clone().unwrap_or_default();
    let request = AddRequest {
        sandbox_id: attached.id(),
        netns: netns.clone(),
        port_mappings: asked.port_mappings()?,
        bandwidth: asked.bandwidth()?,
        ips: asked.ips()?,
        mac: asked.mac()?,
    };
    let network = Locked::open(conf, &attached.interface, Some(subnet)).await?;
    if conf.ip_masq.unwrap_or(!told.masqueraded) {
        let name = conf.name.clone();
        blocking(move || masquerade::ensure(&name, subnet, &told.networks)).await?;
    }
    let attachment = network.podnet.add(request).await?;
    Ok(answer::added(conf, &attachment, subnet, (&attached.interface, &netns)).to_string())
}

/// Disconnects what the engine no longer knows.
async fn collect(conf: &NetConf) -> Result<String, CniError> {
    let valid = conf.valid.as_ref();
    let valid = valid.ok_or_else(|| CniError::new(CniError::CONFIG, "GC needs cni.dev/valid-attachments"))?;
    let live: HashSet<_> = valid.iter().map(|v| id(&v.container, &v.ifname)).collect();
    let network = Locked::open(conf, "eth0", None).await?;
    let owners = network.podnet.leases().into_iter().map(|(_, owner)| owner);
    let dead: HashSet<_> = owners.filter(|owner| !live.contains(owner)).collect();
    for owner in dead {
        network.podnet.remove(&owner).await?;
    }
    network.tidy_up(conf).await
}

/// The node's part of the pod network, and what else the subnet file tells.
fn told(conf: &NetConf) -> Result<Told, CniError> {
    if let Some(subnet) = conf.own_subnet() {
        return Ok(Told {
            subnet,
            networks: Vec::new(),
            // Whoever writes a subnet into the configuration says there what he wants.
            masqueraded: true,
        });
    }
    let path = &conf.subnet_file;
    let unknown = |why: String| {
        let message = format!("the node's subnet is not known: {} {why}", path.display());
        CniError::new(CniError::TRY_AGAIN, message)
    };
    let text = std::fs::read_to_string(path).map_err(|e| unknown(format!("cannot be read: {e}")))?;
    subnet_of(&text).ok_or_else(|| unknown("does not tell it".into()))
}

/// Does netlink's work of a call where it holds up nobody.
async fn blocking(work: impl FnOnce() -> Result<(), Error> + Send + 'static) -> Result<(), CniError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|_| Error::Stopped("setting up masquerading"))??)
}

/// The pod network, this process's alone.
struct Locked {
    podnet: PodNet,
    _subnet: watch::Sender<Option<Subnet>>,
    /// Dropped last: the next process finds the leases closed.
    _turn: Flock<File>,
}

impl Locked {
    async fn open(conf: &NetConf, interface: &str, subnet: Option<Subnet>) -> Result<Self, CniError> {
        let directory = conf.data_dir();
        let wait = tokio::task::spawn_blocking(move || turn(&directory));
        let turn = wait
            .await
            .map_err(|_| Error::Stopped("waiting for other calls"))??;
        let (sender, receiver) = watch::channel(subnet);
        let config = Config {
            bridge: conf.bridge.clone(),
            interface: interface.to_owned(),
            data_dir: conf.data_dir(),
        };
        Ok(Self {
            podnet: PodNet::open(config, receiver)?,
            _subnet: sender,
            _turn: turn,
        })
    }
}

impl Locked {
    /// Without containers nothing need be masqueraded.
    async fn tidy_up(&self, conf: &NetConf) -> Result<String, CniError> {
        if self.podnet.leases().is_empty() {
            let name = conf.name.clone();
            blocking(move || masquerade::remove(&name)).await?;
        }
        Ok(String::new())
    }
}

/// Waits until no other call is under way.
fn turn(directory: &Path) -> Result<Flock<File>, Error> {
    let path = directory.with_extension("turn");
    let failed = |op: &'static str| {
        let path = path.clone();
        move |source: io::Error| Error::LeaseFile { op, path, source }
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed("create the directory of"))?;
    }
    let file = File::create(&path).map_err(failed("open"))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| failed("lock")(errno.into()))
}
