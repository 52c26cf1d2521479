//! Passwords, kept as their SHA-256 like Redis keeps them in ACL files: fast enough for a connection storm, so a
//! password must be long and random (docs/OPERATIONS.md says how to make one).

use sha2::{Digest, Sha256};

use crate::config::digest;

/// A password's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hash([u8; 32]);

impl Hash {
    /// Reads 64 hexadecimal digits.
    pub(super) fn read(text: &str) -> Option<Self> {
        digest(text).map(Self)
    }

    /// True for the password with this hash. Takes the same time whatever is wrong with another.
    pub(super) fn is_of(&self, password: &[u8]) -> bool {
        let other: [u8; 32] = Sha256::digest(password).into();
        self.0.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

/// A secret that is shown as it is: the admin port's. Only its hash is kept.
#[derive(Clone, Debug)]
pub struct Token(Hash);

impl Token {
    /// The token with this text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Hash(Sha256::digest(text).into()))
    }

    /// True for its text. Takes the same time whatever is wrong with another.
    #[must_use]
    pub fn is(&self, text: &[u8]) -> bool {
        self.0.is_of(text)
    }
}
