//! Which node has which slot, as far as is known: a value that is replaced as a whole, and never changes.

use std::sync::Arc;

use crate::command::SLOTS;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::target::Host;

/// A slot that no node is known to own.
const NOBODY: u16 = u16::MAX;

/// A node of the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// No other node ever has it (`roster.rs`).
    pub(crate) number: u32,
    pub(crate) endpoint: Arc<Endpoint>,
    /// Where it is reached.
    pub(crate) host: Host,
    /// What else redirections may call it.
    pub(crate) alias: Option<Host>,
    /// The place of its master, of a replica.
    pub(crate) master: Option<usize>,
    pub(crate) is_master: bool,
}

/// Who owns which slot.
#[derive(Clone, Debug)]
pub(crate) struct SlotMap {
    /// The number of the note by which it was made (`history.rs`).
    pub(crate) noted: u64,
    pub(crate) nodes: Vec<Node>,
    /// The place of each slot's owner.
    owners: Vec<u16>,
    /// The place of the node that takes what belongs to no slot.
    home: usize,
}

impl SlotMap {
    /// Of at least one node.
    pub(super) fn new(nodes: Vec<Node>, owners: &[Option<usize>], home: usize) -> Self {
        let owners = owners.iter().map(|owner| owner.and_then(|at| u16::try_from(at).ok()).unwrap_or(NOBODY));
        Self { noted: 0, nodes, owners: owners.collect(), home }
    }

    /// The same, made by this note.
    pub(super) fn noted(self, noted: u64) -> Self {
        Self { noted, ..self }
    }

    /// The place of the node that takes what belongs to no slot.
    pub(crate) const fn home(&self) -> usize {
        self.home
    }

    /// The place of a slot's owner; of a slot that nobody is known to own, the home: that answers what is the matter.
    pub(crate) fn owner(&self, slot: u16) -> usize {
        let owner = self.owners.get(usize::from(slot)).copied().unwrap_or(NOBODY);
        if owner == NOBODY { self.home } else { usize::from(owner) }
    }

    /// The place of the node that takes what belongs to this slot, or to none.
    pub(crate) fn place(&self, slot: Option<u16>) -> usize {
        slot.map_or(self.home, |slot| self.owner(slot))
    }

    /// The places of the masters that own slots.
    pub(crate) fn masters(&self) -> Vec<usize> {
        let first = self.first_slots();
        (0..first.len()).filter(|at| first[*at].is_some()).collect()
    }

    /// The first slot that each node owns, by its place.
    pub(crate) fn first_slots(&self) -> Vec<Option<u16>> {
        let mut first = vec![None; self.nodes.len()];
        for (slot, owner) in (0..SLOTS).zip(&self.owners).filter(|(_, owner)| **owner != NOBODY) {
            first[usize::from(*owner)].get_or_insert(slot);
        }
        first
    }

    /// The node with this number.
    pub(crate) fn numbered(&self, number: u32) -> Option<&Node> {
        self.nodes.iter().find(|node| node.number == number)
    }

    /// The node there, or of this name.
    pub(crate) fn node(&self, host: &Host) -> Option<usize> {
        let by_address = self.nodes.iter().position(|node| node.host == *host);
        by_address.or_else(|| self.nodes.iter().position(|node| node.alias.as_ref() == Some(host)))
    }

    /// How many slots the node at each place owns.
    pub(super) fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.nodes.len()];
        self.owners.iter().filter(|owner| **owner != NOBODY).for_each(|owner| counts[usize::from(*owner)] += 1);
        counts
    }

    /// How many slots nobody is known to own.
    pub(super) fn unowned(&self) -> usize {
        self.owners.iter().filter(|owner| **owner == NOBODY).count()
    }

    /// True when this is no other cluster than `other`.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let is_same = |one: &Node, other: &Node| {
            Arc::ptr_eq(&one.endpoint, &other.endpoint)
                && (one.number, one.master, one.is_master) == (other.number, other.master, other.is_master)
                && one.alias == other.alias
        };
        self.home == other.home
            && self.owners == other.owners
            && self.nodes.len() == other.nodes.len()
            && self.nodes.iter().zip(&other.nodes).all(|(one, other)| is_same(one, other))
    }

    /// True when a slot has left its owner by the `next` map.
    pub(super) fn is_left(&self, next: &Self) -> bool {
        let node = |map: &Self, owner: u16| map.nodes.get(usize::from(owner)).map(|node| node.number);
        let mut pairs = self.owners.iter().zip(&next.owners).filter(|(before, _)| **before != NOBODY);
        pairs.any(|(before, after)| node(self, *before) != node(next, *after))
    }

    /// The same, but for a slot that the node at this place owns. A replica that owns one has taken the place of its
    /// master, and owns all of them.
    pub(super) fn with_owner(&self, slot: u16, at: usize) -> Self {
        let mut changed = self.clone();
        let (Some(before), Ok(now)) = (self.owners.get(usize::from(slot)).copied(), u16::try_from(at)) else {
            return changed;
        };
        changed.owners[usize::from(slot)] = now;
        if before != NOBODY && self.nodes[at].master == Some(usize::from(before)) {
            changed.owners.iter_mut().filter(|owner| **owner == before).for_each(|owner| *owner = now);
        }
        changed
    }
}

// Every slot has a place in a vector.
const _: () = assert!(SLOTS < NOBODY);
