//! Words: what an operator asks of one sidecar, and all that share its store are to do. They travel as changes do. A
//! sidecar that is away from the feed does not hear them, and nobody tells it later.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::config::Mode;
use crate::telemetry::random_id::fresh;

/// What all sidecars are asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// Another mode.
    Mode {
        /// Of the mapping with this key pattern; none: of all.
        mapping: Option<String>,
        /// The mode.
        mode: Mode,
        /// For so many of a hundred keys; none: as many as before.
        percent: Option<u8>,
    },
    /// Forget this key, or those that match this glob.
    Invalidate(String),
}

/// The same, with the number by which the one who says it knows it again.
#[derive(Serialize, Deserialize)]
struct Said {
    from: u64,
    word: Word,
}

/// So many words that were said here are known again.
const KNOWN: usize = 256;

/// A longer one is not said: a notice of Postgres has room for 8,000 bytes.
const LONGEST: usize = 7_000;

/// The words that this sidecar has said.
#[derive(Debug, Default)]
pub(super) struct Words(Mutex<VecDeque<u64>>);

impl Words {
    /// The text of a word that is said now.
    ///
    /// # Errors
    /// It is too long.
    pub(super) fn say(&self, word: &Word) -> Result<String, StoreError> {
        let from = fresh();
        let text = serde_json::to_string(&Said { from, word: word.clone() }).unwrap_or_default();
        if text.is_empty() || text.len() > LONGEST {
            return Err(StoreError::Data("the key is too long to be told to other sidecars".into()));
        }
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.push_back(from);
        if said.len() > KNOWN {
            said.pop_front();
        }
        Ok(text)
    }

    /// A word that was heard; none if it is this sidecar's own, or of a version that says other ones.
    pub(super) fn hear(&self, text: &str) -> Option<Word> {
        let Said { from, word } = serde_json::from_str(text).ok()?;
        let is_own = self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&from);
        (!is_own).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::{Word, Words};
    use crate::config::Mode;

    #[test]
    fn a_word_is_heard_by_all_but_the_one_who_says_it() {
        let [one, other] = [(); 2].map(|()| Words::default());
        let words = [
            Word::Mode { mapping: None, mode: Mode::Off, percent: Some(3) },
            Word::Mode { mapping: Some("a:{x}".into()), mode: Mode::On, percent: None },
            Word::Invalidate("a:*".into()),
        ];
        for word in words {
            let text = one.say(&word).expect("said");
            assert_eq!((one.hear(&text), other.hear(&text)), (None, Some(word)));
        }
        assert_eq!(other.hear("{\"from\":1,\"word\":{\"dance\":true}}"), None);
        assert!(one.say(&Word::Invalidate("x".repeat(8000))).is_err());
    }
}
