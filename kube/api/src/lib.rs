//! Kubernetes objects: schema, kind identities, quantities, selectors, protobuf codec, patches.
