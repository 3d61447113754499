//! Options of dockerd from the subnet file (upstream's `mk-docker-opts.sh`); pure.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What to make of the subnet file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerOpts {
    /// The subnet file (`-f`).
    pub subnet_file: PathBuf,
    /// The file to write (`-d`).
    pub docker_file: PathBuf,
    /// Each option in a variable of its own (`-i`).
    pub individual: bool,
    /// All options in one variable (`-c`).
    pub combined: bool,
    /// Name of that variable (`-k`).
    pub key: String,
    /// Say whether dockerd masquerades; not with `-m`.
    pub masquerade: bool,
}

/// Why nothing is made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DockerOptsError {
    /// A wrong command line, or a question for help.
    #[error("{0}")]
    Usage(String),
    /// A variable of the subnet file that makes no sense.
    #[error("invalid value of FLANNEL_IPMASQ: {0}")]
    Masquerade(String),
}

impl DockerOpts {
    /// What to print about the options.
    pub const USAGE: &'static str = "\
mk-docker-opts [-f FLANNEL-ENV-FILE] [-d DOCKER-ENV-FILE] [-i] [-c] [-m] [-k COMBINED-KEY]

Make options of dockerd from flannel's subnet file.
  -f  the subnet file (default /run/flannel/subnet.env)
  -d  the file to write (default /run/docker_opts.env)
  -i  each option in a variable of its own, such as DOCKER_OPT_MTU
  -c  all options in one variable
  -k  name of that variable (default DOCKER_OPTS)
  -m  without --ip-masq
";

    /// Reads the arguments (without the program's name) as the shell's `getopts` does.
    ///
    /// # Errors
    /// [`DockerOptsError::Usage`].
    pub fn parse(args: &[String]) -> Result<Self, DockerOptsError> {
        let mut opts = Self {
            subnet_file: "/run/flannel/subnet.env".into(),
            docker_file: "/run/docker_opts.env".into(),
            individual: false,
            combined: false,
            key: "DOCKER_OPTS".into(),
            masquerade: true,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let Some(letters) = arg.strip_prefix('-').filter(|l| !l.is_empty() && *l != "-") else {
                break;
            };
            opts.letters(letters, &mut args)?;
        }
        if !opts.individual && !opts.combined {
            (opts.individual, opts.combined) = (true, true);
        }
        Ok(opts)
    }

    fn letters<'a>(
        &mut self,
        letters: &str,
        args: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), DockerOptsError> {
        let usage = |problem: String| DockerOptsError::Usage(problem);
        for (at, letter) in letters.char_indices() {
            match letter {
                'i' => self.individual = true,
                'c' => self.combined = true,
                'm' => self.masquerade = false,
                'f' | 'd' | 'k' => {
                    let rest = &letters[at + 1..];
                    let value = Some(rest.to_owned()).filter(|r| !r.is_empty());
                    let value = value.or_else(|| args.next().cloned());
                    let value = value.ok_or_else(|| usage(format!("option -{letter} needs a value")))?;
                    match letter {
                        'f' => self.subnet_file = value.into(),
                        'd' => self.docker_file = value.into(),
                        _ if is_name(&value) => self.key = value,
                        _ => return Err(usage(format!("{value:?} is no name of a variable"))),
                    }
                    return Ok(());
                }
                'h' | '?' => return Err(usage("help requested".into())),
                other => return Err(usage(format!("there is no option -{other}"))),
            }
        }
        Ok(())
    }

    /// The text of the file to write. `subnet` is the subnet file's text, if there is one; what the environment has
    /// of `DOCKER_OPT_…` and of the combined variable is taken along.
    ///
    /// # Errors
    /// [`DockerOptsError::Masquerade`].
    pub fn render(
        &self,
        subnet: Option<&str>,
        environment: &BTreeMap<String, String>,
    ) -> Result<String, DockerOptsError> {
        let mut variables = environment.clone();
        variables.extend(subnet.map(assignments).unwrap_or_default());
        let get = |key: &str| variables.get(key).cloned().filter(|v| !v.is_empty());
        let bip = get("FLANNEL_SUBNET").map(|v| format!("--bip={v}"));
        let mtu = get("FLANNEL_MTU").map(|v| format!("--mtu={v}"));
        let ipmasq = match get("FLANNEL_IPMASQ").filter(|_| self.masquerade).as_deref() {
            None => None,
            // One of the two masquerades.
            Some("true") => Some("--ip-masq=false".to_owned()),
            Some("false") => Some("--ip-masq=true".to_owned()),
            Some(other) => return Err(DockerOptsError::Masquerade(other.to_owned())),
        };
        let before = get(&self.key).map(|v| v + " ").unwrap_or_default();
        for (name, value) in [("BIP", bip), ("IPMASQ", ipmasq), ("MTU", mtu)] {
            if let Some(value) = value {
                variables.insert(format!("DOCKER_OPT_{name}"), value);
            }
        }
        let options = || {
            variables
                .iter()
                .filter(|(name, _)| name.starts_with("DOCKER_OPT_"))
        };
        let mut text = String::new();
        if self.individual {
            text.extend(options().map(|(name, value)| format!("{name}=\"{value}\"\n")));
        }
        if self.combined {
            let all: String = options().map(|(_, value)| format!(" {value}")).collect();
            text.push_str(&format!("{}=\"{before}{all}\"\n", self.key));
        }
        Ok(text)
    }
}

/// The assignments of a shell's file of variables: `NAME=value`, plain or in quotes.
fn assignments(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(|l| l.trim().trim_start_matches("export "));
    let pairs = lines
        .filter_map(|l| l.split_once('='))
        .filter(|(name, _)| is_name(name));
    pairs
        .map(|(name, value)| (name.to_owned(), unquoted(value.trim()).to_owned()))
        .collect()
}

fn unquoted(value: &str) -> &str {
    let within = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(value)
}

fn is_name(text: &str) -> bool {
    let first = text
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
