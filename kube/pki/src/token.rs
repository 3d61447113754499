//! Bootstrap tokens: `abcdef.0123456789abcdef`, an identifier that may be known and a secret that may not.

use std::fmt;
use std::str::FromStr;

use rand::RngExt;

use crate::Error;

const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// A bootstrap token (`cluster-bootstrap/token`). `Display` gives the whole token, `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    id: String,
    secret: String,
}

impl BootstrapToken {
    /// A new random token.
    pub fn generate() -> Self {
        Self {
            id: random_text(ID_LENGTH),
            secret: random_text(SECRET_LENGTH),
        }
    }

    /// The public part, 6 characters.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The secret part, 16 characters.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The name of the Secret in kube-system that holds it.
    pub fn secret_name(&self) -> String {
        format!("bootstrap-token-{}", self.id)
    }

    /// The user that such a token stands for.
    pub fn user_name(&self) -> String {
        format!("system:bootstrap:{}", self.id)
    }
}

impl fmt::Display for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootstrapToken({}.…)", self.id)
    }
}

impl FromStr for BootstrapToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (id, secret) = text.split_once('.').ok_or(Error::BootstrapToken)?;
        let legal = |part: &str| part.bytes().all(|byte| ALPHABET.contains(&byte));
        if id.len() != ID_LENGTH || secret.len() != SECRET_LENGTH || !legal(id) || !legal(secret) {
            return Err(Error::BootstrapToken);
        }
        Ok(Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }
}

fn random_text(length: usize) -> String {
    let mut random = rand::rng();
    (0..length)
        .map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]))
        .collect()
}
