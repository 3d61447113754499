//! The command line of `knode pki`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;

use super::options::parse_life;
use crate::output::TableFormat;

/// Certificates as files: made, renewed and shown without an API server.
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Make an authority, the certificates of a control plane and its nodes, and their kubeconfigs. What is there
    /// stays as it is.
    Init(InitArgs),
    /// Issue one certificate with a new key.
    Issue(IssueArgs),
    /// Renew certificates, the kubeconfigs that hold them, or an authority.
    Renew(RenewArgs),
    /// Show certificates with what is left of their lives.
    Show(ShowArgs),
    /// Write a kubeconfig for a user, with a new certificate or with a token.
    Kubeconfig(KubeconfigArgs),
    /// Write a token file for `--token-auth-file`, with one new token.
    TokenCsv(TokenCsvArgs),
}

/// How files are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LayoutName {
    /// `ssl/ca.pem`, `ssl/kubernetes.pem`, `bootstrap.kubeconfig`, `kube-proxy.kubeconfig`, `token.csv`.
    Seed,
    /// `pki/ca.crt`, `pki/apiserver.crt`, `pki/front-proxy-ca.crt`, `pki/etcd/…`, `admin.conf`, as kubeadm has them.
    Kubeadm,
}

/// Where the files lie.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// Where everything lies.
    #[arg(long, default_value = "/etc/kubernetes", value_name = "DIR")]
    pub dir: PathBuf,
    /// How files are named [default: as in the directory, or seed].
    #[arg(long, value_enum, value_name = "LAYOUT")]
    pub layout: Option<LayoutName>,
}

/// Which cluster.
#[derive(Args, Clone, Debug)]
pub struct ClusterArgs {
    /// A name or address under which the API server (and etcd) is reached; may be given several times [default: this
    /// machine's].
    #[arg(long = "name", value_name = "NAME|IP")]
    pub names: Vec<String>,
    /// The API server's URL in kubeconfigs [default: the first address, port 6443].
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
    /// The addresses of services; the first is the API server's.
    #[arg(long, default_value = "10.254.0.0/16", value_name = "CIDR")]
    pub service_cidr: IpNet,
    /// The cluster's domain.
    #[arg(long, default_value = "cluster.local", value_name = "DOMAIN")]
    pub cluster_domain: String,
}

#[derive(Args, Clone, Debug)]
pub struct InitArgs {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How long certificates live, such as 8760h or 90m; 10s at least.
    #[arg(long, default_value = "8760h", value_name = "DURATION", value_parser = parse_life)]
    pub validity: Duration,
    /// How long authorities live, such as 87600h.
    #[arg(long, default_value = "87600h", value_name = "DURATION", value_parser = parse_life)]
    pub ca_validity: Duration,
    /// Make everything anew but the authorities.
    #[arg(long)]
    pub force: bool,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Use {
    /// A client.
    Client,
    /// A server.
    Server,
    /// Both, as etcd's members need.
    Both,
}

#[derive(Args, Clone, Debug)]
pub struct IssueArgs {
    /// Whom it names (CN): the user, if it is a client's.
    #[arg(value_name = "NAME")]
    pub common_name: String,
    /// A group (O); may be given several times.
    #[arg(long, value_name = "GROUP")]
    pub group: Vec<String>,
    /// A name or address of the server; may be given several times.
    #[arg(long = "name", value_name = "NAME|IP")]
    pub names: Vec<String>,
    /// What it is for.
    #[arg(long = "for", value_enum, default_value_t = Use::Client)]
    pub usage: Use,
    /// The certificate's file; the key's is named after it.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// How long it lives, such as 8760h or 90m; 10s at least.
    #[arg(long, default_value = "8760h", value_name = "DURATION", value_parser = parse_life)]
    pub validity: Duration,
    /// The authority's certificate [default: that of --dir].
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    #[command(flatten)]
    pub place: Place,
    /// Write over files that are there.
    #[arg(long)]
    pub force: bool,
}

#[derive(Args, Clone, Debug)]
pub struct RenewArgs {
    /// What to renew: `all`, an authority (`ca`, `etcd/ca`, `front-proxy-ca`), or files by their name or path.
    #[arg(value_name = "WHAT", default_value = "all")]
    pub what: Vec<String>,
    #[command(flatten)]
    pub place: Place,
    /// How long the renewed ones live, such as 8760h or 90m [default: 8760h; 87600h for an authority].
    #[arg(long, value_name = "DURATION", value_parser = parse_life)]
    pub validity: Option<Duration>,
    /// Give an authority another key, and issue anew what it has signed here. The old one stays trusted until its
    /// end, and certificates of the new one are accepted by those who know only the old one.
    #[arg(long)]
    pub new_key: bool,
    /// Trust an authority's own certificate alone: for when everything has moved to its new key. What its forerunners
    /// have signed is refused from then on.
    #[arg(long, conflicts_with = "new_key")]
    pub distrust_old: bool,
}

#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// Files or directories [default: /etc/kubernetes, and what knode has in --data-dir].
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Where a knode's data lies.
    #[arg(long, default_value = crate::layout::DEFAULT_DATA_DIR, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// How to print.
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: TableFormat,
}

#[derive(Args, Clone, Debug)]
pub struct KubeconfigArgs {
    /// The user (CN of a new certificate).
    #[arg(value_name = "USER")]
    pub user: String,
    /// A group (O); may be given several times.
    #[arg(long, value_name = "GROUP")]
    pub group: Vec<String>,
    /// A token instead of a certificate: the file of tokens in which the user stands.
    #[arg(long, value_name = "FILE")]
    pub token_csv: Option<PathBuf>,
    /// The kubeconfig.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The API server's URL.
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// How long the certificate lives, such as 8760h or 90m; 10s at least.
    #[arg(long, default_value = "8760h", value_name = "DURATION", value_parser = parse_life)]
    pub validity: Duration,
    #[command(flatten)]
    pub place: Place,
    /// Write over a file that is there.
    #[arg(long)]
    pub force: bool,
}

#[derive(Args, Clone, Debug)]
pub struct TokenCsvArgs {
    /// The user.
    #[arg(long, default_value = "kubelet-bootstrap", value_name = "USER")]
    pub user: String,
    /// The user's identifier.
    #[arg(long, default_value = "10001", value_name = "UID")]
    pub uid: String,
    /// A group; may be given several times.
    #[arg(long, default_value = "system:kubelet-bootstrap", value_name = "GROUP")]
    pub group: Vec<String>,
    /// The file.
    #[arg(long, default_value = "/etc/kubernetes/token.csv", value_name = "FILE")]
    pub out: PathBuf,
    /// Add a line to a file that is there.
    #[arg(long, conflicts_with = "force")]
    pub append: bool,
    /// Write over a file that is there: its tokens are good for nothing once the API server has been started again.
    #[arg(long)]
    pub force: bool,
}

/// Names and addresses apart.
pub fn apart(names: &[String]) -> (Vec<String>, Vec<IpAddr>) {
    let mut dns = Vec::new();
    let mut ips = Vec::new();
    for name in names {
        match name.parse() {
            Ok(ip) => ips.push(ip),
            Err(_) => dns.push(name.clone()),
        }
    }
    (dns, ips)
}
