//! The command line of `knode engine`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::cli::{CniOptions, DataDir};
use crate::dual::Dual;
use crate::layout::Layout;
use crate::output::TableFormat;

/// `knode engine` without a command is the engine itself.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct EngineArgs {
    #[command(subcommand)]
    pub command: Option<EngineCommand>,
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// What the engine alone is told.
#[derive(Args, Clone, Debug)]
pub struct DaemonArgs {
    #[command(flatten)]
    pub data: DataDir,
    /// Where CRI v1 is served [default: engine.sock below /run/knode, or below the data directory].
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// How registries are reached: a directory of `<host[:port]>/hosts.toml` and certificates, as containerd's
    /// `config_path` [default: /etc/containerd/certs.d, if there is one].
    #[arg(long, value_name = "DIR")]
    pub registry_config_path: Option<PathBuf>,
    /// The addresses of pods in the built-in network: an IPv4 network, an IPv6 network, or both with a comma between
    /// them [default: what the kubelet tells, as its node's podCIDRs].
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pub pod_subnet: Option<Dual<IpNet>>,
    #[command(flatten)]
    pub cni: CniOptions,
    /// Who makes the control groups: this process by files, or systemd, for pods whose parent is a slice.
    #[arg(long, value_enum, default_value_t = CgroupDriver::Cgroupfs, value_name = "DRIVER")]
    pub cgroup_driver: CgroupDriver,
    /// Label the processes and files of containers for SELinux, as containerd's `enable_selinux`. The policy must have
    /// contexts for containers (`lxc_contexts`, as container-selinux has), and may let this program make them: label it
    /// container_runtime_exec_t, and images in the data directory container_ro_file_t.
    #[arg(long)]
    pub selinux: bool,
    /// OCI runtimes by runtime handler, YAML [default: engine.yaml in /etc/knode, or in the data directory; none need be
    /// there].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// End the engine of this data directory and everything that runs in it: pods, shims, links, rules, mounts, control
    /// groups. Images stay.
    #[arg(long)]
    pub stop_all: bool,
}

/// As kubelets name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CgroupDriver {
    /// Files in /sys/fs/cgroup.
    Cgroupfs,
    /// Transient units: a kubelet hands slices over.
    Systemd,
}

/// Which engine is meant.
#[derive(Args, Clone, Debug)]
pub struct Place {
    #[command(flatten)]
    pub data: DataDir,
    /// The engine's socket, or that of another CRI runtime [default: that of the data directory's engine].
    #[arg(long, env = "CONTAINER_RUNTIME_ENDPOINT", value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

impl Place {
    pub fn layout(&self) -> Layout {
        Layout::new(&self.data.data_dir)
    }

    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.layout().cri_socket())
    }
}

/// Where to ask and how to print.
#[derive(Args, Clone, Debug)]
pub struct Listing {
    #[command(flatten)]
    pub place: Place,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: TableFormat,
}

#[derive(Debug, Subcommand)]
pub enum EngineCommand {
    /// List containers: those that run, or all.
    Ps {
        #[command(flatten)]
        listing: Listing,
        /// Those that do not run too.
        #[arg(long, short)]
        all: bool,
        /// Only ids.
        #[arg(long, short)]
        quiet: bool,
    },
    /// List pods, which CRI calls sandboxes.
    Pods {
        #[command(flatten)]
        listing: Listing,
        /// Only ids.
        #[arg(long, short)]
        quiet: bool,
    },
    /// List the images that the engine has.
    Images {
        #[command(flatten)]
        listing: Listing,
        /// Only ids.
        #[arg(long, short)]
        quiet: bool,
        /// Show how far pulls are, until interrupted.
        #[arg(long)]
        watch: bool,
    },
    /// Pull an image.
    Pull {
        #[command(flatten)]
        place: Place,
        /// User and password for the registry.
        #[arg(
            long,
            value_name = "USER:PASSWORD",
            env = "KNODE_REGISTRY_CREDENTIALS",
            hide_env_values = true
        )]
        creds: Option<String>,
        /// The image, by tag or digest.
        image: String,
    },
    /// Import the images of an OCI or docker archive (tar, also gzip or zstd) into a running knode.
    Import {
        #[command(flatten)]
        data: DataDir,
        /// The archive.
        file: PathBuf,
    },
    /// Write images to an archive (an OCI layout that docker and containerd load as well).
    Export {
        #[command(flatten)]
        data: DataDir,
        /// The archive; what is there is replaced.
        #[arg(long, short, value_name = "FILE")]
        file: PathBuf,
        /// The images.
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Keep images from `prune` and from the kubelet's garbage collection.
    Pin {
        #[command(flatten)]
        data: DataDir,
        /// Keep them no longer.
        #[arg(long)]
        off: bool,
        /// The images.
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Print what a container has written.
    Logs {
        #[command(flatten)]
        place: Place,
        /// Go on until it ends.
        #[arg(long, short)]
        follow: bool,
        /// Only so many of the last lines.
        #[arg(long, value_name = "LINES")]
        tail: Option<usize>,
        /// With the time of each line.
        #[arg(long, short)]
        timestamps: bool,
        /// Its id, the beginning of it, or its name.
        container: String,
    },
    /// Run a command in a container.
    Exec {
        #[command(flatten)]
        place: Place,
        /// Pass standard input on.
        #[arg(long, short)]
        interactive: bool,
        /// On a terminal.
        #[arg(long, short)]
        tty: bool,
        /// Its id, the beginning of it, or its name.
        container: String,
        /// The command and its arguments.
        #[arg(
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "COMMAND"
        )]
        command: Vec<String>,
    },
    /// Print everything about containers, pods and images.
    Inspect {
        #[command(flatten)]
        place: Place,
        /// Ids, the beginnings of them, or names.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Remove containers, pods and images.
    Rm {
        #[command(flatten)]
        place: Place,
        /// End what runs.
        #[arg(long, short)]
        force: bool,
        /// Ids, the beginnings of them, or names.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
    /// Remove the images that no container uses.
    Prune {
        #[command(flatten)]
        place: Place,
        /// Containers that have ended and pods that are not ready too.
        #[arg(long)]
        all: bool,
    },
    /// What running containers use.
    Stats {
        #[command(flatten)]
        listing: Listing,
        /// By pod.
        #[arg(long)]
        pods: bool,
    },
    /// Print what happens to pods and containers, until interrupted.
    Events {
        #[command(flatten)]
        listing: Listing,
    },
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn engine(words: &[&str]) -> EngineArgs {
        match Cli::try_parse_from([&["knode", "engine"], words].concat()) {
            Ok(Cli {
                command: Command::Engine(args),
                ..
            }) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_a_command_it_is_the_engine() {
        let line = [
            "--socket=/run/x.sock",
            "--data-dir=/x",
            "--registry-config-path=/etc/certs.d",
            "--pod-subnet=10.1.0.0/24",
        ];
        let args = engine(&line);
        assert!(args.command.is_none());
        assert_eq!(args.daemon.socket, Some("/run/x.sock".into()));
        assert_eq!(args.daemon.cgroup_driver, CgroupDriver::Cgroupfs);
    }

    #[test]
    fn commands_ask_the_data_directorys_engine() {
        let Some(EngineCommand::Ps { listing, all, .. }) =
            engine(&["ps", "-a", "-o", "json", "--data-dir=/x"]).command
        else {
            panic!("ps is meant");
        };
        assert!(all && listing.output == TableFormat::Json);
        assert_eq!(listing.place.layout().cri_socket(), listing.place.socket());
        let Some(EngineCommand::Exec { command, tty, .. }) =
            engine(&["exec", "-it", "web", "sh", "-c", "ls -l"]).command
        else {
            panic!("exec is meant");
        };
        assert!(tty);
        assert_eq!(command, ["sh", "-c", "ls -l"]);
    }
}
