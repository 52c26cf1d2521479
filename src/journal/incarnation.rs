//! The name under which the store remembers the batches of one opening of a journal.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, RwLock};

use super::JournalError;
use crate::telemetry::planted::is_planted;
use crate::telemetry::random_id;

#[derive(Debug)]
struct Name {
    text: Arc<str>,
    /// The strands of which the store has a note.
    enrolled: HashSet<String>,
}

impl Name {
    fn new(text: &str) -> Self {
        Self { text: text.into(), enrolled: HashSet::new() }
    }
}

/// 16 random bytes of the system's as hexadecimal digits: a copied file, or a copied machine, draws others.
#[derive(Debug)]
pub(super) struct Incarnation {
    name: Mutex<Name>,
    /// Held while there is a batch under the name.
    stays: Arc<RwLock<()>>,
}

/// The name of an incarnation. It stays the journal's as long as this is there.
#[derive(Debug)]
pub struct Held {
    name: Arc<str>,
    _stays: OwnedRwLockReadGuard<()>,
}

impl Held {
    /// The name.
    #[must_use]
    pub const fn incarnation(&self) -> &Arc<str> {
        &self.name
    }

    /// The name under which the store notes the batches of a strand.
    #[must_use]
    pub fn note(&self, strand: &str) -> String {
        format!("{}:{strand}", self.name)
    }
}

impl Incarnation {
    /// One that nobody has had before.
    pub(super) fn fresh() -> Result<Self, JournalError> {
        name().map(|text| Self::known(&text))
    }

    /// One by its name.
    pub(super) fn known(text: &str) -> Self {
        Self { name: Mutex::new(Name::new(text)), stays: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Name> {
        self.name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn name(&self) -> Arc<str> {
        self.lock().text.clone()
    }

    /// The name, which stays as long as this is held.
    pub(super) async fn hold(&self) -> Held {
        let stays = self.stays.clone().read_owned().await;
        Held { name: self.name(), _stays: stays }
    }

    /// True when the store has a note of this strand.
    pub(super) fn is_enrolled(&self, strand: &str) -> bool {
        self.lock().enrolled.contains(strand)
    }

    pub(super) fn set_enrolled(&self, strand: &str) {
        self.lock().enrolled.insert(strand.to_owned());
    }

    /// Takes another name than this one, when nobody holds it any more.
    pub(super) async fn renew(&self, former: &str) -> Result<(), JournalError> {
        let _nobody_holds_it = self.stays.write().await;
        if is_planted("incarnation-reused") || *self.name() != *former {
            return Ok(());
        }
        *self.lock() = Name::new(&name()?);
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

    #[tokio::test]
    async fn each_is_another_and_has_to_be_enrolled() {
        let (one, two) = (Incarnation::fresh().expect("random"), Incarnation::fresh().expect("random"));
        assert!(one.name() != two.name() && one.name().len() == 32);
        one.set_enrolled("a");
        assert!(one.is_enrolled("a") && !one.is_enrolled("b"));
        let before = one.name();
        one.renew(&before).await.expect("random");
        assert!(before != one.name() && !one.is_enrolled("a"));
        let after = one.name();
        one.renew(&before).await.expect("random");
        assert_eq!(after, one.name(), "somebody else has renewed it");
    }

    #[tokio::test]
    async fn a_name_stays_as_long_as_it_is_held() {
        let one = Incarnation::fresh().expect("random");
        let held = one.hold().await;
        assert_eq!(held.note("t"), format!("{}:t", one.name()));
        let former = held.incarnation().clone();
        let mut renewing = std::pin::pin!(one.renew(&former));
        assert!(tokio::time::timeout(std::time::Duration::ZERO, renewing.as_mut()).await.is_err());
        assert_eq!(former, one.name());
        drop(held);
        renewing.await.expect("random");
        assert_ne!(former, one.name());
    }
}
