//! Who is subscribed to which channels and patterns that events may belong to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::{Hearer, message};
use crate::keys::glob_match;
use crate::resp::pubsub::{GAP, GAP_MESSAGE, Kind};

/// One who is subscribed.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) number: u64,
    pub(super) hearer: Arc<dyn Hearer>,
}

#[derive(Debug, Default)]
pub(super) struct Topics {
    channels: HashMap<Bytes, Vec<Member>>,
    patterns: BTreeMap<Bytes, Vec<Member>>,
    /// Subscriptions, but for those to the notice of a gap.
    listening: usize,
}

impl Topics {
    /// How many subscriptions there are that an event may belong to.
    pub(super) const fn listening(&self) -> usize {
        self.listening
    }

    /// One more subscription, which its member does not have yet.
    pub(super) fn join(&mut self, (kind, name): (Kind, Bytes), member: &Member) {
        self.listening += usize::from(name != GAP);
        let members = match kind {
            Kind::Pattern => self.patterns.entry(name).or_default(),
            Kind::Channel | Kind::Shard => self.channels.entry(name).or_default(),
        };
        members.push(member.clone());
    }

    /// One subscription less, which its member has.
    pub(super) fn leave(&mut self, (kind, name): &(Kind, Bytes), number: u64) {
        self.listening -= usize::from(name != GAP);
        let members = match kind {
            Kind::Pattern => self.patterns.get_mut(name),
            Kind::Channel | Kind::Shard => self.channels.get_mut(name),
        };
        let Some(members) = members else { return };
        members.retain(|member| member.number != number);
        if members.is_empty() {
            match kind {
                Kind::Pattern => drop(self.patterns.remove(name)),
                Kind::Channel | Kind::Shard => drop(self.channels.remove(name)),
            }
        }
    }

    /// Publishes a message as Redis does: to those of the channel, then to those of each pattern; how many there were.
    pub(super) fn tell(&self, channel: &[u8], payload: &[u8]) -> u64 {
        let mut told = 0;
        let mut tell = |members: &[Member], message: Bytes| {
            members.iter().for_each(|member| member.hearer.hears(message.clone()));
            told += members.len() as u64;
        };
        if let Some(members) = self.channels.get(channel) {
            tell(members, message::of_channel(channel, payload));
        }
        for (pattern, members) in self.patterns.iter().filter(|(pattern, _)| glob_match(pattern, channel)) {
            tell(members, message::of_pattern(pattern, channel, payload));
        }
        told
    }

    /// Tells those who listen for it that events may have been missed, if they listen to any.
    pub(super) fn tell_gap(&self) {
        let Some(members) = self.channels.get(GAP) else { return };
        let channels = self.channels.iter().filter(|(name, _)| *name != GAP).map(|(_, members)| members);
        let listening = channels.chain(self.patterns.values()).flatten();
        let numbers: HashSet<u64> = listening.map(|member| member.number).collect();
        let missing = members.iter().filter(|member| numbers.contains(&member.number));
        missing.for_each(|member| member.hearer.hears(Bytes::from_static(GAP_MESSAGE)));
    }
}
