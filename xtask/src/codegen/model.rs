//! What the readers and the joiner speak of.

/// A field's type, as both sources can say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    pub container: Container,
    pub shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    Single,
    List,
    Map,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One of the table's one-letter scalars.
    Scalar(char),
    /// Another type: group and version, name. `("core.v1", "PodSpec")`
    Message(String, String),
}

/// A finished type of the table.
pub struct Row {
    pub name: String,
    pub fields: Vec<Field>,
}

/// A finished field of the table.
pub struct Field {
    pub name: String,
    pub number: u32,
    /// Number of the message that wraps it in protobuf alone.
    pub via: u32,
    pub ty: Type,
    pub pointer: bool,
    pub always: bool,
    pub merge: Merge,
    pub go_type: Option<String>,
}

/// Patch marks of a field.
#[derive(Clone, Debug, Default)]
pub struct Merge {
    pub merge: bool,
    pub retain_keys: bool,
    pub key: Option<String>,
}

/// Letters and digits in lower case: how names of the sources are compared.
pub fn norm(name: &str) -> String {
    let name = name.strip_prefix("r#").unwrap_or(name);
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}
