//! Words: what an operator asks of one sidecar, and all that share its store are to do. They travel as changes do. A
//! sidecar that is away from the feed does not hear them, and nobody tells it later.
//!
//! The feed brings the words of all sidecars to each of them in the same order, and the last one of a mapping is in
//! force in the end. The one who says a word has obeyed it before the feed brings it back: what others have said before
//! it, by that order, is not obeyed any more.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::config::Mode;
use crate::telemetry::locked;
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

impl Word {
    /// As an operator writes it.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Mode { mapping, mode, percent } => {
                let percent = percent.map_or(String::new(), |percent| format!(" {percent}"));
                format!("{} {}{percent}", mapping.as_deref().unwrap_or("ALL"), mode.name())
            }
            Self::Invalidate(keys) => keys.clone(),
        }
    }
}

/// The same, with the number by which the one who says it knows it again.
#[derive(Serialize, Deserialize)]
struct Said {
    from: u64,
    word: Word,
}

/// Where a word that another sidecar has said stands among all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u64);

/// So many words of INVALIDATE that were said here are known again.
const KNOWN: usize = 256;

/// A longer one is not said: a notice of Postgres has room for 8,000 bytes.
const LONGEST: usize = 7_000;

/// A word that the feed has not brought back after so long is lost: the feed was away.
const LOST: Duration = Duration::from_secs(30);

/// The last word of modes that was said here of a mapping, or of all.
#[derive(Debug)]
struct Own {
    number: u64,
    since: Instant,
    /// Where the feed has brought it back.
    heard: Option<Place>,
}

impl Own {
    /// True when a word that stands at `place` was said before this one.
    fn comes_after(&self, place: Place) -> bool {
        self.heard.map_or_else(|| self.since.elapsed() < LOST, |heard| heard > place)
    }
}

/// The words that this sidecar has said, and how many it has heard.
#[derive(Debug, Default)]
pub(super) struct Words(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    /// The numbers of words that are no modes.
    said: VecDeque<u64>,
    /// By the mapping's pattern; none: of all.
    modes: HashMap<Option<String>, Own>,
    heard: u64,
}

impl Words {
    fn log(&self) -> MutexGuard<'_, Log> {
        locked(&self.0)
    }

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
        let mut log = self.log();
        match word {
            Word::Mode { mapping, .. } => {
                let own = Own { number: from, since: Instant::now(), heard: None };
                log.modes.insert(mapping.clone(), own);
            }
            Word::Invalidate(_) => {
                log.said.push_back(from);
                if log.said.len() > KNOWN {
                    log.said.pop_front();
                }
            }
        }
        Ok(text)
    }

    /// A word that could not be said: nobody hears it.
    pub(super) fn is_unsaid(&self, word: &Word) {
        if let Word::Mode { mapping, .. } = word {
            self.log().modes.remove(mapping);
        }
    }

    /// A word that was heard, and its place; none if it is this sidecar's own, or of a version that says other ones.
    pub(super) fn hear(&self, text: &str) -> Option<(Word, Place)> {
        let Said { from, word } = serde_json::from_str(text).ok()?;
        let mut log = self.log();
        log.heard += 1;
        let place = Place(log.heard);
        if let Some(own) = log.modes.values_mut().find(|own| own.number == from) {
            own.heard = Some(place);
            return None;
        }
        (!log.said.contains(&from)).then_some((word, place))
    }

    /// True when this sidecar has said something of the mode of this mapping, or of all, since a word that it has
    /// heard.
    pub(super) fn is_outdated(&self, mapping: Option<&str>, place: Place) -> bool {
        let log = self.log();
        let of = |which: Option<&str>| log.modes.get(&which.map(str::to_owned));
        [of(mapping), of(None)].into_iter().flatten().any(|own| own.comes_after(place))
    }
}

#[cfg(test)]
mod tests {
    use super::{Word, Words};
    use crate::config::Mode;

    fn mode(mapping: Option<&str>, mode: Mode) -> Word {
        Word::Mode { mapping: mapping.map(str::to_owned), mode, percent: None }
    }

    #[test]
    fn a_word_is_heard_by_all_but_the_one_who_says_it() {
        let [one, other] = [(); 2].map(|()| Words::default());
        let words = [
            Word::Mode { mapping: None, mode: Mode::Off, percent: Some(3) },
            mode(Some("a:{x}"), Mode::On),
            Word::Invalidate("a:*".into()),
        ];
        for word in words {
            let text = one.say(&word).expect("said");
            assert_eq!((one.hear(&text), other.hear(&text).map(|(word, _)| word)), (None, Some(word)));
        }
        assert_eq!(other.hear("{\"from\":1,\"word\":{\"dance\":true}}"), None);
        assert!(one.say(&Word::Invalidate("x".repeat(8000))).is_err());
    }

    #[test]
    fn of_two_words_that_cross_the_later_one_is_in_force_at_both() {
        let [one, other] = [(); 2].map(|()| Words::default());
        let off = one.say(&mode(Some("a"), Mode::Off)).expect("said");
        let on = other.say(&mode(Some("a"), Mode::On)).expect("said");
        // The feed brings them in this order to both.
        let (_, heard_off) = other.hear(&off).expect("the other's");
        assert_eq!(other.hear(&on), None);
        assert!(other.is_outdated(Some("a"), heard_off), "its own came later");
        assert_eq!(one.hear(&off), None);
        let (_, heard_on) = one.hear(&on).expect("the other's");
        assert!(!one.is_outdated(Some("a"), heard_on), "its own came first");
        // Of other mappings it has said nothing; a word of all is a word of each.
        assert!(!other.is_outdated(Some("b"), heard_off));
        other.say(&mode(None, Mode::Off)).expect("said");
        assert!(other.is_outdated(Some("b"), heard_off));
    }

    #[test]
    fn a_word_that_could_not_be_said_is_none() {
        let [one, other] = [(); 2].map(|()| Words::default());
        let own = mode(Some("a"), Mode::Off);
        one.say(&own).expect("said");
        one.is_unsaid(&own);
        let text = other.say(&mode(Some("a"), Mode::On)).expect("said");
        let (_, place) = one.hear(&text).expect("the other's");
        assert!(!one.is_outdated(Some("a"), place));
    }

    #[test]
    fn many_other_words_do_not_make_a_mode_unknown() {
        let one = Words::default();
        let text = one.say(&mode(None, Mode::Off)).expect("said");
        (0..1000).for_each(|at| drop(one.say(&Word::Invalidate(at.to_string())).expect("said")));
        assert_eq!(one.hear(&text), None);
    }
}
