//! Pure filter and score, thin binder.
