//! Pure reconcile functions, one shared runner.
