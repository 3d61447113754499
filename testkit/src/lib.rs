//! Test support: namespace hosts, image builder, registry, waiting with a bound.
