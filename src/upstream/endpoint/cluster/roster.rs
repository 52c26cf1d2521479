//! The nodes that there are. Each has one number, whatever its address is, for as long as any node names it.
//!
//! Invariants:
//! - no other node ever has a number that one has had;
//! - whoever the last note does not name is forgotten.

use std::collections::HashMap;

use super::nodes::Seen;
use crate::upstream::endpoint::target::Host;

#[derive(Debug)]
struct Known {
    number: u32,
    host: Host,
    alias: Option<Host>,
}

/// Those that the last note names, by their ids.
#[derive(Debug, Default)]
pub(super) struct Roster {
    known: HashMap<String, Known>,
    next: u32,
}

impl Roster {
    /// Notes these nodes: the number of each, and whether it was elsewhere before.
    pub(super) fn note(&mut self, nodes: &[Seen]) -> Vec<(u32, bool)> {
        let mut before = std::mem::take(&mut self.known);
        let mut noted = Vec::with_capacity(nodes.len());
        for Seen { id, host, alias, .. } in nodes {
            let known = before.remove(id);
            let has_moved = known.as_ref().is_some_and(|known| (&known.host, &known.alias) != (host, alias));
            let number = known.map_or_else(|| self.newcomer(), |known| known.number);
            self.known.insert(id.clone(), Known { number, host: host.clone(), alias: alias.clone() });
            noted.push((number, has_moved));
        }
        noted
    }

    /// The number of a node whose id nobody has told yet. When it is told, the node gets another one.
    pub(super) const fn newcomer(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.known.contains_key(id)
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Where the node with this number is.
    pub(super) fn host(&self, number: u32) -> Option<Host> {
        self.known.values().find(|known| known.number == number).map(|known| known.host.clone())
    }
}
