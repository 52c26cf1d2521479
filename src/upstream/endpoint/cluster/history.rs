//! When each slot of a cluster was last seen with another owner, or on its way: who reads all keys of a cluster, node
//! by node, reads those slots once more (decision 0036).
//!
//! Invariant: a slot of which nothing is noted between two notes was one node's from when the nodes were asked for the
//! first to when they were asked for the second. A node that a slot comes back to has a newer configuration then: its
//! number (the epoch) is another one.

use std::collections::BTreeMap;

use super::nodes::Picture;
use super::roster::Roster;
use crate::command::SLOTS;
use crate::upstream::endpoint::target::Host;

/// A slot that nobody owns.
const NOBODY: u32 = u32::MAX;

/// Where a slot is: who owns it, and by which configuration, and who says that it is on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    claim: Claim,
    leaves: Vec<u32>,
    arrives: Vec<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    owner: u32,
    epoch: u64,
}

impl Default for Claim {
    fn default() -> Self {
        Self { owner: NOBODY, epoch: 0 }
    }
}

/// What has been noted of all slots.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Counts the notes.
    number: u64,
    /// The nodes, by which numbers their claims are noted.
    pub(super) roster: Roster,
    claims: Vec<Claim>,
    /// By slot: the nodes that it leaves, and those where it arrives.
    moving: BTreeMap<u16, [Vec<u32>; 2]>,
    /// The last note that is not the same as the one before; one more while the slot is on its way.
    changed: Vec<u64>,
}

/// A note of what the nodes say.
#[derive(Debug)]
pub(super) struct Note {
    /// Of the note.
    pub(super) number: u64,
    /// The number of each node of the picture.
    pub(super) nodes: Vec<u32>,
}

impl History {
    /// Notes what the nodes say.
    pub(super) fn note(&mut self, picture: &Picture) -> Note {
        self.number += 1;
        self.claims.resize(usize::from(SLOTS), Claim::default());
        self.changed.resize(usize::from(SLOTS), 0);
        let nodes = self.roster.note(&picture.nodes);
        for (slot, owner) in picture.owners.iter().enumerate() {
            let claim =
                owner.map_or_else(Claim::default, |at| Claim { owner: nodes[at].0, epoch: picture.nodes[at].epoch });
            // One that has come back elsewhere was started again: cursors mean nothing to it.
            if self.claims[slot] != claim || owner.is_some_and(|at| nodes[at].1) {
                (self.claims[slot], self.changed[slot]) = (claim, self.number);
            }
        }
        self.moving.clear();
        for (node, (number, _)) in picture.nodes.iter().zip(&nodes) {
            for moving in &node.moving {
                self.moving.entry(moving.slot).or_default()[usize::from(moving.arrives)].push(*number);
                self.changed[usize::from(moving.slot)] = self.number + 1;
            }
        }
        Note { number: self.number, nodes: nodes.into_iter().map(|(number, _)| number).collect() }
    }

    /// Whoever reads all keys leaves this node out: what it had is read wherever it is now.
    pub(crate) fn is_left_out(&mut self, number: u32) {
        for (claim, changed) in self.claims.iter().zip(&mut self.changed) {
            if claim.owner == number {
                *changed = self.number + 1;
            }
        }
    }

    /// The first slots from `from` on, at most so many, that have changed since that note, or were on their way.
    pub(crate) fn changed(&self, since: u64, from: u16, most: usize) -> Vec<u16> {
        (from..SLOTS)
            .filter(|slot| self.changed.get(usize::from(*slot)).is_some_and(|at| *at > since))
            .take(most)
            .collect()
    }

    /// Where a slot is, by the last note.
    pub(crate) fn standing(&self, slot: u16) -> Standing {
        let claim = self.claims.get(usize::from(slot)).copied().unwrap_or_default();
        let [leaves, arrives] = self.moving.get(&slot).cloned().unwrap_or_default();
        Standing { claim, leaves, arrives }
    }

    /// The nodes that may have keys of a slot: those that keys leave, and those where they arrive. Who reads them in
    /// this order finds each key, wherever it is meanwhile.
    pub(crate) fn places(&self, of: &Standing) -> [Vec<Host>; 2] {
        let arrives: Vec<u32> = of.arrives.iter().copied().filter(|node| !of.leaves.contains(node)).collect();
        let mut leaves = of.leaves.clone();
        if !leaves.contains(&of.claim.owner) && !arrives.contains(&of.claim.owner) {
            leaves.push(of.claim.owner);
        }
        [leaves, arrives].map(|nodes| nodes.into_iter().filter_map(|node| self.roster.host(node)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::nodes::{picture, read};
    use super::{History, Host};

    fn host(port: u16) -> Host {
        Host { name: "h".into(), port }
    }

    fn note(history: &mut History, lines: [&str; 2]) -> u64 {
        let views = [1, 2].map(|port| read(lines[usize::from(port) - 1], &host(port), false));
        history.note(&picture(views.iter().flatten())).number
    }

    const A: &str = "aaaa h:1@2 myself,master - 0 0 5 connected 0-9";
    const B: &str = "bbbb h:2@3 myself,master - 0 0 6 connected 10-19";

    #[test]
    fn nothing_is_noted_of_a_cluster_at_rest() {
        let mut history = History::default();
        let since = note(&mut history, [A, B]);
        for _ in 0..3 {
            note(&mut history, [A, B]);
        }
        assert!(history.changed(since, 0, 100).is_empty());
        assert_eq!(history.places(&history.standing(3)), [vec![host(1)], vec![]]);
    }

    #[test]
    fn a_slot_on_its_way_is_noted_from_before_it_left_to_after_it_came() {
        let mut history = History::default();
        let before = note(&mut history, [A, B]);
        let (leaving, coming) = (format!("{A} [9->-bbbb]"), format!("{B} [9-<-aaaa]"));
        let begun = note(&mut history, [&leaving, &coming]);
        assert_eq!(history.changed(begun, 0, 100), [9], "a SCAN that begins now must read it again");
        assert_eq!(history.places(&history.standing(9)), [vec![host(1)], vec![host(2)]]);
        let there = "bbbb h:2@3 myself,master - 0 0 6 connected 9-19";
        let ended = note(&mut history, ["aaaa h:1@2 myself,master - 0 0 5 connected 0-8", there]);
        assert_eq!((history.changed(before, 0, 100), history.changed(begun, 0, 100)), (vec![9], vec![9]));
        assert!(history.changed(ended, 0, 100).is_empty());
        assert_eq!(history.places(&history.standing(9)), [vec![host(2)], vec![]]);
    }

    #[test]
    fn a_slot_that_went_and_came_back_unseen_is_noted_by_the_epoch() {
        let mut history = History::default();
        let since = note(&mut history, [A, B]);
        note(&mut history, ["aaaa h:1@2 myself,master - 0 0 8 connected 0-9", B]);
        assert_eq!(history.changed(since, 0, 100), (0..10).collect::<Vec<_>>());
        assert_eq!(history.changed(since, 4, 2), [4, 5]);
    }

    #[test]
    fn a_master_that_came_back_elsewhere_or_is_left_out_is_read_again() {
        let mut history = History::default();
        let since = note(&mut history, [A, B]);
        let moved = note(&mut history, [A, "bbbb h:7@8 myself,master - 0 0 6 connected 10-19"]);
        assert_eq!(history.changed(since, 0, 100), (10..20).collect::<Vec<_>>());
        assert_eq!(history.places(&history.standing(10)), [vec![host(7)], vec![]]);
        assert!(history.changed(moved, 0, 100).is_empty());
        let numbers = [A, B].map(|text| history.note(&picture(read(text, &host(1), false).iter())).nodes[0]);
        let now = note(&mut history, [A, B]);
        history.is_left_out(numbers[0]);
        assert!(history.changed(now, 0, 100).is_empty(), "it was forgotten meanwhile, and has another number");
        let number = history.note(&picture(read(A, &host(1), false).iter())).nodes[0];
        let now = history.number;
        history.is_left_out(number);
        assert_eq!(history.changed(now, 0, 100), (0..10).collect::<Vec<_>>());
    }
}
