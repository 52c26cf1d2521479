//! What the sentinels say, taken together: which master is the right one (pure).
//!
//! Each failover has a number, the configuration's epoch, which grows. The sentinel that runs it names the new master
//! first, the others some moments later, and one that was cut off still names the master of an earlier one.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::upstream::endpoint::target::Host;

/// For so long most sentinels must name another master of no newer configuration before it is believed.
const BELIEVED_AFTER: Duration = Duration::from_secs(10);

/// What one sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) master: Host,
    /// The configuration's epoch.
    pub(super) epoch: u64,
}

/// The last word of each that answers.
#[derive(Debug, Default)]
pub(super) struct Council {
    views: BTreeMap<Host, View>,
    /// The master that was named last.
    chosen: Option<View>,
    /// What most of them say although it is no newer configuration, and since when.
    doubt: Option<(View, Instant)>,
}

impl Council {
    /// A sentinel says this, or nothing any more.
    pub(super) fn hear(&mut self, sentinel: &Host, view: Option<View>) {
        match view {
            Some(view) => self.views.insert(sentinel.clone(), view),
            None => self.views.remove(sentinel),
        };
    }

    /// How many answer.
    pub(super) fn answering(&self) -> usize {
        self.views.len()
    }

    /// None answers.
    pub(super) fn is_deserted(&self) -> bool {
        self.views.is_empty()
    }

    /// The master to use, of so many sentinels that are known: the one of the newest configuration. If nobody names
    /// that any more, and more than half of them name another one for long enough, an operator has told them to watch
    /// that one.
    pub(super) fn verdict(&mut self, known: usize, now: Instant) -> Option<Host> {
        let newest = self.views.values().max_by_key(|view| view.epoch)?;
        let is_newer = self.chosen.as_ref().is_none_or(|chosen| newest.epoch > chosen.epoch);
        if is_newer {
            (self.chosen, self.doubt) = (Some(newest.clone()), None);
        } else {
            self.doubt = self.doubted(known, now);
            if let Some((other, since)) = &self.doubt
                && now.duration_since(*since) >= BELIEVED_AFTER
            {
                self.chosen = Some(other.clone());
            }
        }
        self.chosen.as_ref().map(|chosen| chosen.master.clone())
    }

    /// What most say in place of what was chosen, and since when.
    fn doubted(&self, known: usize, now: Instant) -> Option<(View, Instant)> {
        let chosen = &self.chosen.as_ref()?.master;
        if self.views.values().any(|view| view.master == *chosen) {
            return None;
        }
        let other = self.majority(known)?;
        let since = self.doubt.as_ref().filter(|(before, _)| before.master == other.master).map(|(_, since)| *since);
        Some((other.clone(), since.unwrap_or(now)))
    }

    /// What more than half of them say.
    fn majority(&self, known: usize) -> Option<&View> {
        let mut votes: HashMap<&Host, usize> = HashMap::new();
        self.views.values().for_each(|view| *votes.entry(&view.master).or_default() += 1);
        let (master, _) = votes.into_iter().find(|(_, votes)| *votes * 2 > known)?;
        self.views.values().filter(|view| view.master == *master).max_by_key(|view| view.epoch)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Council, View};
    use crate::upstream::endpoint::target::Host;

    fn host(name: &str) -> Host {
        Host { name: name.into(), port: 1 }
    }

    /// What the council names after each of these words, of three sentinels, a second after the other.
    fn named(words: &[(&str, Option<(&str, u64)>)]) -> Vec<String> {
        let (mut council, begun) = (Council::default(), Instant::now());
        let mut seconds = 0;
        let mut say = |(sentinel, word): &(&str, Option<(&str, u64)>)| {
            let view = word.map(|(master, epoch)| View { master: host(master), epoch });
            council.hear(&host(sentinel), view);
            seconds += 1;
            council.verdict(3, begun + Duration::from_secs(seconds)).map_or_else(String::new, |master| master.name)
        };
        words.iter().map(&mut say).collect()
    }

    #[test]
    fn the_newest_configuration_wins_though_most_do_not_know_it_yet() {
        let (old, new) = (Some(("a", 1)), Some(("b", 2)));
        let words = [("1", old), ("2", old), ("3", old), ("3", new), ("1", old), ("2", old), ("1", new)];
        assert_eq!(named(&words), ["a", "a", "a", "b", "b", "b", "b"]);
    }

    #[test]
    fn one_that_was_cut_off_changes_nothing() {
        let words = [[("1", Some(("b", 2)))].as_slice(), &[("1", None)], &[("2", Some(("a", 1))); 20]].concat();
        assert!(named(&words).iter().all(|name| name == "b" || name.is_empty()));
    }

    #[test]
    fn all_of_them_may_be_silent() {
        let words = [("1", Some(("a", 1))), ("1", None), ("2", Some(("a", 1)))];
        assert_eq!(named(&words), ["a", "", "a"]);
    }

    #[test]
    fn most_of_them_may_be_told_to_watch_another_one() {
        let old = [("1", Some(("a", 7))), ("2", Some(("a", 7)))];
        let new = [("1", Some(("b", 0))), ("2", Some(("b", 0)))];
        let words = [old.as_slice(), &new, &new, &new, &new, &new, &new].concat();
        let named = named(&words);
        assert!(named[..13].iter().all(|name| name == "a"), "{named:?}");
        assert_eq!(named[13], "b", "ten seconds after most of them said so");
    }
}
