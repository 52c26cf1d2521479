//! What is counted of a journal outside its file, in the lock file beside it: how many entries it has taken, how many
//! wait, and how many were lost. It is written after each commit and compared at the next opening. A file that has lost
//! its end (garbage in its write-ahead log, of which SQLite says nothing), or that is an older copy, is known by it.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Numbers of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Those that the journal has taken since it was made.
    pub(super) appended: u64,
    /// Those that wait.
    pub(super) waiting: u64,
    /// Those that waited, and were not there any more when the journal was opened: so many at most, because some may
    /// have replaced others. It stands until an operator removes it.
    pub(super) missing: u64,
}

impl Tally {
    /// The one in this text; that of no entries where it holds none.
    pub(super) fn read(text: &str) -> Self {
        let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Self { appended: next(), waiting: next(), missing: next() }
    }

    /// As it is after an opening that found a file with `appended` entries taken, of which `waiting` wait.
    pub(super) fn found(self, appended: u64, waiting: u64) -> Self {
        let lost = self.appended.saturating_sub(appended).min(self.waiting);
        Self { appended, waiting, missing: self.missing + lost }
    }

    fn text(self) -> String {
        format!("{:020} {:020} {:020}\n", self.appended, self.waiting, self.missing)
    }

    /// Writes it over the one before, which is as long. It is not synced: after a loss of power it may be older than
    /// the journal, and then finds nothing missing.
    pub(super) fn write(self, file: &File) -> std::io::Result<()> {
        file.write_all_at(self.text().as_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn what_is_written_is_read_and_anything_else_counts_nothing() {
        let tally = Tally { appended: u64::MAX, waiting: 7, missing: 1 };
        assert_eq!(Tally::read(&tally.text()), tally);
        assert_eq!(tally.text().len(), Tally::default().text().len());
        assert_eq!(Tally::read(""), Tally::default());
        assert_eq!(Tally::read("rubbish"), Tally::default());
    }

    #[test]
    fn what_had_been_saved_is_not_missing() {
        let noted = Tally { appended: 100, waiting: 30, missing: 0 };
        assert_eq!(noted.found(100, 30).missing, 0);
        assert_eq!(noted.found(110, 35).missing, 0, "it was killed between the commit and the count");
        assert_eq!(noted.found(90, 20).missing, 10);
        assert_eq!(noted.found(0, 0).missing, 30, "70 of them are in the store");
        assert_eq!(Tally { missing: 4, ..noted }.found(90, 20), Tally { appended: 90, waiting: 20, missing: 14 });
    }
}
