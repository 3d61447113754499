//! Namespaces, nodes, configuration and events.
use super::{BASE, BODY_VERBS, STATUS};
use crate::cells::{AGE, NAME, column, events, nodes, others};
use crate::kind::{Kind, SelectableField, Storage, Subresource};
use crate::strategies::{self, config, namespaces};
use crate::table::Column;

pub(super) static CONFIG_MAP: Kind = Kind {
    kind: "ConfigMap",
    list_kind: "ConfigMapList",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    storage: Storage::Stored("configmaps"),
    columns: &[NAME, column("Data", "string", 0, others::data), AGE],
    strategy: &config::ConfigMaps,
    ..BASE
};

pub(super) static SECRET: Kind = Kind {
    kind: "Secret",
    list_kind: "SecretList",
    plural: "secrets",
    singular: "secret",
    storage: Storage::Stored("secrets"),
    selectable: &[SelectableField::text("type", "/type")],
    columns: &[
        NAME,
        column("Type", "string", 0, others::secret_type),
        column("Data", "string", 0, others::data),
        AGE,
    ],
    strategy: &config::Secrets,
    ..BASE
};

pub(super) static SERVICE_ACCOUNT: Kind = Kind {
    kind: "ServiceAccount",
    list_kind: "ServiceAccountList",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    subresources: &[Subresource {
        name: "token",
        group: "authentication.k8s.io",
        version: "v1",
        kind: "TokenRequest",
        verbs: &["create"],
    }],
    storage: Storage::Stored("serviceaccounts"),
    columns: &[NAME, AGE],
    strategy: &config::ServiceAccounts,
    ..BASE
};

pub(super) static NAMESPACE: Kind = Kind {
    kind: "Namespace",
    list_kind: "NamespaceList",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
    subresources: &[
        Subresource {
            name: "finalize",
            group: "",
            version: "",
            kind: "",
            verbs: &["update"],
        },
        STATUS,
    ],
    storage: Storage::Stored("namespaces"),
    selectable: &[
        SelectableField::text("name", "/metadata/name"),
        SelectableField::text("status.phase", "/status/phase"),
    ],
    columns: &[NAME, column("Status", "string", 0, others::phase), AGE],
    strategy: &namespaces::Namespaces,
    ..BASE
};

pub(super) static NODE: Kind = Kind {
    kind: "Node",
    list_kind: "NodeList",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    namespaced: false,
    subresources: &[
        Subresource {
            name: "proxy",
            group: "",
            version: "",
            kind: "NodeProxyOptions",
            verbs: &["create", "delete", "get", "patch", "update"],
        },
        Subresource {
            verbs: BODY_VERBS,
            ..STATUS
        },
    ],
    storage: Storage::Stored("nodes"),
    selectable: &[SelectableField::flag("spec.unschedulable", "/spec/unschedulable")],
    columns: &[
        NAME,
        column("Status", "string", 0, nodes::status),
        column("Roles", "string", 0, nodes::roles),
        AGE,
        column("Version", "string", 0, nodes::version),
        column("Internal-IP", "string", 1, nodes::internal_ip),
        column("External-IP", "string", 1, nodes::external_ip),
        column("OS-Image", "string", 1, nodes::os_image),
        column("Kernel-Version", "string", 1, nodes::kernel),
        column("Container-Runtime", "string", 1, nodes::runtime),
    ],
    strategy: &strategies::nodes::Nodes,
    ..BASE
};

const EVENT_COLUMNS: &[Column] = &[
    column("Last Seen", "string", 0, events::last_seen),
    column("Type", "string", 0, events::kind),
    column("Reason", "string", 0, events::reason),
    column("Object", "string", 0, events::object),
    column("Subobject", "string", 1, events::subobject),
    column("Source", "string", 1, events::source),
    column("Message", "string", 0, events::message),
    column("First Seen", "string", 1, events::first_seen),
    column("Count", "string", 1, events::count),
    Column { priority: 1, ..NAME },
];

pub(super) static EVENT: Kind = Kind {
    kind: "Event",
    list_kind: "EventList",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    storage: Storage::Stored("events"),
    selectable: &[
        SelectableField::text("involvedObject.kind", "/involvedObject/kind"),
        SelectableField::text("involvedObject.namespace", "/involvedObject/namespace"),
        SelectableField::text("involvedObject.name", "/involvedObject/name"),
        SelectableField::text("involvedObject.uid", "/involvedObject/uid"),
        SelectableField::text("involvedObject.apiVersion", "/involvedObject/apiVersion"),
        SelectableField::text(
            "involvedObject.resourceVersion",
            "/involvedObject/resourceVersion",
        ),
        SelectableField::text("involvedObject.fieldPath", "/involvedObject/fieldPath"),
        SelectableField::text("reason", "/reason"),
        SelectableField::text("reportingComponent", "/reportingComponent"),
        SelectableField::either("source", "/source/component", "/reportingComponent"),
        SelectableField::text("type", "/type"),
    ],
    columns: EVENT_COLUMNS,
    strategy: &strategies::events::CoreEvents,
    ..BASE
};

/// Field selectors and cells see the form in the store.
pub(super) static EVENTS_EVENT: Kind = Kind {
    group: "events.k8s.io",
    kind: "Event",
    list_kind: "EventList",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    storage: Storage::Stored("events"),
    selectable: &[
        SelectableField::text("regarding.kind", "/involvedObject/kind"),
        SelectableField::text("regarding.namespace", "/involvedObject/namespace"),
        SelectableField::text("regarding.name", "/involvedObject/name"),
        SelectableField::text("regarding.uid", "/involvedObject/uid"),
        SelectableField::text("regarding.apiVersion", "/involvedObject/apiVersion"),
        SelectableField::text("regarding.resourceVersion", "/involvedObject/resourceVersion"),
        SelectableField::text("regarding.fieldPath", "/involvedObject/fieldPath"),
        SelectableField::text("reason", "/reason"),
        SelectableField::text("reportingController", "/reportingComponent"),
        SelectableField::text("type", "/type"),
    ],
    columns: EVENT_COLUMNS,
    strategy: &strategies::events::NewEvents,
    ..BASE
};
