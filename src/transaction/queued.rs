//! The commands that a transaction has queued, as far as they are needed to read EXEC's reply.

use std::ops::Range;

use super::Transaction;
use crate::command::OwnedRequest;
use crate::route::{Route, Unknown};

/// A queued command, or several in a row.
#[derive(Debug)]
pub(super) enum Queued {
    /// The next so many elements of the upstream's reply.
    Upstream(usize),
    /// The next; if it is OK the client is in this database.
    Select(i64),
    /// The next; if it is OK its connection has a state.
    State(OwnedRequest),
    /// The next; it may have left something at its connection.
    Unknown(Unknown),
    /// The next so many elements, each a confirmation.
    Subscribe(usize),
    /// The upstream's greeting, instead of which the client gets ours: by then it may be in another database.
    Hello(OwnedRequest),
    /// Answered by us.
    Here(OwnedRequest, Route),
}

impl Queued {
    /// Bytes that are kept for it.
    fn kept(&self) -> usize {
        match self {
            Self::State(request) | Self::Hello(request) | Self::Here(request, _) => {
                let request = request.view();
                request.raw().len() + request.len() * size_of::<Range<usize>>() + size_of::<Self>()
            }
            Self::Upstream(_) | Self::Select(_) | Self::Unknown(_) | Self::Subscribe(_) => 0,
        }
    }
}

impl Transaction {
    /// The database that a queued SELECT leads to.
    #[must_use]
    pub fn database(&self) -> Option<i64> {
        self.queue.database()
    }
}

/// Everything queued since MULTI, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    list: Vec<Queued>,
    len: usize,
    kept: usize,
}

impl Queue {
    pub(super) fn push(&mut self, queued: Queued) {
        self.len += 1;
        self.kept += queued.kept();
        match (self.list.last_mut(), queued) {
            (Some(Queued::Upstream(before)), Queued::Upstream(more)) => *before += more,
            (_, queued) => self.list.push(queued),
        }
    }

    /// That of the last SELECT among them.
    pub(super) fn database(&self) -> Option<i64> {
        self.list.iter().rev().find_map(|queued| if let Queued::Select(db) = queued { Some(*db) } else { None })
    }

    /// Commands.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the commands that are kept.
    pub(super) const fn kept(&self) -> usize {
        self.kept
    }

    /// In order; those that pass in a row are one.
    pub(super) fn list(&self) -> &[Queued] {
        &self.list
    }

    pub(super) fn into_list(self) -> Vec<Queued> {
        self.list
    }

    /// True when EXEC's reply is the upstream's, as it is.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.list[..], [] | [Queued::Upstream(_)])
    }
}

#[cfg(test)]
mod tests {
    use super::{Queue, Queued};
    use crate::command::OwnedRequest;
    use crate::route::Route;

    #[test]
    fn a_million_commands_that_pass_are_one_entry() {
        let mut queue = Queue::default();
        assert!(queue.is_plain());
        (0..1_000_000).for_each(|_| queue.push(Queued::Upstream(1)));
        assert!(queue.is_plain());
        assert_eq!((queue.len(), queue.list().len(), queue.kept()), (1_000_000, 1, 0));
        let ours = OwnedRequest::from_words(&[b"PING".to_vec()]);
        queue.push(Queued::Here(ours.clone(), Route::Hearthside));
        queue.push(Queued::Upstream(1));
        assert!(!queue.is_plain());
        assert_eq!((queue.len(), queue.list().len()), (1_000_002, 3));
        assert!(queue.kept() > ours.view().raw().len());
    }
}
