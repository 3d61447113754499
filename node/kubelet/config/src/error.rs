/// Why a command line or a file can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag that no kubelet has.
    #[error("unknown flag: --{0}")]
    UnknownFlag(String),
    /// A short flag that no kubelet has; long ones have two dashes.
    #[error("unknown shorthand flag: {letter:?} in {argument}")]
    UnknownShorthand {
        /// The first letter.
        letter: char,
        /// The whole word.
        argument: String,
    },
    /// A flag at the end that wants a value.
    #[error("flag needs an argument: --{0}")]
    NoValue(String),
    /// A word that is no flag.
    #[error("unknown command {0:?}")]
    Argument(String),
    /// A flag's value that is not what it asks for.
    #[error("invalid argument {value:?} for \"--{flag}\" flag: {problem}")]
    FlagValue {
        /// The flag.
        flag: String,
        /// What it was given.
        value: String,
        /// What it wants.
        problem: String,
    },
    /// A flag that has gone, and whose meaning can't be kept.
    #[error("--{flag} is gone: {instead}")]
    Removed {
        /// The flag.
        flag: String,
        /// What to use today.
        instead: &'static str,
    },
    /// A flag that upstream has and this kubelet has not.
    #[error("--{flag} is not supported: {reason}")]
    UnsupportedFlag {
        /// The flag.
        flag: String,
        /// Why, or what to do.
        reason: &'static str,
    },
    /// A file that is no YAML, or says something twice.
    #[error("{file} can't be parsed")]
    Parse {
        /// The file.
        file: String,
        /// The parser's reason.
        #[source]
        source: serde_norway::Error,
    },
    /// A file of another kind.
    #[error("{file}: {name} is {found:?}, expected {expected:?}")]
    Kind {
        /// The file.
        file: String,
        /// `kind` or `apiVersion`.
        name: &'static str,
        /// What it says.
        found: String,
        /// What it must say.
        expected: &'static str,
    },
    /// A field that no `KubeletConfiguration` has.
    #[error("{origin}: unknown field {path:?}")]
    UnknownField {
        /// The file.
        origin: String,
        /// Where in it.
        path: String,
    },
    /// A value of another form than its field's.
    #[error("{origin}: {path}: {value} is not {expected}")]
    Value {
        /// The file or flag.
        origin: String,
        /// The field.
        path: String,
        /// What it says.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// A value that upstream's kubelet would follow and this one can't.
    #[error("{origin}: {path}: {value} is not supported: {reason}")]
    Unsupported {
        /// The file or flag.
        origin: String,
        /// The field.
        path: String,
        /// What it says.
        value: String,
        /// What this kubelet does.
        reason: &'static str,
    },
    /// A value outside of what its field may be, or that doesn't go with another field's.
    #[error("{origin}: {path}: {problem}")]
    Field {
        /// The file or flag.
        origin: String,
        /// The field.
        path: &'static str,
        /// What is wrong, with the value.
        problem: String,
    },
    /// Fields that don't go together.
    #[error("{0}")]
    Together(String),
}
