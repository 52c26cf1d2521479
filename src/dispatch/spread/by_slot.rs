//! A command over keys of several slots of a cluster, as one command for each slot. The replies become the one that a
//! single server would have given: counts are added, values stand at the places of their keys, and the error of one
//! part is the reply.

use std::collections::HashMap;

use bytes::Bytes;

use super::joint::join;
use crate::command::slot_of;
use crate::resp::encode;
use crate::resp::pieces::{Elements, Pieces};
use crate::route::Joint;
use crate::upstream::{Batch, Broken, Lane, Ticket, To};

/// The parts of a command that are on their way.
pub(crate) struct BySlot {
    ticket: Ticket,
    joint: Joint,
    /// How many commands there are.
    count: usize,
    /// The command of each key.
    whose: Vec<usize>,
}

impl BySlot {
    /// Sends `words`, a command and its keys, each of which is the first one of `step` words.
    pub(crate) fn send(lane: &Lane, words: &[&[u8]], step: usize, joint: Joint, resendable: bool) -> Self {
        let (mut slots, mut commands) = (HashMap::new(), Vec::<(u16, Vec<&[u8]>)>::new());
        let mut whose = Vec::with_capacity(words.len() / step);
        for group in words[1..].chunks(step) {
            let slot = slot_of(group[0]);
            let at = *slots.entry(slot).or_insert_with(|| {
                commands.push((slot, vec![words[0]]));
                commands.len() - 1
            });
            commands[at].1.extend_from_slice(group);
            whose.push(at);
        }
        let count = commands.len();
        let requests = commands.into_iter().map(|(slot, words)| (To::Slot(slot), encode::request_of(&words)));
        let ticket = lane.submit(Batch::each(requests, resendable));
        Self { ticket, joint, count, whose }
    }

    /// The reply, and the push messages that came with it.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn joined(self) -> Result<(Pieces, Bytes), Broken> {
        let (replies, pushes) = self.ticket.parts().await?;
        let mut each = Elements::in_row(replies);
        if self.joint != Joint::Listed {
            let replies: Vec<Bytes> = (0..self.count).map(|_| each.next_whole()).collect();
            return Ok((join(self.joint, &replies).into(), pushes));
        }
        Ok((values(&mut each, self.count, &self.whose), pushes))
    }
}

/// Each key's value at its place; an error of one command if there is one.
fn values(each: &mut Elements, count: usize, whose: &[usize]) -> Pieces {
    let mut lists = Vec::with_capacity(count);
    for _ in 0..count {
        let mut reply = Pieces::default();
        each.pass(&mut reply);
        match Elements::of(reply) {
            Ok(elements) => lists.push(elements),
            Err(reply) => return reply,
        }
    }
    let mut out = Pieces::default();
    encode::array(out.tail(), whose.len());
    for at in whose {
        lists[*at].pass(&mut out);
        out.settle();
    }
    out
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Elements, values};

    #[test]
    fn values_stand_in_the_places_of_their_keys() {
        let joined = |replies: &'static [u8], whose: &[usize]| {
            values(&mut Elements::in_row(Bytes::from_static(replies).into()), 2, whose).whole()
        };
        let both = b"*2\r\n$1\r\na\r\n$-1\r\n*1\r\n$1\r\nb\r\n";
        assert_eq!(joined(both, &[0, 1, 0]), "*3\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n");
        assert_eq!(joined(both, &[1, 0, 0]), "*3\r\n$1\r\nb\r\n$1\r\na\r\n$-1\r\n");
        assert_eq!(joined(b"*1\r\n$1\r\na\r\n-ERR no\r\n", &[0, 1]), "-ERR no\r\n");
    }
}
