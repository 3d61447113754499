//! What `verbose` adds to a status: JSON for people and their tools, in the form that crictl shows.

use serde_json::{Value, json};

use crate::container::{Container, apparmor};
use crate::engine::Core;
use crate::sandbox::{Sandbox, namespace_paths};

/// Of a sandbox. It has no process of its own.
pub(super) fn sandbox(core: &Core, sandbox: &Sandbox) -> Value {
    let record = sandbox.record();
    let namespaces = namespace_paths(&core.layout, &record);
    json!({
        "runtimeHandler": record.runtime_handler,
        "cgroupParent": record.cgroup_parent(),
        "namespaces": {
            "network": namespaces.net,
            "ipc": namespaces.ipc,
            "uts": namespaces.uts,
            "user": namespaces.user,
        },
        "config": record.config,
    })
}

/// Of a container, with the specification that it runs by.
pub(super) fn container(core: &Core, container: &Container) -> Value {
    let record = container.record();
    let path = core.layout.container(&record.id).join("config.json");
    let spec = std::fs::read(path)
        .ok()
        .and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    json!({
        "sandboxID": record.sandbox_id,
        "pid": record.started.filter(|_| record.ended.is_none()).map_or(0, |started| started.pid),
        "cgroup": record.cgroup,
        "config": record.config,
        "runtimeSpec": spec,
    })
}

/// Of the engine.
pub(super) fn engine(core: &Core) -> Value {
    json!({
        "dataDir": core.config.data_dir,
        "runDir": core.config.run_dir,
        "cgroupVersion": if core.machine.cgroup_v2 { 2 } else { 1 },
        "userNamespaces": core.machine.user_namespaces,
        "appArmor": apparmor::look().is_some(),
        "selinux": core.selinux.is_some(),
    })
}
