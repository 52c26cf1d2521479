//! What an import has done: numbers, and the first keys of each kind that somebody has to look at. Never values.

use std::fmt;

use super::Wishes;

/// So many keys of a kind are listed.
const LISTED: usize = 20;

/// Keys that somebody has to look at, and why.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// How many they are.
    pub count: u64,
    first: Vec<(String, String)>,
}

impl Listed {
    pub(super) fn add(&mut self, key: &[u8], why: &str) {
        self.count += 1;
        if self.first.len() < LISTED {
            self.first.push((format!("{:?}", String::from_utf8_lossy(key)), why.to_owned()));
        }
    }

    fn show(&self, what: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, why) in &self.first {
            writeln!(f, "{what}: {key}: {why}")?;
        }
        match self.count - self.first.len() as u64 {
            0 => Ok(()),
            more => writeln!(f, "{what}: and {more} more"),
        }
    }
}

/// What was done, and what is left.
#[derive(Clone, Debug)]
pub struct Report {
    wishes: Wishes,
    /// Inserted, or of a dry run: what would be.
    pub copied: u64,
    /// The store had a row.
    pub there: u64,
    /// Gone from the upstream before they were copied, or right behind it: then taken back.
    pub vanished: u64,
    /// What the store does not take.
    pub refused: Listed,
    /// Compared, and equal.
    pub equal: u64,
    /// Written in the store by somebody else since they were copied.
    pub changed: u64,
    /// Compared, and not equal.
    pub different: Listed,
    /// Copied, and not compared.
    pub unsettled: u64,
    /// It was stopped before its end.
    pub was_stopped: bool,
}

impl Report {
    pub(super) fn new(wishes: Wishes) -> Self {
        Self {
            wishes,
            copied: 0,
            there: 0,
            vanished: 0,
            refused: Listed::default(),
            equal: 0,
            changed: 0,
            different: Listed::default(),
            unsettled: 0,
            was_stopped: false,
        }
    }

    /// Grows whenever something is done.
    pub(super) const fn done(&self) -> u64 {
        self.copied + self.equal + self.changed + self.vanished + self.different.count
    }

    /// Forgets what is met again by whoever goes over all keys once more.
    pub(super) fn begin_again(&mut self) {
        self.there = 0;
        self.refused = Listed::default();
        if self.wishes.compares_all {
            (self.equal, self.changed, self.different) = (0, 0, Listed::default());
        }
    }

    /// True when everything is in the store, and as it was.
    #[must_use]
    pub const fn is_well(&self) -> bool {
        self.refused.count == 0 && self.different.count == 0 && self.unsettled == 0 && !self.was_stopped
    }

    /// In one line, while it goes on.
    pub(super) fn in_short(&self) -> String {
        let Self { copied, there, vanished, refused, different, .. } = self;
        let (refused, different) = (refused.count, different.count);
        format!("copied {copied}, there already {there}, refused {refused}, vanished {vanished}, different {different}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.refused.show("refused", f)?;
        self.different.show("different", f)?;
        let copied = if self.wishes.is_dry { "would be copied" } else { "copied" };
        writeln!(f, "{copied} {}", self.copied)?;
        writeln!(f, "there already {}", self.there)?;
        writeln!(f, "refused {}", self.refused.count)?;
        writeln!(f, "vanished {}", self.vanished)?;
        writeln!(f, "compared and equal {}", self.equal)?;
        writeln!(f, "changed in the store meanwhile {}", self.changed)?;
        writeln!(f, "different {}", self.different.count)?;
        if self.unsettled > 0 {
            writeln!(f, "not compared yet {}: run it again with --verify", self.unsettled)?;
        }
        if self.was_stopped {
            writeln!(f, "stopped: run it again, what is done is passed over")?;
        }
        Ok(())
    }
}
