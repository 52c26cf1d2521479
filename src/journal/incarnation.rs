//! The name under which the store remembers the batches of one opening of a journal.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::JournalError;
use crate::telemetry::planted::is_planted;
use crate::telemetry::random_id;

#[derive(Debug)]
struct Name {
    text: Arc<str>,
    is_enrolled: bool,
}

/// 16 random bytes of the system's as hexadecimal digits: a copied file, or a copied machine, draws others.
#[derive(Debug)]
pub(super) struct Incarnation(Mutex<Name>);

impl Incarnation {
    /// One that nobody has had before.
    pub(super) fn fresh() -> Result<Self, JournalError> {
        name().map(|text| Self::known(&text))
    }

    /// One by its name.
    pub(super) fn known(text: &str) -> Self {
        Self(Mutex::new(Name { text: text.into(), is_enrolled: false }))
    }

    fn lock(&self) -> MutexGuard<'_, Name> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn name(&self) -> Arc<str> {
        self.lock().text.clone()
    }

    /// True when the store knows it.
    pub(super) fn is_enrolled(&self) -> bool {
        self.lock().is_enrolled
    }

    pub(super) fn set_enrolled(&self) {
        self.lock().is_enrolled = true;
    }

    /// Takes another name.
    pub(super) fn renew(&self) -> Result<(), JournalError> {
        if is_planted("incarnation-reused") {
            return Ok(());
        }
        let text = name()?;
        *self.lock() = Name { text: text.into(), is_enrolled: false };
        Ok(())
    }
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], JournalError> {
    random_id::random().map_err(|error| JournalError::File(format!("/dev/urandom: {error}")))
}

fn name() -> Result<String, JournalError> {
    let bytes: [u8; 16] = random()?;
    Ok(bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::Incarnation;

    #[test]
    fn each_is_another_and_has_to_be_enrolled() {
        let (one, two) = (Incarnation::fresh().expect("random"), Incarnation::fresh().expect("random"));
        assert!(one.name() != two.name() && one.name().len() == 32);
        one.set_enrolled();
        let before = one.name();
        one.renew().expect("random");
        assert!(before != one.name() && !one.is_enrolled());
    }
}
