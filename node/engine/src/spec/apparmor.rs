//! AppArmor profiles, where the kernel has them.

use knode_cri::LinuxContainerSecurityContext;
use knode_cri::security_profile::ProfileType;

use super::SpecError;

/// The profile of containers that ask for the runtime's own, and of those that ask for none in particular.
pub const DEFAULT_PROFILE: &str = "knode-default";

/// A kernel's AppArmor, at this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppArmor {
    /// Names of the loaded profiles.
    pub profiles: Vec<String>,
    /// There is the program that loads others.
    pub loads: bool,
}

/// What a container asks for.
enum Asked<'a> {
    Unconfined,
    /// The runtime's own, in so many words or not.
    Default {
        named: bool,
    },
    /// A profile of the node's.
    Node(&'a str),
}

/// The AppArmor profile of a container, `None` for none, by the rules of containerd: the runtime's own is not for
/// privileged containers, and without AppArmor it is an error only where it was asked for. [`DEFAULT_PROFILE`] may have
/// to be loaded first.
///
/// # Errors
/// A profile where the kernel has no AppArmor, one of the node's that is not loaded, or the runtime's own where it cannot
/// be loaded.
pub(super) fn profile(
    context: &LinuxContainerSecurityContext,
    apparmor: Option<&AppArmor>,
) -> Result<Option<String>, SpecError> {
    let refuse = |profile: &str, problem| {
        Err(SpecError::AppArmor {
            profile: profile.into(),
            problem,
        })
    };
    match (asked(context)?, apparmor) {
        (Asked::Unconfined, _) | (Asked::Default { named: false }, None) => Ok(None),
        (Asked::Default { named: true }, None) => {
            refuse("RuntimeDefault", "AppArmor is not supported by this kernel")
        }
        (Asked::Node(name), None) => refuse(name, "AppArmor is not supported by this kernel"),
        (Asked::Default { .. }, _) if context.privileged => Ok(None),
        (Asked::Default { named }, Some(apparmor)) => {
            let known = apparmor.profiles.iter().any(|other| other == DEFAULT_PROFILE);
            match (known || apparmor.loads, named) {
                (true, _) => Ok(Some(DEFAULT_PROFILE.into())),
                // containerd confines nobody there either.
                (false, false) => Ok(None),
                (false, true) => refuse(
                    "RuntimeDefault",
                    "apparmor_parser, which loads it, is not installed",
                ),
            }
        }
        (Asked::Node(name), Some(apparmor)) => match apparmor.profiles.iter().any(|other| other == name) {
            true => Ok(Some(name.into())),
            false => refuse(name, "it is not loaded"),
        },
    }
}

/// The newer field wins over the older one.
fn asked(context: &LinuxContainerSecurityContext) -> Result<Asked<'_>, SpecError> {
    if let Some(profile) = &context.apparmor {
        return Ok(match profile.profile_type() {
            ProfileType::Unconfined => Asked::Unconfined,
            ProfileType::RuntimeDefault => Asked::Default { named: true },
            ProfileType::Localhost => Asked::Node(profile.localhost_ref.trim_start_matches("localhost/")),
        });
    }
    #[allow(deprecated, reason = "kubelets before 1.30 send only this")]
    let older = context.apparmor_profile.as_str();
    match older {
        "" => Ok(Asked::Default { named: false }),
        "runtime/default" => Ok(Asked::Default { named: true }),
        "unconfined" => Ok(Asked::Unconfined),
        _ => older
            .strip_prefix("localhost/")
            .map(Asked::Node)
            .ok_or_else(|| SpecError::AppArmor {
                profile: older.into(),
                problem: "neither runtime/default, unconfined nor localhost/<name>",
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use knode_cri::SecurityProfile;

    fn localhost(name: &str) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            apparmor: Some(SecurityProfile {
                profile_type: ProfileType::Localhost as i32,
                localhost_ref: name.into(),
            }),
            ..Default::default()
        }
    }

    fn with_apparmor(loads: bool) -> AppArmor {
        AppArmor {
            profiles: vec!["web".into()],
            loads,
        }
    }

    fn of_type(kind: ProfileType) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            apparmor: Some(SecurityProfile {
                profile_type: kind as i32,
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn a_profile_must_be_there() {
        let there = with_apparmor(true);
        assert_eq!(
            super::profile(&localhost("web"), Some(&there))
                .unwrap()
                .as_deref(),
            Some("web")
        );
        let privileged = LinuxContainerSecurityContext {
            privileged: true,
            ..localhost("web")
        };
        assert_eq!(
            super::profile(&privileged, Some(&there)).unwrap().as_deref(),
            Some("web")
        );
        assert!(super::profile(&localhost("other"), Some(&there)).is_err());
        let error = super::profile(&localhost("web"), None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "AppArmor profile \"web\": AppArmor is not supported by this kernel"
        );
    }

    #[test]
    fn the_runtimes_own_is_for_all_who_ask_for_nothing_else() {
        let unsaid = LinuxContainerSecurityContext::default();
        let asked = of_type(ProfileType::RuntimeDefault);
        for context in [&unsaid, &asked] {
            let privileged = LinuxContainerSecurityContext {
                privileged: true,
                ..context.clone()
            };
            let own = super::profile(context, Some(&with_apparmor(true))).unwrap();
            assert_eq!(own.as_deref(), Some(DEFAULT_PROFILE));
            assert_eq!(
                super::profile(&privileged, Some(&with_apparmor(true))).unwrap(),
                None
            );
        }
        assert_eq!(super::profile(&unsaid, None).unwrap(), None);
        assert_eq!(
            super::profile(&unsaid, Some(&with_apparmor(false))).unwrap(),
            None
        );
        assert!(super::profile(&asked, None).is_err());
        let error = super::profile(&asked, Some(&with_apparmor(false)))
            .unwrap_err()
            .to_string();
        assert!(error.contains("apparmor_parser"), "{error}");
        let unconfined = of_type(ProfileType::Unconfined);
        assert_eq!(
            super::profile(&unconfined, Some(&with_apparmor(true))).unwrap(),
            None
        );
        assert_eq!(super::profile(&unconfined, None).unwrap(), None);
    }

    #[test]
    fn the_older_field_counts_when_the_newer_is_missing() {
        #[allow(deprecated, reason = "this is about it")]
        let older = |profile: &str| LinuxContainerSecurityContext {
            apparmor_profile: profile.into(),
            ..Default::default()
        };
        let of = |profile| super::profile(&older(profile), Some(&with_apparmor(true)));
        assert_eq!(of("localhost/web").unwrap().as_deref(), Some("web"));
        assert_eq!(of("runtime/default").unwrap().as_deref(), Some(DEFAULT_PROFILE));
        assert_eq!(of("unconfined").unwrap(), None);
        assert!(of("web").is_err());
        let both = LinuxContainerSecurityContext {
            apparmor: of_type(ProfileType::Unconfined).apparmor,
            ..older("localhost/web")
        };
        assert_eq!(super::profile(&both, Some(&with_apparmor(true))).unwrap(), None);
    }
}
