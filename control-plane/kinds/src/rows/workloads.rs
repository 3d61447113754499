//! Pods, DaemonSets and their revisions.
use super::{BASE, BODY_VERBS, STATUS, body};
use crate::cells::{AGE, NAME, column, pods, workloads};
use crate::kind::{Kind, SelectableField, Storage, Subresource};
use crate::strategies::{self, daemon_sets};

/// What streams or is passed on.
const fn connect(name: &'static str, kind: &'static str) -> Subresource {
    Subresource {
        name,
        group: "",
        version: "",
        kind,
        verbs: &["create", "get"],
    }
}

pub(super) static POD: Kind = Kind {
    kind: "Pod",
    list_kind: "PodList",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    subresources: &[
        connect("attach", "PodAttachOptions"),
        Subresource {
            name: "binding",
            group: "",
            version: "",
            kind: "Binding",
            verbs: &["create"],
        },
        body("ephemeralcontainers", ""),
        Subresource {
            name: "eviction",
            group: "policy",
            version: "v1",
            kind: "Eviction",
            verbs: &["create"],
        },
        connect("exec", "PodExecOptions"),
        Subresource {
            name: "log",
            group: "",
            version: "",
            kind: "",
            verbs: &["get"],
        },
        connect("portforward", "PodPortForwardOptions"),
        body("resize", ""),
        Subresource {
            verbs: BODY_VERBS,
            ..STATUS
        },
    ],
    storage: Storage::Stored("pods"),
    selectable: &[
        SelectableField::text("spec.nodeName", "/spec/nodeName"),
        SelectableField::text("spec.restartPolicy", "/spec/restartPolicy"),
        SelectableField::text("spec.schedulerName", "/spec/schedulerName"),
        SelectableField::text("spec.serviceAccountName", "/spec/serviceAccountName"),
        SelectableField::flag("spec.hostNetwork", "/spec/hostNetwork"),
        SelectableField::text("status.phase", "/status/phase"),
        SelectableField::text("status.podIP", "/status/podIP"),
        SelectableField::text("status.nominatedNodeName", "/status/nominatedNodeName"),
    ],
    columns: &[
        NAME,
        column("Ready", "string", 0, pods::ready),
        column("Status", "string", 0, pods::status),
        column("Restarts", "string", 0, pods::restarts),
        AGE,
        column("IP", "string", 1, pods::ip),
        column("Node", "string", 1, pods::node),
        column("Nominated Node", "string", 1, pods::nominated),
        column("Readiness Gates", "string", 1, pods::gates),
    ],
    strategy: &strategies::pods::Pods,
    ..BASE
};

pub(super) static DAEMON_SET: Kind = Kind {
    group: "apps",
    kind: "DaemonSet",
    list_kind: "DaemonSetList",
    plural: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    categories: &["all"],
    subresources: &[STATUS],
    storage: Storage::Stored("daemonsets"),
    columns: &[
        NAME,
        column("Desired", "integer", 0, workloads::desired),
        column("Current", "integer", 0, workloads::current),
        column("Ready", "integer", 0, workloads::ready),
        column("Up-to-date", "integer", 0, workloads::updated),
        column("Available", "integer", 0, workloads::available),
        column("Node Selector", "string", 0, workloads::node_selector),
        AGE,
        column("Containers", "string", 1, workloads::names),
        column("Images", "string", 1, workloads::images),
        column("Selector", "string", 1, workloads::selector),
    ],
    strategy: &daemon_sets::DaemonSets,
    ..BASE
};

pub(super) static CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    kind: "ControllerRevision",
    list_kind: "ControllerRevisionList",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    storage: Storage::Stored("controllerrevisions"),
    columns: &[
        NAME,
        column("Controller", "string", 0, workloads::controller),
        column("Revision", "integer", 0, workloads::revision),
        AGE,
    ],
    strategy: &daemon_sets::ControllerRevisions,
    ..BASE
};
