//! Who may do what: roles, reviews, certificates.
use super::{BASE, BODY_VERBS, STATUS, body};
use crate::cells::{AGE, CREATED_AT, NAME, certificates, column, rbac};
use crate::kind::{Kind, SelectableField, Storage, Subresource};
use crate::strategies::{auth, certificates as bundles};
use crate::table::Column;

/// A question that is answered and not stored.
const REVIEW: Kind = Kind {
    group: "authorization.k8s.io",
    namespaced: false,
    verbs: &["create"],
    columns: &[NAME, CREATED_AT],
    ..BASE
};

pub(super) static TOKEN_REVIEW: Kind = Kind {
    group: "authentication.k8s.io",
    kind: "TokenReview",
    list_kind: "TokenReviewList",
    plural: "tokenreviews",
    singular: "tokenreview",
    ..REVIEW
};

pub(super) static SELF_SUBJECT_REVIEW: Kind = Kind {
    group: "authentication.k8s.io",
    kind: "SelfSubjectReview",
    list_kind: "SelfSubjectReviewList",
    plural: "selfsubjectreviews",
    singular: "selfsubjectreview",
    ..REVIEW
};

pub(super) static SUBJECT_ACCESS_REVIEW: Kind = Kind {
    kind: "SubjectAccessReview",
    list_kind: "SubjectAccessReviewList",
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    ..REVIEW
};

pub(super) static LOCAL_SUBJECT_ACCESS_REVIEW: Kind = Kind {
    kind: "LocalSubjectAccessReview",
    list_kind: "LocalSubjectAccessReviewList",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    namespaced: true,
    ..REVIEW
};

pub(super) static SELF_SUBJECT_ACCESS_REVIEW: Kind = Kind {
    kind: "SelfSubjectAccessReview",
    list_kind: "SelfSubjectAccessReviewList",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    ..REVIEW
};

pub(super) static SELF_SUBJECT_RULES_REVIEW: Kind = Kind {
    kind: "SelfSubjectRulesReview",
    list_kind: "SelfSubjectRulesReviewList",
    plural: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    ..REVIEW
};

pub(super) static CERTIFICATE_SIGNING_REQUEST: Kind = Kind {
    group: "certificates.k8s.io",
    kind: "CertificateSigningRequest",
    list_kind: "CertificateSigningRequestList",
    plural: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    short_names: &["csr"],
    namespaced: false,
    subresources: &[
        body("approval", ""),
        Subresource {
            verbs: BODY_VERBS,
            ..STATUS
        },
    ],
    storage: Storage::Stored("certificatesigningrequests"),
    selectable: &[SelectableField::text("spec.signerName", "/spec/signerName")],
    columns: &[
        NAME,
        AGE,
        column("SignerName", "string", 0, certificates::signer),
        column("Requestor", "string", 0, certificates::requestor),
        column("RequestedDuration", "string", 0, certificates::duration),
        column("Condition", "string", 0, certificates::state),
    ],
    strategy: &auth::CertificateSigningRequests,
    ..BASE
};

pub(super) static CLUSTER_TRUST_BUNDLE: Kind = Kind {
    group: "certificates.k8s.io",
    version: "v1beta1",
    kind: "ClusterTrustBundle",
    list_kind: "ClusterTrustBundleList",
    plural: "clustertrustbundles",
    singular: "clustertrustbundle",
    namespaced: false,
    storage: Storage::Stored("clustertrustbundles"),
    selectable: &[SelectableField::text("spec.signerName", "/spec/signerName")],
    columns: &[NAME, column("SignerName", "string", 0, certificates::signer)],
    strategy: &bundles::TrustBundles,
    ..BASE
};

const RBAC: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    columns: &[NAME, CREATED_AT],
    ..BASE
};

const BINDING_COLUMNS: &[Column] = &[
    NAME,
    column("Role", "string", 0, rbac::role),
    AGE,
    column("Users", "string", 1, rbac::users),
    column("Groups", "string", 1, rbac::groups),
    column("ServiceAccounts", "string", 1, rbac::service_accounts),
];

pub(super) static CLUSTER_ROLE: Kind = Kind {
    kind: "ClusterRole",
    list_kind: "ClusterRoleList",
    plural: "clusterroles",
    singular: "clusterrole",
    namespaced: false,
    storage: Storage::Stored("clusterroles"),
    strategy: &auth::Roles,
    ..RBAC
};

pub(super) static CLUSTER_ROLE_BINDING: Kind = Kind {
    kind: "ClusterRoleBinding",
    list_kind: "ClusterRoleBindingList",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    namespaced: false,
    storage: Storage::Stored("clusterrolebindings"),
    columns: BINDING_COLUMNS,
    strategy: &auth::Bindings,
    ..RBAC
};

pub(super) static ROLE: Kind = Kind {
    kind: "Role",
    list_kind: "RoleList",
    plural: "roles",
    singular: "role",
    storage: Storage::Stored("roles"),
    strategy: &auth::Roles,
    ..RBAC
};

pub(super) static ROLE_BINDING: Kind = Kind {
    kind: "RoleBinding",
    list_kind: "RoleBindingList",
    plural: "rolebindings",
    singular: "rolebinding",
    storage: Storage::Stored("rolebindings"),
    columns: BINDING_COLUMNS,
    strategy: &auth::Bindings,
    ..RBAC
};
