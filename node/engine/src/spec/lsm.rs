//! AppArmor profiles and SELinux labels, where the kernel has them.

use knode_cri::LinuxContainerSecurityContext;
use knode_cri::security_profile::ProfileType;

use super::SpecError;

/// Which security modules the running kernel enforces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityModules {
    /// Names of the loaded AppArmor profiles, `None` without AppArmor.
    pub apparmor: Option<Vec<String>>,
    /// SELinux is enabled.
    pub selinux: bool,
}

/// The AppArmor profile of a container, `None` for none. The newer field wins over the older one.
///
/// # Errors
/// A profile of the node's where the kernel has no AppArmor, or that is not loaded.
pub(super) fn apparmor(
    context: &LinuxContainerSecurityContext,
    modules: &SecurityModules,
) -> Result<Option<String>, SpecError> {
    #[allow(deprecated, reason = "kubelets before 1.30 send only this")]
    let older = context.apparmor_profile.strip_prefix("localhost/");
    let named = match &context.apparmor {
        Some(profile) if profile.profile_type() == ProfileType::Localhost => {
            Some(profile.localhost_ref.trim_start_matches("localhost/"))
        }
        Some(_) => None,
        None => older,
    };
    let Some(name) = named else { return Ok(None) };
    match &modules.apparmor {
        None => Err(SpecError::AppArmor {
            profile: name.into(),
            problem: "AppArmor is not supported by this kernel",
        }),
        Some(_) if context.privileged => Ok(None),
        Some(loaded) if loaded.iter().any(|other| other == name) => Ok(Some(name.into())),
        Some(_) => Err(SpecError::AppArmor {
            profile: name.into(),
            problem: "it is not loaded",
        }),
    }
}

/// Without SELinux labels mean nothing, and are passed over as upstream does.
///
/// # Errors
/// [`SpecError::Unsupported`] where the kernel would enforce what this engine does not set.
pub(super) fn selinux(
    context: &LinuxContainerSecurityContext,
    relabel: bool,
    modules: &SecurityModules,
) -> Result<(), SpecError> {
    if !modules.selinux {
        return Ok(());
    }
    if relabel {
        return Err(SpecError::Unsupported("relabelling a mount for SELinux".into()));
    }
    match &context.selinux_options {
        Some(options) if *options != Default::default() => {
            Err(SpecError::Unsupported("SELinux labels of a container".into()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use knode_cri::{SeLinuxOption, SecurityProfile};

    fn localhost(name: &str) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            apparmor: Some(SecurityProfile {
                profile_type: ProfileType::Localhost as i32,
                localhost_ref: name.into(),
            }),
            ..Default::default()
        }
    }

    fn with_apparmor() -> SecurityModules {
        SecurityModules {
            apparmor: Some(vec!["web".into()]),
            selinux: false,
        }
    }

    #[test]
    fn a_profile_must_be_there() {
        assert_eq!(
            apparmor(&localhost("web"), &with_apparmor()).unwrap().as_deref(),
            Some("web")
        );
        assert!(apparmor(&localhost("other"), &with_apparmor()).is_err());
        let error = apparmor(&localhost("web"), &SecurityModules::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "AppArmor profile \"web\": AppArmor is not supported by this kernel"
        );
    }

    #[test]
    fn the_older_field_counts_when_the_newer_is_missing() {
        #[allow(deprecated, reason = "this is about it")]
        let mut context = LinuxContainerSecurityContext {
            apparmor_profile: "localhost/web".into(),
            ..Default::default()
        };
        assert!(apparmor(&context, &with_apparmor()).unwrap().is_some());
        context.apparmor = Some(SecurityProfile::default());
        assert_eq!(apparmor(&context, &with_apparmor()).unwrap(), None);
    }

    #[test]
    fn labels_count_only_where_the_kernel_enforces_them() {
        let context = LinuxContainerSecurityContext {
            selinux_options: Some(SeLinuxOption {
                level: "s0:c1,c2".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert!(selinux(&context, true, &SecurityModules::default()).is_ok());
        let enforcing = SecurityModules {
            apparmor: None,
            selinux: true,
        };
        assert!(selinux(&context, false, &enforcing).is_err());
        assert!(selinux(&Default::default(), false, &enforcing).is_ok());
    }
}
