//! Types that stand for a resource with only the fields that their reader reads: watches over large collections then
//! never hold the rest.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// Lets a type of one's own be listed, watched and written as the resource of a whole type: same kind, group, version,
/// plural and scope. It has a field `metadata` of the type `ObjectMeta`, and its crate depends on `kube`.
#[macro_export]
macro_rules! lean_resource {
    ($object:ty, $whole:ty) => {
        impl ::kube::Resource for $object {
            type DynamicType = ();
            type Scope = <$whole as ::kube::Resource>::Scope;

            fn kind((): &()) -> ::std::borrow::Cow<'_, str> {
                <$whole as ::kube::Resource>::kind(&())
            }

            fn group((): &()) -> ::std::borrow::Cow<'_, str> {
                <$whole as ::kube::Resource>::group(&())
            }

            fn version((): &()) -> ::std::borrow::Cow<'_, str> {
                <$whole as ::kube::Resource>::version(&())
            }

            fn plural((): &()) -> ::std::borrow::Cow<'_, str> {
                <$whole as ::kube::Resource>::plural(&())
            }

            fn meta(&self) -> &::kube::core::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ::kube::core::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

type Annotations = Option<BTreeMap<String, String>>;

/// `A` is what annotations are read as.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ShortMeta<A: Default> {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    annotations: A,
}

impl<A: Default> ShortMeta<A> {
    fn with(self, annotations: impl FnOnce(A) -> Annotations) -> ObjectMeta {
        ObjectMeta {
            name: self.name,
            namespace: self.namespace,
            uid: self.uid,
            resource_version: self.resource_version,
            creation_timestamp: self.creation_timestamp,
            deletion_timestamp: self.deletion_timestamp,
            labels: self.labels,
            annotations: annotations(self.annotations),
            ..ObjectMeta::default()
        }
    }
}

/// For `#[serde(deserialize_with)]`: names, version, times and labels of an object; what may be large stays away,
/// managed fields and annotations above all.
///
/// # Errors
/// Those of the format, and of fields with other types than an object's.
pub fn short_meta<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    ShortMeta::<IgnoredAny>::deserialize(deserializer).map(|short| short.with(|_| None))
}

/// Like [`short_meta`], with the annotations.
///
/// # Errors
/// Those of the format, and of fields with other types than an object's.
pub fn annotated_meta<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    ShortMeta::<Annotations>::deserialize(deserializer).map(|short| short.with(|annotations| annotations))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use kube::Resource;
    use serde_json::json;

    use super::*;

    #[derive(Deserialize)]
    struct Short {
        #[serde(deserialize_with = "short_meta")]
        metadata: ObjectMeta,
    }

    #[derive(Deserialize)]
    struct Annotated {
        #[serde(deserialize_with = "annotated_meta")]
        metadata: ObjectMeta,
    }

    lean_resource!(Short, EndpointSlice);
    lean_resource!(Annotated, EndpointSlice);

    #[test]
    fn it_is_found_where_the_whole_type_is() {
        assert_eq!(Short::kind(&()), "EndpointSlice");
        assert_eq!(Short::api_version(&()), "discovery.k8s.io/v1");
        assert_eq!(
            Short::url_path(&(), Some("a")),
            EndpointSlice::url_path(&(), Some("a"))
        );
    }

    #[test]
    fn what_may_be_large_stays_away() {
        let object = json!({"metadata": {
            "name": "a", "namespace": "b", "uid": "c", "resourceVersion": "7", "labels": {"l": "1"},
            "creationTimestamp": "2024-01-01T00:00:00Z", "deletionTimestamp": null, "generation": 3,
            "annotations": {"n": "2"}, "managedFields": [{"manager": "m"}], "ownerReferences": [],
        }});
        let short: Short = serde_json::from_value(object.clone()).unwrap();
        let annotated: Annotated = serde_json::from_value(object.clone()).unwrap();
        let mut whole: ObjectMeta = serde_json::from_value(object["metadata"].clone()).unwrap();
        whole.generation = None;
        whole.managed_fields = None;
        whole.owner_references = None;
        assert_eq!(annotated.meta(), &whole);
        whole.annotations = None;
        assert_eq!(short.meta(), &whole);
    }

    #[test]
    fn annotations_may_be_missing_or_null() {
        for object in [
            json!({"metadata": {}}),
            json!({"metadata": {"annotations": null}}),
        ] {
            let short: Short = serde_json::from_value(object.clone()).unwrap();
            let annotated: Annotated = serde_json::from_value(object).unwrap();
            assert_eq!((short.metadata, annotated.metadata), Default::default());
        }
    }
}
