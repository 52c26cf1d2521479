//! What keys of the upstream look like that clients ask for most: of a sample of the commands that pass through, the
//! command and the key's form, in which every part that varies is a hole.

use std::cell::Cell;

use super::TopKeys;
use super::hash_of;
use crate::telemetry::clock::Tick;

/// A thread counts about so many commands a second, at most.
const BUDGET: u32 = 250;

/// One command of so many at least is counted.
const RAREST: u32 = 4096;

/// A longer part is a hole.
const LONGEST: usize = 24;

/// How often a thread counts.
#[derive(Clone, Copy, Debug)]
struct Pace {
    second: u64,
    taken: u32,
    every: u32,
}

thread_local! {
    static PACE: Cell<Pace> = const { Cell::new(Pace { second: 0, taken: 0, every: 1 }) };
}

/// Which command of a client is counted next.
#[derive(Clone, Debug, Default)]
pub struct PassedReader {
    next: u64,
}

impl PassedReader {
    /// True when the command with this number is to be counted.
    #[inline]
    #[must_use]
    pub fn is_due(&self, number: u64) -> bool {
        number >= self.next
    }

    /// Counts the command with this number, and chooses the next: at random, so that what comes in turn is not met in
    /// turn.
    #[cold]
    pub fn count(&mut self, number: u64, command: &str, key: &[u8], top: &TopKeys) {
        let (now, is_first) = (Tick::now(), self.next == 0);
        let (counts_for, every) = PACE.with(|pace| {
            let old = pace.get();
            pace.set(old.after(now));
            (old.every, pace.get().every)
        });
        self.next = number + if every <= 1 { 1 } else { u64::from(fastrand::u32(1..2 * every)) };
        if is_first && every > 1 {
            // What clients ask for first would count too often.
            return;
        }
        let form = format!("{command} {}", form(key));
        // Somebody looks at the counts, or another thread counts: this command is not counted then.
        if let Ok(mut passed) = top.passed.try_lock() {
            passed.add(hash_of(form.as_bytes()), form.as_bytes(), u64::from(counts_for), now);
        }
    }
}

impl Pace {
    /// Behind one more that was counted.
    fn after(self, now: Tick) -> Self {
        let second = now.as_ms() / 1000;
        let Self { taken, mut every, .. } = self;
        let taken = match second == self.second {
            true => taken + 1,
            false => {
                if taken < BUDGET / 4 {
                    every = (every / 2).max(1);
                }
                1
            }
        };
        match taken >= BUDGET {
            true => Self { second, taken: 0, every: (every * 2).min(RAREST) },
            false => Self { second, taken, every },
        }
    }
}

/// A key with holes: a part between colons that has a digit in it varies from its last letter before a dash on. A hole
/// says what was in it, where that is a whole number, a UUID or a date as placeholders take them.
fn form(key: &[u8]) -> String {
    let text = String::from_utf8_lossy(&key[..key.len().min(256)]);
    let parts = text.split(':').map(|part| {
        let is_plain = part.len() <= LONGEST && part.chars().all(|c| c.is_ascii_alphabetic() || "-_.".contains(c));
        let digit = part.find(|c: char| c.is_ascii_digit());
        let before = digit.and_then(|at| part[..at].rfind(['-', '_', '.'])).map_or("", |at| &part[..=at]);
        let is_word = before.chars().all(|c| c.is_ascii_alphabetic() || "-_.".contains(c));
        match (is_plain, is_word && part.matches('-').count() < 3) {
            (true, _) => part.to_owned(),
            (false, true) => format!("{before}{{{}}}", kind(&part[before.len()..], part)),
            (false, false) => format!("{{{}}}", kind(part, part)),
        }
    });
    parts.collect::<Vec<_>>().join(":")
}

/// What a hole holds: of what varies of a part, or of all of it.
fn kind(varying: &str, part: &str) -> &'static str {
    let is_form = |form: &str| {
        let fits = |(c, as_in): (char, char)| match as_in {
            'x' => c.is_ascii_digit() || ('a'..='f').contains(&c),
            '9' => c.is_ascii_digit(),
            other => c == other,
        };
        part.len() == form.len() && part.chars().zip(form.chars()).all(fits)
    };
    let is_int = varying.chars().all(|c| c.is_ascii_digit()) && (1..=18).contains(&varying.len());
    match () {
        () if is_form("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx") => "uuid",
        () if is_form("9999-99-99") => "date",
        () if is_int && (varying == "0" || !varying.starts_with('0')) => "int",
        () => "",
    }
}

#[cfg(test)]
mod tests {
    use super::{PassedReader, form};
    use crate::telemetry::TopKeys;

    #[test]
    fn what_varies_is_a_hole() {
        for (key, expected) in [
            ("user:17:cart", "user:{int}:cart"),
            ("user:017:cart", "user:{}:cart"),
            ("user:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "user:{uuid}"),
            ("user:F81D4FAE-7dec-11d0-a765-00a0c91e6bf6", "user:{}"),
            ("visits:2026-11-28", "visits:{date}"),
            ("user-17", "user-{int}"),
            ("flags", "flags"),
            ("session:AbCdEfGhIjKlMnOpQrStUvWxYz", "session:{}"),
            ("a:b:c", "a:b:c"),
            ("mail:a@example.org", "mail:{}"),
        ] {
            assert_eq!(form(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn what_comes_often_is_found_among_many() {
        let (top, mut reader) = (TopKeys::default(), PassedReader::default());
        for number in 0..200_000_u64 {
            if reader.is_due(number) {
                let key = if number % 4 == 0 { format!("hot:{number}") } else { format!("cold{number}:x") };
                reader.count(number, "GET", key.as_bytes(), &top);
            }
        }
        let passed = top.passed(1000);
        let hot = passed.iter().find(|(form, _)| form == "GET hot:{int}").map(|(_, count)| *count);
        assert!(hot.is_some_and(|count| (30_000..70_000).contains(&count)), "{hot:?}");
    }
}
