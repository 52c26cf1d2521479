//! Which version of Redis, or of a program like it, the upstream says it is.

use std::sync::{Mutex, PoisonError};

/// The upstream's version, once it is known; HELLO and INFO tell it.
#[derive(Debug, Default)]
pub struct Version(Mutex<Option<String>>);

impl Version {
    /// The version, or that of the Redis this program is built after.
    #[must_use]
    pub fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_else(|| "7.0.15".to_owned())
    }

    pub(super) fn set(&self, version: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
    }
}
