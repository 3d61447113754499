//! The hash by which a changed container is recognized (upstream: `kubecontainer.HashContainer`).

use std::fmt::Write;

use k8s_openapi::api::core::v1::Container;
use knode_api::hash::fnv1a_32;
use serde_json::json;

/// FNV-1a of the printed bytes of `{"image":…,"name":…}`, in hexadecimal: the same as upstream's kubelet
/// computes, so that either takes the other's containers as its own.
pub fn container(container: &Container) -> String {
    let mut fields = json!({"image": container.image.as_deref().unwrap_or_default(), "name": container.name});
    fields.sort_all_objects();
    let mut printed = String::from("([]uint8)[");
    for (index, byte) in fields.to_string().bytes().enumerate() {
        let space = if index == 0 { "" } else { " " };
        // Writing to a String cannot fail.
        let _ = write!(printed, "{space}{byte}");
    }
    printed.push(']');
    format!("{:x}", fnv1a_32(printed.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_as_upstreams() {
        for (name, image, hash) in [
            ("c", "busybox:latest", "6047fbf3"),
            ("i1", "busybox:latest", "3ec358a6"),
            ("main", "busybox:latest", "582b8eef"),
            ("web", "nginx:latest", "462508d6"),
        ] {
            let one = Container {
                name: name.into(),
                image: Some(image.into()),
                ..Container::default()
            };
            assert_eq!(container(&one), hash, "{name} {image}");
        }
    }
}
