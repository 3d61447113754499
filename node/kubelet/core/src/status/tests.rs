//! Golden statuses.
