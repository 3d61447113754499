//! What is filled in where a manifest says nothing, as upstream's `SetDefaults_*` do.
pub(crate) mod containers;
pub(crate) mod image;
pub(crate) mod pods;
pub(crate) mod volumes;

#[cfg(test)]
mod tests;
