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
    /// Why the others do not help.
    silent: BTreeMap<Host, String>,
    /// The master that was named last.
    chosen: Option<View>,
    /// What most of them say although it is no newer configuration, and since when.
    doubt: Option<(View, Instant)>,
}

impl Council {
    /// A sentinel says this, or does not help, and why.
    pub(super) fn hear(&mut self, sentinel: &Host, view: Result<View, String>) {
        self.forget(sentinel);
        match view {
            Ok(view) => drop(self.views.insert(sentinel.clone(), view)),
            Err(why) => drop(self.silent.insert(sentinel.clone(), why)),
        }
    }

    /// Why those that are silent do not help, in an operator's words.
    pub(super) fn reasons(&self) -> Vec<String> {
        self.silent.iter().map(|(host, why)| format!("the sentinel {host} does not help: {why}")).collect()
    }

    /// A sentinel is none of them any more.
    pub(super) fn forget(&mut self, sentinel: &Host) {
        self.views.remove(sentinel);
        self.silent.remove(sentinel);
    }

    /// True while a sentinel answers.
    pub(super) fn hears(&self, sentinel: &Host) -> bool {
        self.views.contains_key(sentinel)
    }

    /// How many answer.
    pub(super) fn answering(&self) -> usize {
        self.views.len()
    }

    /// The master to use, where so many sentinels are `known` and a group has so many as its `size`: the one of the
    /// newest configuration. The first verdict waits until more than half of those that are known have answered, or
    /// the others have been tried. If nobody stands by a verdict any more, and more than half of the group say
    /// something else for long enough, an operator has told them to watch another master; if all who answer name the
    /// same one with a lower number, they have been set up again, and their numbers count from there.
    pub(super) fn verdict(&mut self, known: usize, size: usize, now: Instant) -> Option<Host> {
        let Some(newest) = self.views.values().max_by_key(|view| view.epoch) else {
            self.doubt = None;
            return None;
        };
        if self.chosen.is_none() && self.views.len() * 2 <= known && self.views.len() + self.silent.len() < known {
            return None;
        }
        if let Some(chosen) = &mut self.chosen
            && self.views.len() * 2 > size
            && self.views.values().all(|view| view.master == chosen.master)
        {
            chosen.epoch = newest.epoch;
        }
        let is_newer = self.chosen.as_ref().is_none_or(|chosen| newest.epoch > chosen.epoch);
        if is_newer {
            (self.chosen, self.doubt) = (Some(newest.clone()), None);
        } else {
            self.doubt = self.doubted(size, now);
            if let Some((other, _)) = self.doubt.take_if(|(_, since)| now.duration_since(*since) >= BELIEVED_AFTER) {
                self.chosen = Some(other);
            }
        }
        self.chosen.as_ref().map(|chosen| chosen.master.clone())
    }

    /// What most say in place of what was chosen, and since when.
    fn doubted(&self, size: usize, now: Instant) -> Option<(View, Instant)> {
        let chosen = self.chosen.as_ref()?;
        if self.views.values().any(|view| view.master == chosen.master && view.epoch >= chosen.epoch) {
            return None;
        }
        let other = self.majority(size)?;
        let since = self.doubt.as_ref().filter(|(before, _)| before.master == other.master).map(|(_, since)| *since);
        Some((other.clone(), since.unwrap_or(now)))
    }

    /// The master that most name although it is not taken, or not yet.
    pub(super) fn rejected(&self) -> Option<&Host> {
        self.doubt.as_ref().map(|(view, _)| &view.master)
    }

    /// What more than half of the group say.
    fn majority(&self, size: usize) -> Option<&View> {
        let mut votes: HashMap<&Host, usize> = HashMap::new();
        self.views.values().for_each(|view| *votes.entry(&view.master).or_default() += 1);
        let (master, _) = votes.into_iter().find(|(_, votes)| *votes * 2 > size)?;
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
            let view = word.map(|(master, epoch)| View { master: host(master), epoch }).ok_or_else(String::new);
            council.hear(&host(sentinel), view);
            seconds += 1;
            council.verdict(3, 3, begun + Duration::from_secs(seconds)).map_or_else(String::new, |master| master.name)
        };
        words.iter().map(&mut say).collect()
    }

    #[test]
    fn the_newest_configuration_wins_though_most_do_not_know_it_yet() {
        let (old, new) = (Some(("a", 1)), Some(("b", 2)));
        let words = [("1", old), ("2", old), ("3", old), ("3", new), ("1", old), ("2", old), ("1", new)];
        assert_eq!(named(&words), ["", "a", "a", "b", "b", "b", "b"]);
    }

    #[test]
    fn the_first_verdict_waits_for_most_of_them_or_for_all_to_be_tried() {
        assert_eq!(named(&[("1", Some(("a", 1))), ("2", Some(("b", 2)))]), ["", "b"]);
        assert_eq!(named(&[("1", Some(("a", 1))), ("2", None), ("3", None)]), ["", "", "a"]);
    }

    #[test]
    fn one_that_was_cut_off_changes_nothing() {
        let begin = [("1", Some(("b", 2))), ("2", Some(("b", 2))), ("1", None), ("2", None)];
        let words = [begin.as_slice(), &[("3", Some(("a", 1))); 20]].concat();
        assert!(named(&words).iter().all(|name| name == "b" || name.is_empty()));
    }

    #[test]
    fn all_of_them_may_be_silent() {
        let words = [("1", Some(("a", 1))), ("2", Some(("a", 1))), ("1", None), ("2", None), ("2", Some(("a", 1)))];
        assert_eq!(named(&words), ["", "a", "a", "", "a"]);
    }

    #[test]
    fn most_of_them_may_be_told_to_watch_another_one() {
        let old = [("1", Some(("a", 7))), ("2", Some(("a", 7)))];
        let new = [("1", Some(("b", 0))), ("2", Some(("b", 0)))];
        let words = [old.as_slice(), &new, &new, &new, &new, &new, &new].concat();
        let named = named(&words);
        assert!(named[1..13].iter().all(|name| name == "a"), "{named:?}");
        assert_eq!(named[13], "b", "ten seconds after most of them said so");
    }

    #[test]
    fn numbers_may_begin_again() {
        let old = [("1", Some(("a", 7))), ("2", Some(("a", 7)))];
        let again = [("1", Some(("a", 0))), ("2", Some(("a", 0)))];
        let words = [old.as_slice(), &again, &[("1", Some(("b", 1)))]].concat();
        assert_eq!(named(&words).last().map(String::as_str), Some("b"), "a failover counts from the new numbers on");
    }
}
