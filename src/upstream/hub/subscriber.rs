//! One client's part of the hub: what it is subscribed to, and the messages that wait for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::resp::pubsub::Kind;
use crate::telemetry::client_memory::Holding;
use crate::telemetry::clock::Moment;
use crate::upstream::pipeline::lane_waker::wake;
use crate::upstream::pipeline::subscriptions::Subscriptions;

/// From so many bytes on, what waits is reported to other threads.
const REPORTED_FROM: usize = 4096;

#[derive(Debug, Default)]
struct State {
    subscriptions: Subscriptions,
    /// Messages, each without its first byte, `*` in RESP2 and `>` in RESP3, and when it came.
    messages: VecDeque<(Bytes, Moment)>,
    held: usize,
    /// No more messages are taken.
    ceased: Option<Ceased>,
    /// The bytes that were last reported to other threads.
    reported: usize,
    waker: Option<Waker>,
}

/// What waited for it is gone.
impl Drop for Subscriber {
    fn drop(&mut self) {
        let reported = self.state().reported;
        self.holding.note_outbox(reported, 0);
    }
}

/// A client that subscribes.
#[derive(Debug)]
pub struct Subscriber {
    /// The client's id.
    pub id: u64,
    /// Most bytes that may wait.
    most: usize,
    /// What the client holds, as the others see it.
    holding: Arc<Holding>,
    state: Mutex<State>,
}

/// Why a client gets no more messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceased {
    /// More waited for it than may.
    Overflowed,
    /// Some may have been missed, and it is closed then.
    Lost,
}

impl Subscriber {
    /// A client for which at most `most` bytes of messages may wait.
    #[must_use]
    pub fn new(id: u64, most: usize, holding: Arc<Holding>) -> Self {
        Self { id, most, holding, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a subscription or its end; the number of channels and patterns, or of shard channels, that remain.
    pub fn note(&self, kind: Kind, name: &[u8], on: bool) -> usize {
        let mut state = self.state();
        state.subscriptions.confirm(kind, Some(name), on);
        self.report(&mut state);
        Self::remaining(&state, kind)
    }

    /// The count that a confirmation carries.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        Self::remaining(&self.state(), kind)
    }

    fn remaining(state: &State, kind: Kind) -> usize {
        let [channels, patterns, shards] = state.subscriptions.counts();
        if kind == Kind::Shard { shards } else { channels + patterns }
    }

    /// Channels, patterns and shard channels.
    #[must_use]
    pub fn counts(&self) -> [usize; 3] {
        self.state().subscriptions.counts()
    }

    /// Reports to other threads what waits, and what the names of its subscriptions take.
    fn report(&self, state: &mut State) {
        let held = Some(state.held + state.subscriptions.cost()).filter(|held| *held >= REPORTED_FROM).unwrap_or(0);
        if held != state.reported {
            self.holding.note_outbox(std::mem::replace(&mut state.reported, held), held);
        }
    }

    /// Everything it is subscribed to of one kind.
    #[must_use]
    pub fn names(&self, kind: Kind) -> Vec<Bytes> {
        self.state().subscriptions.names(kind)
    }

    pub(super) fn topics(&self) -> Vec<(Kind, Bytes)> {
        let kinds = [Kind::Channel, Kind::Pattern, Kind::Shard];
        kinds.iter().flat_map(|kind| self.names(*kind).into_iter().map(|name| (*kind, name))).collect()
    }

    /// A message has come for it then; without its first byte.
    pub fn deliver(&self, message: Bytes, came: Moment) {
        let mut state = self.state();
        if state.ceased.is_some() {
            return;
        }
        state.held += message.len();
        if state.held > self.most {
            state.ceased = Some(Ceased::Overflowed);
            state.messages.clear();
            state.held = 0;
        } else {
            state.messages.push_back((message, came));
        }
        self.report(&mut state);
        wake(&mut state.waker);
    }

    /// Messages may have been missed: there will be no more than those that wait.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.ceased.get_or_insert(Ceased::Lost);
        wake(&mut state.waker);
    }

    /// Wakes the task of `cx` when another message arrives.
    ///
    /// # Errors
    /// Messages were lost.
    pub fn watch(&self, cx: &Context<'_>) -> Result<(), Ceased> {
        let mut state = self.state();
        if state.ceased == Some(Ceased::Overflowed) {
            return Err(Ceased::Overflowed);
        }
        state.waker = Some(cx.waker().clone());
        Ok(())
    }

    /// The next message without its first byte, and when it came.
    ///
    /// # Errors
    /// Messages were lost.
    pub fn poll_take(&self, cx: &Context<'_>) -> Poll<Result<(Bytes, Moment), Ceased>> {
        let mut state = self.state();
        if let Some((message, came)) = state.messages.pop_front() {
            state.held -= message.len();
            self.report(&mut state);
            return Poll::Ready(Ok((message, came)));
        }
        if let Some(ceased) = state.ceased {
            return Poll::Ready(Err(ceased));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use bytes::Bytes;

    use super::{Ceased, Moment, Subscriber};

    #[test]
    fn what_waits_is_bounded() {
        let subscriber = Subscriber::new(1, 10, Arc::default());
        let mut cx = Context::from_waker(Waker::noop());
        let (message, came) = (Bytes::from_static(b"12345"), Moment::now());
        subscriber.deliver(message.clone(), came);
        assert_eq!(subscriber.poll_take(&cx), Poll::Ready(Ok((message.clone(), came))));
        assert_eq!(subscriber.poll_take(&cx), Poll::Pending);
        (0..3).for_each(|_| subscriber.deliver(message.clone(), came));
        cx = Context::from_waker(Waker::noop());
        assert_eq!(subscriber.poll_take(&cx), Poll::Ready(Err(Ceased::Overflowed)));
    }
}
