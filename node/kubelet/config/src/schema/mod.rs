//! What a `KubeletConfiguration` may hold, and what becomes of it
//! (upstream: `staging/src/k8s.io/kubelet/config/v1beta1/types.go`).

mod fields;
mod nested;

pub(crate) use fields::FIELDS;

/// The form of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// True or false.
    Bool,
    /// A whole number in this range.
    Int(i64, i64),
    /// A number above 0, and 1 at most.
    Share,
    /// Any text.
    Text,
    /// One of these texts, or none.
    Choice(&'static [&'static str]),
    /// An IP address.
    Ip,
    /// A duration as Go writes it.
    Duration,
    /// A duration, or nanoseconds as a number.
    Interval,
    /// A quantity such as `10Mi`.
    Quantity,
    /// A list of texts.
    Texts,
    /// A list of IP addresses.
    Ips,
    /// A list of whole numbers.
    Ints,
    /// Texts by name.
    TextMap,
    /// True or false by name.
    BoolMap,
    /// Lists of texts by name.
    TextsMap,
    /// Fields.
    Object(&'static [Field]),
    /// A list of objects.
    Objects(&'static [Field]),
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Support {
    /// It is followed.
    Honoured,
    /// Only the default and these values (JSON) are what this kubelet does; others are refused with the reason.
    Only(&'static [&'static str], &'static str),
    /// Whatever it is, this kubelet does what the default says; others are told so in a warning.
    NoEffect(&'static str),
}

/// A field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// Its JSON name.
    pub name: &'static str,
    /// Its form.
    pub kind: Kind,
    /// JSON of the value it has when it isn't set; empty for none, which `/configz` doesn't show.
    pub default: &'static str,
    /// What becomes of it.
    pub support: Support,
    /// Whether zero, false and the empty text are values, not the same as nothing (pointers in Go).
    pub zero_counts: bool,
}

impl Field {
    const fn new(name: &'static str, kind: Kind, default: &'static str, support: Support) -> Self {
        Self {
            name,
            kind,
            default,
            support,
            zero_counts: false,
        }
    }

    const fn zero_counts(self) -> Self {
        Self {
            zero_counts: true,
            ..self
        }
    }
}

const fn honoured(name: &'static str, kind: Kind, default: &'static str) -> Field {
    Field::new(name, kind, default, Support::Honoured)
}

const fn only(name: &'static str, kind: Kind, default: &'static str, reason: &'static str) -> Field {
    Field::new(name, kind, default, Support::Only(&[], reason))
}

const fn no_effect(name: &'static str, kind: Kind, default: &'static str, reason: &'static str) -> Field {
    Field::new(name, kind, default, Support::NoEffect(reason))
}

const fn object(name: &'static str, fields: &'static [Field]) -> Field {
    honoured(name, Kind::Object(fields), "")
}

/// The field at a path such as `authentication.x509.clientCAFile`.
pub(crate) fn find(path: &str) -> Option<&'static Field> {
    let mut fields = FIELDS;
    let mut found = None;
    for name in path.split('.') {
        let field = fields.iter().find(|field| field.name == name)?;
        fields = match field.kind {
            Kind::Object(fields) => fields,
            _ => &[],
        };
        found = Some(field);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every default is a value that a file may hold.
    #[test]
    fn defaults_are_json_of_the_fields_form() {
        fn check(fields: &[Field], at: &str) {
            for field in fields {
                let path = format!("{at}{}", field.name);
                if let Kind::Object(fields) | Kind::Objects(fields) = field.kind {
                    check(fields, &format!("{path}."));
                }
                if !field.default.is_empty() {
                    let value = serde_json::from_str(field.default).unwrap_or_else(|e| panic!("{path}: {e}"));
                    crate::file::check_value(field, &value, &path, "default")
                        .unwrap_or_else(|e| panic!("{e}"));
                }
                if let Support::Only(values, _) = field.support {
                    for value in values {
                        serde_json::from_str::<serde_json::Value>(value)
                            .unwrap_or_else(|e| panic!("{path}: {e}"));
                    }
                }
            }
        }
        check(FIELDS, "");
        let mut names: Vec<_> = FIELDS.iter().map(|field| field.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FIELDS.len(), "a field stands twice");
    }

    #[test]
    fn fields_are_found_by_path() {
        assert!(find("authentication.x509.clientCAFile").is_some());
        assert!(find("authentication.x509.none").is_none());
        assert!(find("maxPods.none").is_none());
    }
}
