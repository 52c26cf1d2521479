//! Which writes are under way, and which keys were written that the upstream does not have as they are: of mappings
//! with `mirror = true`, and of those in the mode `fallback`, whose keys are taken from the upstream. Their values are
//! looked up when they are brought there: a key is noted once, however often it was written.
//!
//! A key that is being brought, or was a moment ago, is noted again when it changes: another sidecar may have brought
//! what is newer, before what this one brings has arrived.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use super::loads::Flights;
use crate::keys::MappingId;
use crate::mapping::Mappings;
use crate::telemetry::clock::Tick;
use crate::telemetry::locked;

/// So many keys are remembered.
const MOST: usize = 500_000;

/// So long the change feed may take to tell of a change that another sidecar has brought already, in milliseconds.
const RECENT: u64 = 5_000;

/// Where a key is on its way to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is noted.
    Waits,
    /// It is being brought.
    Brought,
    /// It is being brought, and has changed meanwhile.
    BroughtAndChanged,
    /// It has arrived at this moment.
    Arrived(Tick),
}

#[derive(Debug, Default)]
struct Keys {
    /// The mappings of which more were written than are remembered.
    lost: HashSet<MappingId>,
    stages: HashMap<Bytes, Stage>,
    /// Those that wait, the first one first.
    waiting: VecDeque<Bytes>,
    /// Those that have arrived, and when; also some that were noted again since then.
    arrived: VecDeque<(Tick, Bytes)>,
    /// How many of `stages` have arrived.
    there: usize,
}

impl Keys {
    /// How many have not arrived.
    fn count(&self) -> usize {
        self.stages.len() - self.there
    }

    /// A key waits, whatever is known of it.
    fn wait(&mut self, key: &Bytes) {
        if let Some(Stage::Arrived(_)) = self.stages.insert(key.clone(), Stage::Waits) {
            self.there -= 1;
        }
        self.waiting.push_back(key.clone());
    }

    fn arrive(&mut self, key: &Bytes, now: Tick) {
        self.stages.insert(key.clone(), Stage::Arrived(now));
        self.arrived.push_back((now, key.clone()));
        self.there += 1;
    }

    /// Forgets what arrived long ago, and was not noted again.
    fn tidy(&mut self, now: Tick) {
        while let Some((at, key)) = self.arrived.pop_front_if(|(at, _)| at.plus(RECENT) < now) {
            if self.stages.get(&key) == Some(&Stage::Arrived(at)) {
                self.stages.remove(&key);
                self.there -= 1;
            }
        }
    }
}

/// Of which mappings keys are noted.
#[derive(Debug)]
struct Wanted {
    mappings: Arc<Mappings>,
    is_wanted: Vec<bool>,
}

/// Keys that were written.
#[derive(Debug, Default)]
pub(crate) struct WrittenKeys {
    /// The mappings whose keys are noted; nothing where there are none.
    wanted: ArcSwapOption<Wanted>,
    keys: Mutex<Keys>,
}

impl WrittenKeys {
    fn keys(&self) -> MutexGuard<'_, Keys> {
        locked(&self.keys)
    }

    /// Notes the keys of those mappings from now on of which this is true, by their numbers.
    pub(crate) fn want(&self, mappings: &Arc<Mappings>, is_wanted: Vec<bool>) {
        let wanted = is_wanted.contains(&true).then(|| Arc::new(Wanted { mappings: mappings.clone(), is_wanted }));
        self.wanted.store(wanted);
    }

    /// The mapping of a key that is to be noted.
    fn wanted(&self, key: &[u8]) -> Option<MappingId> {
        let wanted = self.wanted.load();
        let Wanted { mappings, is_wanted } = &**wanted.as_ref()?;
        mappings.keyspace.owner(key).filter(|id| is_wanted.get(id.index()) == Some(&true))
    }

    /// A key was written, or may have been.
    pub(crate) fn note(&self, key: &Bytes) {
        let Some(mapping) = self.wanted(key) else { return };
        let mut keys = self.keys();
        match keys.stages.get(key) {
            Some(Stage::Waits | Stage::BroughtAndChanged) => {}
            Some(Stage::Brought) => _ = keys.stages.insert(key.clone(), Stage::BroughtAndChanged),
            Some(Stage::Arrived(_)) | None if keys.count() < MOST => keys.wait(key),
            Some(Stage::Arrived(_)) | None => _ = keys.lost.insert(mapping),
        }
    }

    /// A key ends later than it did.
    pub(crate) fn renewed(&self, key: &[u8]) {
        if self.wanted(key).is_some() {
            self.note(&Bytes::copy_from_slice(key));
        }
    }

    /// Somebody else has changed a key: it is noted again if it is being brought, or was a moment ago.
    pub(super) fn changed(&self, key: &[u8]) {
        if self.wanted(key).is_some() && self.keys().stages.contains_key(key) {
            self.note(&Bytes::copy_from_slice(key));
        }
    }

    /// Takes at most so many keys of those that are meant, to bring them.
    pub(crate) fn take(&self, most: usize, is_meant: impl Fn(&[u8]) -> bool) -> Vec<Bytes> {
        let mut keys = self.keys();
        let (mut taken, mut others) = (Vec::new(), VecDeque::new());
        while taken.len() < most
            && let Some(key) = keys.waiting.pop_front()
        {
            match is_meant(&key) {
                true => taken.push(key),
                false => others.push_back(key),
            }
        }
        others.append(&mut keys.waiting);
        keys.waiting = others;
        for key in &taken {
            keys.stages.insert(key.clone(), Stage::Brought);
        }
        taken
    }

    /// A key that was taken is at the upstream.
    pub(crate) fn arrived(&self, key: &Bytes, now: Tick) {
        let mut keys = self.keys();
        keys.tidy(now);
        match keys.stages.get(key) {
            Some(Stage::Brought) => keys.arrive(key, now),
            Some(Stage::BroughtAndChanged) => keys.wait(key),
            _ => {}
        }
    }

    /// Keys that could not be brought: they wait again, behind the others.
    pub(crate) fn give_back(&self, given: &[Bytes]) {
        let mut keys = self.keys();
        for key in given {
            if matches!(keys.stages.get(key), Some(Stage::Brought | Stage::BroughtAndChanged)) {
                keys.wait(key);
            }
        }
    }

    /// Forgets those that wait and are meant: they are not brought any more. How many there were.
    pub(crate) fn forget(&self, is_meant: impl Fn(&[u8]) -> bool) -> usize {
        let mut keys = self.keys();
        let (gone, kept): (Vec<Bytes>, Vec<Bytes>) = keys.waiting.drain(..).partition(|key| is_meant(key));
        keys.waiting = kept.into();
        gone.iter().for_each(|key| _ = keys.stages.remove(key));
        gone.len()
    }

    /// How many have not arrived. What arrived long ago is forgotten.
    pub(crate) fn count(&self, now: Tick) -> usize {
        let mut keys = self.keys();
        keys.tidy(now);
        keys.count()
    }

    /// Notes what another list has noted, whose mappings may have other numbers. Nothing is noted there any more.
    pub(crate) fn inherit(&self, old: &Self) {
        old.take(usize::MAX, |_| true).iter().for_each(|key| self.note(key));
        let (wanted, of_old) = (self.wanted.load(), old.wanted.load());
        if let (Some(wanted), Some(of_old)) = (&*wanted, &*of_old) {
            let lost = std::mem::take(&mut old.keys().lost);
            let texts = lost.iter().map(|id| of_old.mappings.keyspace.pattern(*id).text());
            self.keys().lost.extend(texts.filter_map(|text| wanted.mappings.keyspace.find(text)));
        }
    }

    /// True if more keys of one of these mappings were written than are remembered; from now on that is forgotten.
    pub(crate) fn take_lost(&self, mappings: &[MappingId]) -> bool {
        let mut keys = self.keys();
        mappings.iter().filter(|mapping| keys.lost.remove(mapping)).count() > 0
    }
}

impl Flights {
    /// Writes that have queued and not ended.
    pub(super) fn writes(&self) -> usize {
        self.shards.iter().map(|shard| locked(shard).values().map(|slot| slot.turns.len()).sum::<usize>()).sum()
    }

    /// True when a write of a key has queued and not ended, of one that `is_meant`.
    pub(super) fn writes_some(&self, is_meant: impl Fn(&[u8]) -> bool) -> bool {
        let mut shards = self.shards.iter();
        shards.any(|shard| locked(shard).iter().any(|(key, slot)| !slot.turns.is_empty() && is_meant(key)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{MOST, Mappings, RECENT, WrittenKeys};
    use crate::keys::{Keyspace, MappingId, Pattern};
    use crate::telemetry::clock::Tick;

    const NOW: Tick = Tick::from_ms(1000);

    /// The keys of these patterns are noted, of which this is true.
    fn written(patterns: &[(&str, bool)]) -> WrittenKeys {
        let parsed = patterns.iter().map(|(text, _)| Pattern::parse(text).expect("a pattern"));
        let keyspace = Keyspace::new(parsed.collect());
        let written = WrittenKeys::default();
        let mappings = Arc::new(Mappings { list: Vec::new(), keyspace });
        written.want(&mappings, patterns.iter().map(|(_, is_wanted)| *is_wanted).collect());
        written
    }

    fn note(written: &WrittenKeys, keys: &[&str]) {
        keys.iter().for_each(|key| written.note(&Bytes::copy_from_slice(key.as_bytes())));
    }

    #[test]
    fn a_key_is_noted_once_and_taken_by_those_who_mean_it() {
        let keys = written(&[("a:{x:int}", false), ("a:{x}", true), ("b:{x}", true), ("d:{x}", false)]);
        note(&keys, &["a:one", "b:1", "a:one", "c:1", "d:1", "a:two", "a:1"]);
        assert_eq!(keys.count(NOW), 3, "not those of a mapping that matches first");
        let taken = keys.take(9, |key| key.starts_with(b"a"));
        assert_eq!(taken, ["a:one", "a:two"], "in the order in which they came");
        assert_eq!(keys.count(NOW), 3, "none has arrived");
        keys.give_back(&taken);
        assert_eq!(keys.take(2, |_| true), ["b:1", "a:one"], "what failed waits behind the others");
        assert_eq!(written(&[("a:{x}", false)]).take(9, |_| true), Vec::<Bytes>::new());
    }

    #[test]
    fn what_changes_while_it_is_brought_or_a_moment_later_is_brought_again() {
        let (keys, key) = (written(&[("a:{x}", true)]), Bytes::from("a:1"));
        let at = Tick::from_ms(1000);
        keys.changed(b"a:1");
        assert_eq!(keys.count(at), 0, "what nobody brings is no matter");
        note(&keys, &["a:1"]);
        assert_eq!(keys.take(9, |_| true), ["a:1"]);
        keys.changed(b"a:1");
        keys.arrived(&key, at);
        assert_eq!(keys.take(9, |_| true), ["a:1"], "it changed on the way");
        keys.arrived(&key, at);
        assert_eq!((keys.count(at), keys.take(9, |_| true).len()), (0, 0));
        keys.changed(b"a:1");
        assert_eq!(keys.take(9, |_| true), ["a:1"], "it changed at about the same time");
        keys.arrived(&key, at.plus(1));
        assert_eq!((keys.count(at.plus(RECENT + 1)), keys.keys().stages.len()), (0, 1), "it came again a moment later");
        assert_eq!((keys.count(at.plus(RECENT + 2)), keys.keys().stages.len()), (0, 0), "long ago is forgotten");
        keys.changed(b"a:1");
        assert_eq!(keys.count(at), 0);
    }

    #[test]
    fn what_is_forgotten_is_not_brought() {
        let keys = written(&[("a:{x}", true)]);
        note(&keys, &["a:1", "a:2"]);
        assert_eq!(keys.forget(|key| key == b"a:1"), 1);
        assert_eq!((keys.count(NOW), keys.take(9, |_| true)), (1, vec![Bytes::from("a:2")]));
    }

    #[test]
    fn that_too_many_were_written_is_said_once_of_their_mapping() {
        let keys = written(&[("a:{x}", true), ("b:{x}", true)]);
        (0..=MOST).for_each(|at| keys.note(&Bytes::from(format!("a:{at}"))));
        let [a, b] = [0, 1].map(MappingId::new);
        assert_eq!((keys.count(NOW), keys.take_lost(&[b])), (MOST, false));
        assert_eq!((keys.take_lost(&[a, b]), keys.take_lost(&[a])), (true, false));
    }

    #[test]
    fn another_list_goes_on_with_what_was_noted_and_what_was_too_much() {
        let (old, new) = (written(&[("a:{x}", true), ("b:{x}", true)]), written(&[("b:{x}", true), ("a:{x}", true)]));
        (0..=MOST).for_each(|at| old.note(&Bytes::from(format!("b:{at}"))));
        new.inherit(&old);
        let [b, a] = [0, 1].map(MappingId::new);
        assert_eq!((new.count(NOW), new.take_lost(&[a]), new.take_lost(&[b])), (MOST, false, true));
    }
}
