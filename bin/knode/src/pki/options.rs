//! What a control plane can be told about certificates and about who may join.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use jiff::SignedDuration;
use knode_apiserver::{NodeBindings, UserInfo};
use knode_pki::Terms;

/// Certificates of the control plane, and those that it signs.
#[derive(Args, Clone, Debug)]
pub struct CertificateOptions {
    /// How long the control plane's own certificates live, such as 8760h or 90m, the administrator's kubeconfig
    /// included. They are renewed while it runs, at 70 to 90 % of their life.
    #[arg(long, default_value = "8760h", value_name = "DURATION", value_parser = parse_life)]
    pub certificate_validity: Duration,
    /// How long a new certificate authority lives. It is renewed while the control plane runs, with its own key.
    #[arg(long, default_value = "87600h", value_name = "DURATION", value_parser = parse_life)]
    pub ca_validity: Duration,
    /// The longest, and usual, life of a certificate that is signed for a node or another client that asks.
    #[arg(long, default_value = "8760h", value_name = "DURATION", value_parser = parse_life)]
    pub cluster_signing_duration: Duration,
    /// A file of bearer tokens, one `token,user,uid,"group1,group2"` a line (`knode pki token-csv` makes one). Read at
    /// the start.
    #[arg(long, value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// Who decides about machines that ask for a node's certificate.
    #[arg(long, value_enum, default_value_t = NodeApproval::Auto)]
    pub node_approval: NodeApproval,
}

/// Who decides about machines that ask for a node's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum NodeApproval {
    /// A bootstrap token is enough, and nodes renew their certificates.
    #[default]
    Auto,
    /// Bootstrap tokens may ask; a person approves (`kubectl certificate approve`), renewals too.
    Manual,
    /// As upstream's API server alone: nobody may ask until a person binds `system:node-bootstrapper`.
    None,
}

impl Default for CertificateOptions {
    fn default() -> Self {
        let terms = Terms::default();
        Self {
            certificate_validity: terms.certificates,
            ca_validity: terms.ca,
            cluster_signing_duration: terms.certificates,
            token_auth_file: None,
            node_approval: NodeApproval::Auto,
        }
    }
}

impl CertificateOptions {
    /// The lives, with renewals at this place between 70 and 90 %.
    pub fn terms(&self, random: f64) -> Terms {
        Terms {
            ca: self.ca_validity,
            certificates: self.certificate_validity,
            random,
        }
    }

    /// The bindings that come of the wish.
    pub fn node_bindings(&self) -> NodeBindings {
        match self.node_approval {
            NodeApproval::Auto => NodeBindings::Approve,
            NodeApproval::Manual => NodeBindings::Ask,
            NodeApproval::None => NodeBindings::Nothing,
        }
    }

    /// The users of the token file.
    pub fn tokens(&self) -> anyhow::Result<BTreeMap<String, UserInfo>> {
        let Some(path) = &self.token_auth_file else {
            return Ok(BTreeMap::new());
        };
        let text = knode_pki::files::read(path).context("read --token-auth-file")?;
        if let Err(error) = knode_pki::files::read_private(path) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "others can read the tokens"
            );
        }
        knode_apiserver::parse_token_file(&text).map_err(|line| {
            anyhow::anyhow!(
                "{} line {line} is not token,user,uid,\"group1,group2\"",
                path.display()
            )
        })
    }
}

/// A life such as `8760h`, `90m` or `30s`, ten seconds at least.
pub fn parse_life(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is not a time such as 8760h, 90m or 30s");
    let span: SignedDuration = text.parse().map_err(|_| refused())?;
    let life = Duration::try_from(span).map_err(|_| refused())?;
    if life < Duration::from_secs(10) {
        return Err(format!("{text:?} is less than ten seconds"));
    }
    Ok(life)
}

/// As [`parse_life`], not below what the certificates API takes.
pub fn parse_requested_life(text: &str) -> Result<Duration, String> {
    let life = parse_life(text)?;
    if life < Duration::from_secs(600) {
        return Err(format!(
            "{text:?} is less than ten minutes, which nobody may ask for"
        ));
    }
    Ok(life)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives() {
        assert_eq!(parse_life("8760h"), Ok(Terms::default().certificates));
        assert_eq!(parse_life("30s"), Ok(Duration::from_secs(30)));
        assert!(parse_life("1s").unwrap_err().contains("ten seconds"));
        assert!(parse_life("soon").is_err());
        assert!(parse_requested_life("5m").unwrap_err().contains("ten minutes"));
        assert_eq!(parse_requested_life("10m"), Ok(Duration::from_secs(600)));
    }

    #[test]
    fn a_broken_token_file_is_named_with_its_line() {
        let path = std::env::temp_dir().join(format!("knode-tokens-{}.csv", std::process::id()));
        std::fs::write(&path, "abc,alice,7,\"one\"\nbad\n").unwrap();
        let options = CertificateOptions {
            token_auth_file: Some(path.clone()),
            ..CertificateOptions::default()
        };
        let error = options.tokens().unwrap_err().to_string();
        assert!(
            error.contains("line 2") && error.contains(path.to_str().unwrap()),
            "{error}"
        );
        std::fs::remove_file(&path).unwrap();
        assert!(options.tokens().is_err(), "a file that is named must be there");
    }
}
