//! What is counted, and the last of what was found, where mappings are compared with the upstream (`mode = "shadow"`).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::register::Register;
use crate::telemetry::clock::{Tick, UnixMs};
use crate::telemetry::locked;

/// So many are remembered.
const MOST: usize = 200;
/// So many fields of a mapping are counted by their names, the others as one.
const FIELDS: usize = 50;
/// A name is counted as it is that has so many bytes at most, all of them letters, digits and signs that can be shown.
const LONGEST_NAME: usize = 64;
/// As which.
const OTHERS: &str = "(others)";
/// So many comparisons are under way at once, and begin in a second, at most.
const AT_ONCE: usize = 64;
const A_SECOND: u32 = 500;
/// A key is compared again after so many milliseconds at the earliest; so many keys are remembered for that.
const AGAIN: u64 = 10_000;
const KEYS: usize = 16_384;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ComparedLabel {
    mapping: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FieldLabel {
    mapping: String,
    field: String,
}

/// How a comparison ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Both sides had the same.
    Equal,
    /// They had not, twice in a row.
    Different,
    /// Somebody wrote again and again.
    Unsettled,
    /// One side could not be asked.
    Failed,
    /// The upstream has too much under the key.
    TooLarge,
}

impl Compared {
    const ALL: [Self; 5] = [Self::Equal, Self::Different, Self::Unsettled, Self::Failed, Self::TooLarge];

    const fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Different => "different",
            Self::Unsettled => "unsettled",
            Self::Failed => "failed",
            Self::TooLarge => "too_large",
        }
    }
}

/// One field in which the sides differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The mapping's key pattern.
    pub mapping: String,
    /// The key.
    pub key: Bytes,
    /// The field, member, or place of an element; what it is of a value as a whole.
    pub field: String,
    /// What each of them has, in words; never a value.
    pub words: String,
    /// When it was found.
    pub at: UnixMs,
}

/// Which keys were compared lately, and how many comparisons began in the second that goes on.
#[derive(Debug, Default)]
struct Recent {
    second: u64,
    begun: u32,
    keys: HashMap<Bytes, Tick>,
}

/// Of what is compared.
#[derive(Debug)]
pub struct ShadowMetrics {
    compared: Family<ComparedLabel, Counter>,
    mismatches: Family<FieldLabel, Counter>,
    skipped: Counter,
    fields: Mutex<BTreeMap<String, BTreeSet<String>>>,
    last: Mutex<VecDeque<Mismatch>>,
    recent: Mutex<Recent>,
    under_way: AtomicUsize,
}

/// Stands for a field where one side has no such key.
pub const WHOLE_KEY: &str = "(key)";

/// A comparison that is under way.
#[derive(Debug)]
pub struct Comparing(Arc<ShadowMetrics>);

impl Drop for Comparing {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

impl ShadowMetrics {
    pub(super) fn register(r: &mut Register) -> Self {
        Self {
            compared: r.family(
                "shadow_compared",
                "Keys that were compared with the upstream, of mappings with mode = \"shadow\", by outcome (equal; \
                 different; unsettled: somebody wrote again and again; failed: one side could not be asked; \
                 too_large: the upstream has more than a megabyte under the key)",
            ),
            mismatches: r.family(
                "shadow_mismatches",
                "Fields in which a key of the upstream and of the store differed, by mapping and field",
            ),
            skipped: r.counter(
                "shadow_skipped",
                "Reads of mappings with mode = \"shadow\" that were not compared: too many came, or the key was \
                 compared less than ten seconds ago",
            ),
            fields: Mutex::default(),
            last: Mutex::default(),
            recent: Mutex::default(),
            under_way: AtomicUsize::new(0),
        }
    }

    /// Shows what is counted of a mapping, before anything was.
    pub fn show(&self, mapping: &str) {
        for outcome in Compared::ALL {
            drop(self.compared(mapping, outcome));
        }
        let field = self.label(mapping, WHOLE_KEY);
        drop(self.mismatches.get_or_create(&FieldLabel { mapping: mapping.to_owned(), field }));
    }

    /// Shows a mapping no more, which a reload has taken away.
    pub fn forget(&self, mapping: &str) {
        let mapping = mapping.to_owned();
        for outcome in Compared::ALL {
            self.compared.remove(&ComparedLabel { mapping: mapping.clone(), outcome: outcome.name() });
        }
        let fields = locked(&self.fields).remove(&mapping).unwrap_or_default();
        for field in fields.into_iter().chain([OTHERS.to_owned()]) {
            self.mismatches.remove(&FieldLabel { mapping: mapping.clone(), field });
        }
    }

    fn compared(&self, mapping: &str, outcome: Compared) -> Counter {
        self.compared.get_or_create_owned(&ComparedLabel { mapping: mapping.to_owned(), outcome: outcome.name() })
    }

    /// Lets a comparison of `key` begin, unless it is one too many.
    pub fn begin(self: &Arc<Self>, key: &[u8], now: Tick) -> Option<Comparing> {
        let may_begin = self.under_way.load(Relaxed) < AT_ONCE && locked(&self.recent).takes(key, now);
        if !may_begin {
            self.skipped.inc();
            return None;
        }
        self.under_way.fetch_add(1, Relaxed);
        Some(Comparing(self.clone()))
    }

    /// Counts a comparison that has ended, and notes what differs.
    pub fn ended(&self, mapping: &str, outcome: Compared, found: Vec<Mismatch>) {
        self.compared(mapping, outcome).inc();
        for mismatch in &found {
            let field = self.label(mapping, &mismatch.field);
            self.mismatches.get_or_create(&FieldLabel { mapping: mapping.to_owned(), field }).inc();
        }
        let mut last = locked(&self.last);
        last.extend(found);
        let over = last.len().saturating_sub(MOST);
        last.drain(..over);
    }

    /// The field by its name, if it is one of the first of its mapping. Names are the application's: one that no column
    /// would have is none.
    fn label(&self, mapping: &str, field: &str) -> String {
        if field.len() > LONGEST_NAME || !field.bytes().all(|byte| byte.is_ascii_graphic()) {
            return OTHERS.to_owned();
        }
        let mut fields = locked(&self.fields);
        let known = fields.entry(mapping.to_owned()).or_default();
        match known.contains(field) || known.len() < FIELDS {
            true => {
                known.insert(field.to_owned());
                field.to_owned()
            }
            false => OTHERS.to_owned(),
        }
    }

    /// The last that were found, the newest first.
    #[must_use]
    pub fn last(&self) -> Vec<Mismatch> {
        locked(&self.last).iter().rev().cloned().collect()
    }
}

impl Recent {
    fn takes(&mut self, key: &[u8], now: Tick) -> bool {
        let second = now.as_ms() / 1000;
        if second != self.second {
            (self.second, self.begun) = (second, 0);
        }
        if self.begun >= A_SECOND || self.keys.get(key).is_some_and(|at| now.since(*at) < AGAIN) {
            return false;
        }
        if self.keys.len() >= KEYS {
            self.keys.clear();
        }
        self.begun += 1;
        self.keys.insert(Bytes::copy_from_slice(key), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{AT_ONCE, Compared, LONGEST_NAME, MOST, Mismatch, OTHERS};
    use crate::telemetry::Metrics;
    use crate::telemetry::clock::{Tick, UnixMs};

    #[test]
    fn few_are_compared_at_once_and_the_last_are_remembered() {
        let metrics = Metrics::default().shadow;
        let now = Tick::now();
        let first = metrics.begin(b"k0", now);
        assert!(first.is_some() && metrics.begin(b"k0", now).is_none(), "not twice in a row");
        let begun: Vec<_> = (1..).map_while(|at| metrics.begin(format!("k{at}").as_bytes(), now)).collect();
        assert_eq!(begun.len(), AT_ONCE - 1);
        drop((first, begun));
        assert!(metrics.begin(b"another", now).is_some());
        let mismatch = |at: usize| Mismatch {
            mapping: "m".into(),
            key: Bytes::from(format!("k{at}")),
            field: format!("f{at}"),
            words: String::new(),
            at: UnixMs::now(),
        };
        for at in 0..2 * MOST {
            Arc::clone(&metrics).ended("m", Compared::Different, vec![mismatch(at)]);
        }
        let last = metrics.last();
        assert_eq!((last.len(), last[0].field.as_str()), (MOST, "f399"));
        let long = "f".repeat(LONGEST_NAME + 1);
        for field in [long.as_str(), "Ann Smith", "\u{1}"] {
            assert_eq!(metrics.label("other", field), OTHERS);
        }
        assert_eq!(metrics.label("other", "(key)"), "(key)");
    }
}
