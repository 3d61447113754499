//! SELinux labels of pods and containers, by the rules of containerd. Pure.

use std::fmt;

use knode_cri::{ContainerConfig, PodSandboxConfig, SeLinuxOption};
use serde::{Deserialize, Serialize};

use super::SpecError;

/// What one pod or container is labelled with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Of its processes.
    pub process: String,
    /// Of its files.
    pub file: String,
}

impl Labels {
    /// The level that keeps it apart from others, `None` where the policy has no levels.
    pub fn level(&self) -> Option<&str> {
        self.process.splitn(4, ':').nth(3)
    }
}

/// A security context: `user:role:type[:level]`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SecurityContext {
    user: String,
    role: String,
    kind: String,
    level: Option<String>,
}

impl SecurityContext {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        let context = Self {
            user: parts.next()?,
            role: parts.next()?,
            kind: parts.next()?,
            level: parts.next(),
        };
        let named = [&context.user, &context.role, &context.kind];
        named.iter().all(|part| !part.is_empty()).then_some(context)
    }
}

impl fmt::Display for SecurityContext {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}:{}", self.user, self.role, self.kind)?;
        match &self.level {
            Some(level) => write!(out, ":{level}"),
            None => Ok(()),
        }
    }
}

/// The contexts that a node's policy has for containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    process: SecurityContext,
    file: SecurityContext,
}

impl Policy {
    /// Reads the policy's `lxc_contexts`; `None` if it does not say what processes and files of containers are.
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self {
            process: SecurityContext::parse(setting(text, "process")?)?,
            file: SecurityContext::parse(setting(text, "file")?)?,
        })
    }

    /// The labels of what asks for `options`. Where these name no level and the policy has levels, it is given the one
    /// that `fresh` makes.
    ///
    /// # Errors
    /// A level that is none.
    pub fn labels(
        &self,
        options: &SeLinuxOption,
        fresh: impl FnOnce() -> String,
    ) -> Result<Labels, SpecError> {
        if !options.level.is_empty() && !is_level(&options.level) {
            return Err(SpecError::SelinuxLevel(options.level.clone()));
        }
        let (mut process, mut file) = (self.process.clone(), self.file.clone());
        let level = match options.level.as_str() {
            "" => process.level.is_some().then(fresh),
            level => Some(level.to_owned()),
        };
        for (part, given) in [
            (&mut process.user, &options.user),
            (&mut process.role, &options.role),
            (&mut process.kind, &options.r#type),
            (&mut file.user, &options.user),
        ] {
            if !given.is_empty() {
                part.clone_from(given);
            }
        }
        if level.is_some() {
            (process.level, file.level) = (level.clone(), level);
        }
        Ok(Labels {
            process: process.to_string(),
            file: file.to_string(),
        })
    }
}

/// The value of a setting in a file of `name = "value"` lines, as SELinux's are.
pub fn setting<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().map(str::trim);
    let mut settings = lines
        .filter(|line| !line.starts_with(['#', ';']))
        .filter_map(|line| line.split_once('='));
    let (_, value) = settings.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().trim_matches('"'))
}

/// What a sandbox asks for.
pub fn asked_by_sandbox(config: &PodSandboxConfig) -> SeLinuxOption {
    let linux = config.linux.as_ref();
    let context = linux.and_then(|linux| linux.security_context.as_ref());
    context
        .and_then(|context| context.selinux_options.clone())
        .unwrap_or_default()
}

/// What a container asks for: what its configuration says, else what its sandbox has.
pub fn asked_by_container(config: &ContainerConfig, sandbox: Option<&Labels>) -> SeLinuxOption {
    let own = super::security_context(config).selinux_options;
    let own = own.unwrap_or_default();
    let of_sandbox = || SecurityContext::parse(&sandbox?.process);
    match of_sandbox() {
        Some(context) if own == SeLinuxOption::default() => SeLinuxOption {
            user: context.user,
            role: context.role,
            r#type: context.kind,
            level: context.level.unwrap_or_default(),
        },
        _ => own,
    }
}

/// `s<digit>`, perhaps a range of two, and perhaps categories: `s0-s0:c1.c4,c7`.
fn is_level(text: &str) -> bool {
    let (sensitivities, categories) = match text.split_once(':') {
        Some((sensitivities, categories)) => (sensitivities, Some(categories)),
        None => (text, None),
    };
    let sensitivity = |text: &str| number(text, 's', 1);
    let range = match sensitivities.split_once('-') {
        Some((low, high)) => sensitivity(low) && sensitivity(high),
        None => sensitivity(sensitivities),
    };
    let category = |text: &str| number(text, 'c', 4);
    let categories = categories.is_none_or(|list| {
        list.split(',').all(|one| match one.split_once('.') {
            Some((first, last)) => category(first) && category(last),
            None => category(one),
        })
    });
    range && categories
}

fn number(text: &str, letter: char, digits: usize) -> bool {
    text.strip_prefix(letter).is_some_and(|rest| {
        (1..=digits).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXTS: &str = "# what the policy says\nprocess = \"system_u:system_r:container_t:s0\"\n\
                            ro_file=\"system_u:object_r:container_ro_file_t:s0\"\n\
                            file = \"system_u:object_r:container_file_t:s0\"\n";

    fn policy() -> Policy {
        Policy::parse(CONTEXTS).unwrap()
    }

    fn of(user: &str, kind: &str, level: &str) -> SeLinuxOption {
        SeLinuxOption {
            user: user.into(),
            role: String::new(),
            r#type: kind.into(),
            level: level.into(),
        }
    }

    fn labels(options: &SeLinuxOption) -> (String, String) {
        let labels = policy().labels(options, || "s0:c1,c2".into()).unwrap();
        (labels.process, labels.file)
    }

    #[test]
    fn who_asks_for_nothing_has_a_level_of_its_own() {
        assert_eq!(
            labels(&SeLinuxOption::default()),
            (
                "system_u:system_r:container_t:s0:c1,c2".into(),
                "system_u:object_r:container_file_t:s0:c1,c2".into()
            )
        );
        let without = Policy::parse("process=a:b:c\nfile=a:d:e").unwrap();
        let of_it = without.labels(&SeLinuxOption::default(), || "s0:c1,c2".into());
        let of_it = of_it.unwrap();
        assert_eq!((of_it.process.as_str(), of_it.file.as_str()), ("a:b:c", "a:d:e"));
        assert_eq!(of_it.level(), None);
    }

    #[test]
    fn files_follow_in_user_and_level() {
        assert_eq!(
            labels(&of("me_u", "web_t", "s0:c7")),
            (
                "me_u:system_r:web_t:s0:c7".into(),
                "me_u:object_r:container_file_t:s0:c7".into()
            )
        );
        let (process, _) = labels(&of("", "spc_t", ""));
        assert_eq!(process, "system_u:system_r:spc_t:s0:c1,c2");
    }

    #[test]
    fn a_container_that_asks_for_nothing_is_as_its_sandbox() {
        let sandbox = policy().labels(&of("", "", "s0:c3,c4"), || unreachable!("it names one"));
        let sandbox = sandbox.unwrap();
        assert_eq!(sandbox.level(), Some("s0:c3,c4"));
        let nothing = asked_by_container(&ContainerConfig::default(), Some(&sandbox));
        assert_eq!(policy().labels(&nothing, || unreachable!()).unwrap(), sandbox);
        let own = of("", "web_t", "");
        let mut config = ContainerConfig::default();
        let linux = config.linux.get_or_insert_default();
        linux.security_context.get_or_insert_default().selinux_options = Some(own.clone());
        assert_eq!(asked_by_container(&config, Some(&sandbox)), own);
        assert_eq!(
            asked_by_container(&ContainerConfig::default(), None),
            of("", "", "")
        );
    }

    #[test]
    fn levels_are_checked() {
        for good in ["s0", "s0:c1", "s0-s0:c0.c1023", "s0:c1,c2.c5", "s1-s9"] {
            assert!(is_level(good), "{good}");
        }
        for bad in [
            "s",
            "s10",
            "c1",
            "s0:",
            "s0:c12345",
            "s0:c1,",
            "s0-",
            "s0:x",
            "s0 ",
        ] {
            assert!(!is_level(bad), "{bad}");
        }
        let refused = policy().labels(&of("", "", "high"), || unreachable!());
        assert_eq!(
            refused.unwrap_err().to_string(),
            "SELinux level \"high\" is none: s<0-9>[-s<0-9>][:c<n>[.c<n>][,…]]"
        );
    }

    #[test]
    fn policies_that_do_not_know_of_containers_label_nothing() {
        assert_eq!(Policy::parse("file = \"a:b:c\"\n"), None);
        assert_eq!(Policy::parse("process = \"a:b\"\nfile = \"a:b:c\"\n"), None);
        assert_eq!(
            setting("#SELINUXTYPE=x\nSELINUXTYPE=targeted\n", "SELINUXTYPE"),
            Some("targeted")
        );
    }
}
