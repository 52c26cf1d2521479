//! What a client gives to a lane: requests that travel as one slice, and what each is answered with.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use crate::near::Detached;
use crate::resp::pubsub::Kind;

/// The replies that one request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// So many replies: one, or those of a whole MULTI ... EXEC.
    Replies(u32),
    /// So many confirmations of a (un)subscription; anything else that is a reply ends it (an error, QUEUED).
    Confirmations(u32),
    /// One confirmation for everything of this kind that is subscribed (UNSUBSCRIBE without arguments).
    AllOf(Kind),
    /// Nothing that can be distinguished from other messages (a connection whose bytes are passed on as they come).
    Nothing,
}

/// Which server takes a unit, where the upstream is more than one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum To {
    /// One for all that belongs to no slot.
    #[default]
    Home,
    /// The owner of this slot of a cluster.
    Slot(u16),
    /// The node of a cluster that has this number, and no other one.
    Node(u32),
    /// The same as one of these, or a replica of it: the request only reads, and the answer may be of a moment ago.
    Reader(Option<u16>),
}

impl To {
    /// The slot, if it has one.
    pub(crate) const fn slot(self) -> Option<u16> {
        match self {
            Self::Home | Self::Node(_) => None,
            Self::Slot(slot) => Some(slot),
            Self::Reader(slot) => slot,
        }
    }

    /// The same, and no replica of it.
    pub(crate) fn at_primary(self) -> Self {
        match self {
            Self::Reader(slot) => slot.map_or(Self::Home, Self::Slot),
            other => other,
        }
    }
}

/// A node among all that a command goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// How it is reached.
    pub to: To,
    /// Whatever the command asks for is only whole with what this one answers: it owns slots.
    pub counts: bool,
}

/// One unit of a batch: a request, or a transaction whose requests must not be parted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Where its bytes end in the batch.
    pub end: usize,
    /// It only reads, and may be sent again.
    pub resendable: bool,
    /// Its replies.
    pub expect: Expect,
    /// Who takes it.
    pub to: To,
}

/// What each unit of a batch is answered with when its client's own connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// If some of the batch was sent.
    pub sent: &'static str,
    /// If none of it was.
    pub unsent: &'static str,
}

/// Requests that travel as one slice.
#[derive(Debug, Default)]
pub struct Batch {
    /// The bytes of all of them.
    pub bytes: Bytes,
    /// Its units, in order.
    pub asked: Vec<Asked>,
    /// On its client's own connection: `None` when the client is lost with it.
    pub loss: Option<Loss>,
    /// On its client's own connection: a reply that is missing for `upstream.command_timeout` ends the connection.
    pub is_timed: bool,
    /// It is for an upstream of one server: nobody has looked which node of a cluster should have which request.
    pub is_for_one: bool,
    /// All of it is asked for one reply of its client's: when one unit takes too long, none is sent again.
    pub is_whole: bool,
    /// Kept keys that it may change, until all of it has been answered.
    pub detached: Option<Rc<Detached>>,
}

impl Batch {
    /// A batch of one request with one reply.
    #[must_use]
    pub fn one(bytes: Bytes, resendable: bool) -> Self {
        let asked = vec![Asked { end: bytes.len(), resendable, expect: Expect::Replies(1), to: To::Home }];
        Self { bytes, asked, ..Self::default() }
    }

    /// The same batch, all of which this server takes.
    #[must_use]
    pub fn to(mut self, to: To) -> Self {
        self.asked.iter_mut().for_each(|asked| asked.to = to);
        self
    }

    /// A batch of many requests with one reply each, all of which only read or may write.
    #[must_use]
    pub fn each(requests: impl IntoIterator<Item = (To, Bytes)>, resendable: bool) -> Self {
        let (mut bytes, mut asked) = (BytesMut::new(), Vec::new());
        for (to, request) in requests {
            bytes.extend_from_slice(&request);
            asked.push(Asked { end: bytes.len(), resendable, expect: Expect::Replies(1), to });
        }
        Self { bytes: bytes.freeze(), asked, ..Self::default() }
    }

    /// A batch of one unit that is never sent again.
    #[must_use]
    pub fn expecting(bytes: Bytes, expect: Expect) -> Self {
        let asked = vec![Asked { end: bytes.len(), resendable: false, expect, to: To::Home }];
        Self { asked, bytes, ..Self::default() }
    }

    /// A batch of one unit of a transaction, with so many replies.
    #[must_use]
    pub fn queued(bytes: Bytes, replies: u32, loss: Loss) -> Self {
        Self { loss: Some(loss), is_timed: true, ..Self::expecting(bytes, Expect::Replies(replies)) }
    }
}
