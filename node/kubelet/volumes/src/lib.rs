//! Volumes of a pod: planning and atomic materialization.
