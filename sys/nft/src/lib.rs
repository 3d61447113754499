//! nf_tables by netlink: printable rulesets, atomic batches, dumps.
