//! The kind table: defaulting, validation, table columns; one small strategy a kind.
