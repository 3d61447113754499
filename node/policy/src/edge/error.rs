/// Why policies cannot be enforced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No access to nftables.
    #[error("cannot work with nftables")]
    Nftables(#[source] knode_nft::Error),
}
