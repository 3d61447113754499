//! Security contexts (upstream: `kuberuntime/security_context_linux.go`, `pkg/securitycontext`).

use k8s_openapi::api::core::v1::{
    AppArmorProfile, Capabilities, Container, Pod, SELinuxOptions, SeccompProfile, SecurityContext,
};
use knode_cri as cri;

use crate::error::ConfigError;
use crate::pod::PodExt;

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Before the name of a container: its AppArmor profile, in pods older than the field.
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// The user that the image names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageUser {
    /// By number.
    Id(i64),
    /// By name.
    Name(String),
}

/// The namespaces that the pod shares with the node or within itself.
pub fn namespaces(pod: &Pod) -> cri::NamespaceOption {
    let spec = pod.spec();
    let node = |shared: Option<bool>, own| match shared {
        Some(true) => cri::NamespaceMode::Node as i32,
        _ => own as i32,
    };
    let shared_pid = spec
        .and_then(|spec| spec.share_process_namespace)
        .unwrap_or(false);
    let own_pid = if shared_pid {
        cri::NamespaceMode::Pod
    } else {
        cri::NamespaceMode::Container
    };
    cri::NamespaceOption {
        network: node(spec.and_then(|spec| spec.host_network), cri::NamespaceMode::Pod),
        pid: node(spec.and_then(|spec| spec.host_pid), own_pid),
        ipc: node(spec.and_then(|spec| spec.host_ipc), cri::NamespaceMode::Pod),
        target_id: String::new(),
        userns_options: Some(cri::UserNamespace {
            mode: cri::NamespaceMode::Node as i32,
            ..cri::UserNamespace::default()
        }),
    }
}

fn id(value: i64) -> cri::Int64Value {
    cri::Int64Value { value }
}

/// Security of the pod's sandbox.
///
/// # Errors
/// What is asked for and not implemented.
pub fn of_sandbox(pod: &Pod) -> Result<cri::LinuxSandboxSecurityContext, ConfigError> {
    let spec = pod.spec();
    let context = spec.and_then(|spec| spec.security_context.as_ref());
    let privileged = pod.all_containers().any(|(_, one)| {
        one.security_context
            .as_ref()
            .and_then(|context| context.privileged)
            .unwrap_or(false)
    });
    let mut groups: Vec<i64> = context
        .and_then(|context| context.supplemental_groups.clone())
        .unwrap_or_default();
    groups.extend(context.and_then(|context| context.fs_group));
    Ok(cri::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod)),
        run_as_user: context.and_then(|context| context.run_as_user).map(id),
        run_as_group: context.and_then(|context| context.run_as_group).map(id),
        supplemental_groups: groups,
        supplemental_groups_policy: groups_policy(pod),
        privileged,
        selinux_options: context
            .and_then(|context| context.se_linux_options.as_ref())
            .map(selinux),
        // The sandbox itself always runs with the runtime's own profile.
        seccomp: Some(cri::SecurityProfile::default()),
        ..cri::LinuxSandboxSecurityContext::default()
    })
}

fn groups_policy(pod: &Pod) -> i32 {
    let context = pod.spec().and_then(|spec| spec.security_context.as_ref());
    match context.and_then(|context| context.supplemental_groups_policy.as_deref()) {
        Some("Strict") => cri::SupplementalGroupsPolicy::Strict as i32,
        _ => cri::SupplementalGroupsPolicy::Merge as i32,
    }
}

/// Security of a container; `image_user` is the one its image names.
///
/// # Errors
/// [`ConfigError::Root`] and its kin if the container must not run as root and would.
pub fn of_container(
    pod: &Pod,
    container: &Container,
    image_user: Option<&ImageUser>,
    seccomp_root: &str,
) -> Result<cri::LinuxContainerSecurityContext, ConfigError> {
    let shared = pod.spec().and_then(|spec| spec.security_context.as_ref());
    let none = SecurityContext::default();
    let own = container.security_context.as_ref().unwrap_or(&none);
    let user = own.run_as_user.or(shared.and_then(|shared| shared.run_as_user));
    let group = own.run_as_group.or(shared.and_then(|shared| shared.run_as_group));
    let non_root = own
        .run_as_non_root
        .or(shared.and_then(|shared| shared.run_as_non_root))
        .unwrap_or(false);
    if non_root {
        verify_non_root(pod, container, user, image_user)?;
    }
    let privileged = own.privileged.unwrap_or(false);
    let profile = own
        .seccomp_profile
        .as_ref()
        .or(shared.and_then(|shared| shared.seccomp_profile.as_ref()));
    let mut groups: Vec<i64> = shared
        .and_then(|shared| shared.supplemental_groups.clone())
        .unwrap_or_default();
    groups.extend(shared.and_then(|shared| shared.fs_group));
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let list = |paths: &[&str]| match unmasked {
        true => Vec::new(),
        false => paths.iter().map(|path| (*path).to_owned()).collect(),
    };
    let labels = own
        .se_linux_options
        .as_ref()
        .or(shared.and_then(|shared| shared.se_linux_options.as_ref()));
    let apparmor = apparmor_profile(pod, container);
    let (run_as_user, run_as_username) = effective_user(user, image_user);
    #[allow(deprecated, reason = "older runtimes read only this")]
    Ok(cri::LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(capabilities),
        privileged,
        namespace_options: Some(namespaces(pod)),
        run_as_user,
        run_as_group: group.map(id),
        run_as_username,
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups,
        supplemental_groups_policy: groups_policy(pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: list(&MASKED),
        readonly_paths: list(&READ_ONLY),
        seccomp: Some(seccomp(profile, privileged, seccomp_root)),
        selinux_options: labels.map(selinux),
        apparmor_profile: apparmor.as_ref().map(older_name).unwrap_or_default(),
        apparmor: apparmor.map(|profile| profile.into_cri()),
        ..cri::LinuxContainerSecurityContext::default()
    })
}

/// The user of the specification, else the image's, else root.
fn effective_user(user: Option<i64>, image: Option<&ImageUser>) -> (Option<cri::Int64Value>, String) {
    match (user, image) {
        (Some(user), _) => (Some(id(user)), String::new()),
        (None, Some(ImageUser::Name(name))) => (None, name.clone()),
        (None, Some(ImageUser::Id(uid))) => (Some(id(*uid)), String::new()),
        (None, None) => (Some(id(0)), String::new()),
    }
}

fn verify_non_root(
    pod: &Pod,
    container: &Container,
    user: Option<i64>,
    image: Option<&ImageUser>,
) -> Result<(), ConfigError> {
    let subject = || format!("pod: \"{}\", container: {}", pod.full_name(), container.name);
    match (user, image) {
        (Some(0), _) => Err(ConfigError::RunsAsRoot(subject())),
        (Some(_), _) => Ok(()),
        (None, Some(ImageUser::Name(name))) => Err(ConfigError::NamedUser(name.clone(), subject())),
        (None, Some(ImageUser::Id(uid))) if *uid != 0 => Ok(()),
        (None, _) => Err(ConfigError::ImageRunsAsRoot(subject())),
    }
}

fn capabilities(asked: &Capabilities) -> cri::Capability {
    cri::Capability {
        add_capabilities: asked.add.clone().unwrap_or_default(),
        drop_capabilities: asked.drop.clone().unwrap_or_default(),
        add_ambient_capabilities: Vec::new(),
    }
}

fn selinux(asked: &SELinuxOptions) -> cri::SeLinuxOption {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    cri::SeLinuxOption {
        user: text(&asked.user),
        role: text(&asked.role),
        r#type: text(&asked.type_),
        level: text(&asked.level),
    }
}

/// An AppArmor profile that a pod asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Profile {
    Unconfined,
    RuntimeDefault,
    Node(String),
}

impl Profile {
    fn of(field: &AppArmorProfile) -> Self {
        match field.type_.as_str() {
            "Unconfined" => Self::Unconfined,
            "Localhost" => Self::Node(field.localhost_profile.clone().unwrap_or_default()),
            _ => Self::RuntimeDefault,
        }
    }

    fn of_annotation(text: &str) -> Option<Self> {
        match text {
            "unconfined" => Some(Self::Unconfined),
            "runtime/default" => Some(Self::RuntimeDefault),
            _ => Some(Self::Node(text.strip_prefix("localhost/")?.to_owned())),
        }
    }

    fn into_cri(self) -> cri::SecurityProfile {
        use cri::security_profile::ProfileType;
        let (kind, name) = match self {
            Self::Unconfined => (ProfileType::Unconfined, String::new()),
            Self::RuntimeDefault => (ProfileType::RuntimeDefault, String::new()),
            Self::Node(name) => (ProfileType::Localhost, name),
        };
        cri::SecurityProfile {
            profile_type: kind as i32,
            localhost_ref: name,
        }
    }
}

/// As runtimes before 1.30 are told.
fn older_name(profile: &Profile) -> String {
    match profile {
        Profile::Unconfined => "unconfined".to_owned(),
        Profile::RuntimeDefault => "runtime/default".to_owned(),
        Profile::Node(name) => format!("localhost/{name}"),
    }
}

/// The container's profile: its own, else that of the annotation that was its place before, else the pod's
/// (upstream: `pkg/security/apparmor`).
fn apparmor_profile(pod: &Pod, container: &Container) -> Option<Profile> {
    let own = container.security_context.as_ref();
    if let Some(field) = own.and_then(|own| own.app_armor_profile.as_ref()) {
        return Some(Profile::of(field));
    }
    let annotations = pod.metadata.annotations.as_ref();
    let key = format!("{APPARMOR_ANNOTATION}{}", container.name);
    let older = annotations.and_then(|all| all.get(&key));
    let shared = || pod.spec()?.security_context.as_ref()?.app_armor_profile.as_ref();
    older
        .and_then(|text| Profile::of_annotation(text))
        .or_else(|| shared().map(Profile::of))
}

/// What of AppArmor the pod asks for that cannot be, as upstream says it; `there` is whether the machine has AppArmor.
pub fn unenforceable_apparmor(pod: &Pod, there: bool) -> Option<String> {
    let mut profiles = pod
        .all_containers()
        .filter_map(|(_, container)| apparmor_profile(pod, container))
        .filter(|profile| *profile != Profile::Unconfined)
        .peekable();
    profiles.peek()?;
    if !there {
        return Some("Cannot enforce AppArmor: AppArmor is not enabled on the host".to_owned());
    }
    let nameless = |profile| matches!(profile, Profile::Node(name) if name.trim().is_empty());
    profiles
        .any(nameless)
        .then(|| "Cannot enforce AppArmor: invalid empty AppArmor profile name".to_owned())
}

fn seccomp(profile: Option<&SeccompProfile>, privileged: bool, root: &str) -> cri::SecurityProfile {
    use cri::security_profile::ProfileType;
    let of = |kind: ProfileType, reference: String| cri::SecurityProfile {
        profile_type: kind as i32,
        localhost_ref: reference,
    };
    match profile.map(|profile| (profile.type_.as_str(), profile)) {
        _ if privileged => of(ProfileType::Unconfined, String::new()),
        Some(("RuntimeDefault", _)) => of(ProfileType::RuntimeDefault, String::new()),
        Some(("Localhost", profile)) => {
            let name = profile.localhost_profile.as_deref().unwrap_or_default();
            of(
                ProfileType::Localhost,
                format!("{}/{name}", root.trim_end_matches('/')),
            )
        }
        _ => of(ProfileType::Unconfined, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        let key = format!("{APPARMOR_ANNOTATION}old");
        let value =
            json!({"metadata": {"name": "p", "annotations": {key: "localhost/strict"}}, "spec": spec});
        serde_json::from_value(value).unwrap()
    }

    fn container(pod: &Pod, index: usize) -> cri::LinuxContainerSecurityContext {
        of_container(pod, &pod.spec.as_ref().unwrap().containers[index], None, "/p").unwrap()
    }

    #[test]
    fn labels_are_the_containers_else_the_pods() {
        let pod = pod(
            json!({"securityContext": {"seLinuxOptions": {"level": "s0:c1", "type": "a_t"}}, "containers": [
            {"name": "a"}, {"name": "b", "securityContext": {"seLinuxOptions": {"level": "s0:c2", "user": "u"}}}]}),
        );
        let sandbox = of_sandbox(&pod).unwrap().selinux_options.unwrap();
        let own = container(&pod, 0).selinux_options.unwrap();
        assert_eq!((own.level.as_str(), own.r#type.as_str()), ("s0:c1", "a_t"));
        assert_eq!(own, sandbox);
        let own = container(&pod, 1).selinux_options.unwrap();
        assert_eq!(
            (own.level.as_str(), own.r#type.as_str(), own.user.as_str()),
            ("s0:c2", "", "u")
        );
    }

    #[test]
    fn profiles_are_the_containers_else_the_annotations_else_the_pods() {
        use cri::security_profile::ProfileType;
        let pod = pod(
            json!({"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}, "containers": [
            {"name": "none"}, {"name": "old"},
            {"name": "own", "securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": "web"}}},
            {"name": "free", "securityContext": {"appArmorProfile": {"type": "Unconfined"}}}]}),
        );
        let of = |index| {
            let profile = apparmor_profile(&pod, &pod.spec.as_ref().unwrap().containers[index]).unwrap();
            let older = older_name(&profile);
            let newer = profile.into_cri();
            (newer.profile_type(), newer.localhost_ref, older)
        };
        assert_eq!(
            of(0),
            (
                ProfileType::RuntimeDefault,
                String::new(),
                "runtime/default".into()
            )
        );
        assert_eq!(
            of(1),
            (ProfileType::Localhost, "strict".into(), "localhost/strict".into())
        );
        assert_eq!(
            of(2),
            (ProfileType::Localhost, "web".into(), "localhost/web".into())
        );
        assert_eq!(
            of(3),
            (ProfileType::Unconfined, String::new(), "unconfined".into())
        );
        assert_eq!(container(&pod, 2).apparmor.unwrap().localhost_ref, "web");
    }

    #[test]
    fn pods_that_ask_for_apparmor_need_it() {
        let plain = json!({"containers": [{"name": "a"}]});
        assert_eq!(unenforceable_apparmor(&pod(plain), false), None);
        let free = json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}, "containers": [{"name": "a"}]});
        assert_eq!(unenforceable_apparmor(&pod(free), false), None);
        let asking = json!({"containers": [], "initContainers": [
            {"name": "i", "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}]});
        assert_eq!(unenforceable_apparmor(&pod(asking.clone()), true), None);
        let refused = unenforceable_apparmor(&pod(asking), false).unwrap();
        assert_eq!(
            refused,
            "Cannot enforce AppArmor: AppArmor is not enabled on the host"
        );
        let nameless = json!({"containers": [
            {"name": "a", "securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": " "}}}]});
        assert!(unenforceable_apparmor(&pod(nameless), true).is_some());
    }
}
