//! `knode doctor`: what on this machine would keep a node from running well, and the mend.
//!
//! The facts are gathered first, the checks look at nothing else.

mod checks;
mod facts;
mod finding;
mod gather;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use ipnet::IpNet;

use crate::cli::{DataDir, PortRange, parse_port_range};
use crate::cluster::State;
use crate::dual::Dual;
use crate::layout::Layout;
use crate::output::Format;
use crate::preflight;

use finding::{Finding, Fix, Status};

const API_SERVER_PORT: u16 = 6443;

/// What `knode doctor` can be told.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub data: DataDir,
    /// The cluster's pod addresses [default: those that the data directory remembers, or 172.30.0.0/16].
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pub pod_cidr: Option<Dual<IpNet>>,
    /// The cluster's service addresses [default: those that the data directory remembers, or 10.254.0.0/16].
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pub service_cidr: Option<Dual<IpNet>>,
    /// The ports of NodePort services, first and last.
    #[arg(long, default_value = "30000-32767", value_name = "FIRST-LAST", value_parser = parse_port_range)]
    pub node_port_range: PortRange,
    /// Look at what a control plane needs too, on this machine.
    #[arg(long)]
    pub server: bool,
    /// An API server that must be reached, `https://HOST:PORT`; may be given several times.
    #[arg(long, value_name = "URL")]
    pub api_server: Vec<String>,
    /// A member of etcd that must be reached; may be given several times, or with commas.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub etcd: Vec<String>,
    /// A registry that must be reached; may be given several times.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub registry: Vec<String>,
    /// A certificate, or a directory of such, to look at beside knode's own; may be given several times.
    #[arg(long, value_name = "PATH")]
    pub certificate: Vec<PathBuf>,
    /// Mend what can be mended without harm: kernel settings.
    #[arg(long)]
    pub fix: bool,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

impl DoctorArgs {
    fn layout(&self) -> Layout {
        Layout::new(&self.data.data_dir)
    }

    /// Where an API server listens on this machine, if one does or is to.
    fn control_plane(&self, state: &State) -> Option<SocketAddr> {
        let kept = state.control_plane.as_ref().map(|kept| kept.listen);
        let meant = SocketAddr::from((Ipv4Addr::UNSPECIFIED, API_SERVER_PORT));
        kept.or(self.server.then_some(meant))
    }

    fn default_pods(&self) -> Dual<IpNet> {
        Dual::single(IpNet::new_assert(Ipv4Addr::new(172, 30, 0, 0).into(), 16))
    }

    fn default_services(&self) -> Dual<IpNet> {
        Dual::single(IpNet::new_assert(Ipv4Addr::new(10, 254, 0, 0).into(), 16))
    }
}

/// Looks, mends if asked to, and prints; exit code 1 if a node would not run.
pub async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    preflight::root("knode doctor")?;
    let mut findings = checks::all(&gather::all(&args).await);
    if args.fix {
        for (finding, how) in findings.iter().filter_map(|f| Some((f, f.fix.as_ref()?))) {
            match mend(how) {
                Ok(what) => eprintln!("fixed {}: {what}", finding.check),
                Err(error) => eprintln!("cannot fix {}: {error}", finding.check),
            }
        }
        findings = checks::all(&gather::all(&args).await);
    }
    print!("{}", show(&findings, args.output)?);
    let failed = findings.iter().any(|finding| finding.status == Status::Fail);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn show(findings: &[Finding], format: Format) -> anyhow::Result<String> {
    if format == Format::Json {
        return Ok(serde_json::to_string_pretty(findings)? + "\n");
    }
    let count = |status: Status| findings.iter().filter(|f| f.status == status).count();
    let (ok, warn, fail) = (count(Status::Ok), count(Status::Warn), count(Status::Fail));
    Ok(format!(
        "{}\n{ok} ok, {warn} to think about, {fail} in the way\n",
        finding::table(findings)
    ))
}

fn mend(fix: &Fix) -> std::io::Result<String> {
    let Fix::Setting { key, value } = fix;
    fs::write(gather::setting_file(key), value)?;
    Ok(format!("{value}, until the next boot"))
}
