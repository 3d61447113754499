//! Devices of the Container Device Interface (version 1.0): which changes of a container a name stands for.
//! Pure; the files are read by whoever has the machine.

use std::collections::BTreeSet;

use oci_spec::runtime::{Hook, HookBuilder, Hooks, Mount, MountBuilder};
use serde::Deserialize;

use super::SpecError;

/// Annotations whose values name devices, an older way than `cdi_devices`.
const ANNOTATIONS: &str = "cdi.k8s.io/";

/// One file of a CDI directory.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiSpec {
    /// Vendor and class, `vendor.com/class`.
    pub kind: String,
    /// The devices.
    pub devices: Vec<CdiDevice>,
    /// Changes that come with any of them.
    pub container_edits: ContainerEdits,
}

/// A device of a file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiDevice {
    /// Name within its kind.
    pub name: String,
    /// Changes that it stands for.
    pub container_edits: ContainerEdits,
}

/// Changes of a container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerEdits {
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Device nodes.
    pub device_nodes: Vec<DeviceNode>,
    /// Programs to run.
    pub hooks: Vec<CdiHook>,
    /// Mounts.
    pub mounts: Vec<CdiMount>,
    /// Groups of the container's process.
    #[serde(rename = "additionalGids")]
    pub additional_gids: Vec<u32>,
    /// Not done here.
    pub intel_rdt: Option<serde_json::Value>,
    /// Not done here.
    pub net_devices: Vec<serde_json::Value>,
}

/// A device node; what is not said is as on the host.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceNode {
    /// Path in the container.
    pub path: String,
    /// Path on the host, the same if empty.
    pub host_path: String,
    /// What the control group allows, of `rwm`.
    pub permissions: String,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Permission bits.
    pub file_mode: Option<u32>,
}

/// A program to run at a point of a container's life.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiHook {
    /// The point, as the OCI names it.
    pub hook_name: String,
    /// The program.
    pub path: String,
    /// Its words, the program first.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<String>,
    /// Most seconds that it may run.
    pub timeout: Option<i64>,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CdiMount {
    /// Source.
    pub host_path: String,
    /// Where.
    pub container_path: String,
    /// As of mount(8).
    pub options: Vec<String>,
    /// File system, a bind mount if empty.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The devices that a container asks for, each once.
pub fn wanted(config: &knode_cri::ContainerConfig) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let listed = config.cdi_devices.iter().map(|device| device.name.clone());
    let mut noted: Vec<_> = config
        .annotations
        .iter()
        .filter(|(key, _)| key.starts_with(ANNOTATIONS))
        .collect();
    noted.sort();
    let noted = noted
        .into_iter()
        .flat_map(|(_, value)| value.split(',').map(str::to_string));
    listed
        .chain(noted)
        .filter(|name| seen.insert(name.clone()))
        .collect()
}

/// Finds what the names stand for. `directories` are in rising precedence, each with its files.
///
/// # Errors
/// [`SpecError::Cdi`] names every device that is unknown, or known twice in one directory.
pub fn resolve(names: &[String], directories: &[Vec<CdiSpec>]) -> Result<Vec<ContainerEdits>, SpecError> {
    let mut edits = Vec::new();
    let mut unknown = Vec::new();
    let mut files: Vec<*const CdiSpec> = Vec::new();
    for name in names {
        match find(name, directories) {
            Some((file, device)) => {
                if !files.contains(&std::ptr::from_ref(file)) {
                    files.push(file);
                    edits.push(file.container_edits.clone());
                }
                edits.push(device.container_edits.clone());
            }
            None => unknown.push(name.as_str()),
        }
    }
    if !unknown.is_empty() {
        return Err(SpecError::Cdi(unknown.join(", ")));
    }
    edits.iter().try_for_each(check)?;
    Ok(edits)
}

fn find<'a>(name: &str, directories: &'a [Vec<CdiSpec>]) -> Option<(&'a CdiSpec, &'a CdiDevice)> {
    let (kind, device) = name.split_once('=')?;
    for directory in directories.iter().rev() {
        let mut found = directory
            .iter()
            .filter(|file| file.kind == kind)
            .flat_map(|file| file.devices.iter().map(move |device| (file, device)))
            .filter(|(_, candidate)| candidate.name == device);
        match (found.next(), found.next()) {
            (Some(only), None) => return Some(only),
            (Some(_), Some(_)) => return None,
            (None, _) => {}
        }
    }
    None
}

fn check(edits: &ContainerEdits) -> Result<(), SpecError> {
    let unsupported = |what: &str| Err(SpecError::Unsupported(what.to_string()));
    if edits.intel_rdt.is_some() {
        return unsupported("intelRdt of a CDI device");
    }
    if !edits.net_devices.is_empty() {
        return unsupported("netDevices of a CDI device");
    }
    // The OCI's hook after the end: nobody would run it here.
    if edits.hooks.iter().any(|hook| hook.hook_name == "poststop") {
        return unsupported("a poststop hook of a CDI device");
    }
    Ok(())
}

/// The mounts of all edits.
///
/// # Errors
/// Those of building a specification.
pub(super) fn mounts(edits: &[ContainerEdits]) -> Result<Vec<Mount>, SpecError> {
    let one = |mount: &CdiMount| {
        let mut options = mount.options.clone();
        let bind = mount.kind.is_empty() || mount.kind == "bind";
        if bind && !options.iter().any(|option| option == "bind" || option == "rbind") {
            options.push("rbind".into());
        }
        Ok(MountBuilder::default()
            .destination(super::paths::normal(&mount.container_path))
            .typ(if bind { "bind" } else { &mount.kind })
            .source(&mount.host_path)
            .options(options)
            .build()?)
    };
    edits.iter().flat_map(|edit| &edit.mounts).map(one).collect()
}

/// The hooks of all edits, `None` without any.
///
/// # Errors
/// [`SpecError::Unsupported`] for a point that does not exist.
pub(super) fn hooks(edits: &[ContainerEdits]) -> Result<Option<Hooks>, SpecError> {
    let mut all = Hooks::default();
    let mut any = false;
    for hook in edits.iter().flat_map(|edit| &edit.hooks) {
        any = true;
        let made = build(hook)?;
        let with = |list: &Option<Vec<Hook>>| {
            let mut list = list.clone().unwrap_or_default();
            list.push(made.clone());
            Some(list)
        };
        match hook.hook_name.as_str() {
            "createRuntime" => all.set_create_runtime(with(all.create_runtime())),
            "createContainer" => all.set_create_container(with(all.create_container())),
            "startContainer" => all.set_start_container(with(all.start_container())),
            "poststart" => all.set_poststart(with(all.poststart())),
            #[allow(deprecated, reason = "CDI files still name it")]
            "prestart" => all.set_prestart(with(all.prestart())),
            other => return Err(SpecError::Unsupported(format!("hook {other:?} of a CDI device"))),
        };
    }
    Ok(any.then_some(all))
}

fn build(hook: &CdiHook) -> Result<Hook, SpecError> {
    let mut builder = HookBuilder::default()
        .path(&hook.path)
        .args(hook.args.clone())
        .env(hook.env.clone());
    if let Some(timeout) = hook.timeout {
        builder = builder.timeout(timeout);
    }
    Ok(builder.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> CdiSpec {
        serde_json::from_str(text).unwrap()
    }

    fn vendor(value: &str) -> CdiSpec {
        file(&format!(
            r#"{{"cdiVersion":"0.6.0","kind":"v.com/gpu","containerEdits":{{"env":["ALL=1"]}},
                "devices":[{{"name":"0","containerEdits":{{"env":["GPU={value}"]}}}}, {{"name":"1"}}]}}"#
        ))
    }

    #[test]
    fn a_name_stands_for_its_device_and_what_all_of_the_file_share() {
        let edits = resolve(
            &["v.com/gpu=0".into(), "v.com/gpu=1".into()],
            &[vec![vendor("a")]],
        )
        .unwrap();
        let env: Vec<_> = edits.iter().flat_map(|edit| edit.env.clone()).collect();
        assert_eq!(env, ["ALL=1", "GPU=a"]);
    }

    #[test]
    fn later_directories_win_and_twice_in_one_is_nothing() {
        let of = |directories: &[Vec<CdiSpec>]| {
            resolve(&["v.com/gpu=0".into()], directories).map(|edits| edits[1].env[0].clone())
        };
        assert_eq!(
            of(&[vec![vendor("etc")], vec![vendor("run")]]).unwrap(),
            "GPU=run"
        );
        let error = of(&[vec![vendor("a"), vendor("b")]]).unwrap_err();
        assert_eq!(error.to_string(), "unresolvable CDI devices v.com/gpu=0");
    }

    #[test]
    fn unknown_names_are_all_named() {
        let error = resolve(&["x".into(), "v.com/gpu=9".into()], &[vec![vendor("a")]]).unwrap_err();
        assert_eq!(error.to_string(), "unresolvable CDI devices x, v.com/gpu=9");
    }

    #[test]
    fn annotations_name_devices_too() {
        let config = knode_cri::ContainerConfig {
            cdi_devices: vec![knode_cri::CdiDevice {
                name: "v.com/gpu=0".into(),
            }],
            annotations: [
                ("cdi.k8s.io/x".to_string(), "v.com/gpu=0,v.com/gpu=1".to_string()),
                ("other".to_string(), "v.com/gpu=2".to_string()),
            ]
            .into(),
            ..Default::default()
        };
        assert_eq!(wanted(&config), ["v.com/gpu=0", "v.com/gpu=1"]);
    }

    #[test]
    fn hooks_go_where_they_are_named_for() {
        let edits = file(
            r#"{"containerEdits":{"hooks":[{"hookName":"createContainer","path":"/bin/x","args":["x","y"]}]}}"#,
        )
        .container_edits;
        let all = hooks(std::slice::from_ref(&edits)).unwrap().unwrap();
        assert_eq!(all.create_container().as_ref().map(Vec::len), Some(1));
        assert_eq!(hooks(&[]).unwrap(), None);
        let after = file(r#"{"containerEdits":{"hooks":[{"hookName":"poststop","path":"/bin/x"}]}}"#);
        assert!(check(&after.container_edits).is_err());
    }
}
