//! What arrives on a client's own connection without having been asked for: messages, invalidations, a monitor's lines.
//! Shared by the connection's task and the client's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::account::{Account, cost};
use super::lane_waker::wake;
use super::monitor_lines::OwnLines;
use super::subscriptions::{Follower, Subscriptions};
use crate::resp::Proto;
use crate::resp::pubsub::Kind;
use crate::telemetry::clock::Moment;

#[derive(Debug, Default)]
pub(crate) struct State {
    frames: VecDeque<Bytes>,
    /// Since when the first of them has waited.
    since: Moment,
    account: Rc<Account>,
    /// The connection is gone, and why.
    lost: Option<String>,
    pub(crate) subscriptions: Subscriptions,
    follower: Option<Arc<dyn Follower>>,
    /// The upstream gave the connection up while the client did not take what came over it.
    was_slow: bool,
    /// Everything that comes is out of band (MONITOR, SCRIPT DEBUG).
    pub(crate) raw: bool,
    /// It will be so behind the next reply, unless that is an error: lines may come with the very bytes of the reply.
    pub(crate) raw_next: bool,
    /// The same, and what comes is no frames but bytes (SYNC, PSYNC).
    pub(crate) undelimited: bool,
    /// Of a monitor: tells the lines that show what the sidecar itself has said.
    pub(crate) own_lines: Option<OwnLines>,
    pub(crate) proto: Proto,
    /// The upstream's id of the connection to which invalidations go, and the id of its client here.
    redirect: Option<(i64, u64)>,
    /// The client has asked for one thing, for which it waits on elsewhere if this server ends the wait.
    pub(crate) waits: bool,
    /// The client gave the connection back.
    pub(crate) retired: bool,
    client: Option<Waker>,
}

impl State {
    /// Takes a confirmation into account.
    pub(crate) fn confirm(&mut self, kind: Kind, name: Option<&[u8]>, on: bool) {
        self.account.release(self.subscriptions.cost());
        self.subscriptions.confirm(kind, name, on);
        self.account.hold(self.subscriptions.cost());
        if let (Some(follower), Some(name)) = (&self.follower, name) {
            follower.confirmed(kind, name, on);
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.account.took(cost(&frame));
        Some(frame)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        while self.take().is_some() {}
        self.account.release(self.subscriptions.cost());
    }
}

/// A handle on it.
#[derive(Clone, Debug, Default)]
pub struct Inbox(Rc<RefCell<State>>);

impl Inbox {
    pub(crate) fn new(proto: Proto, account: Rc<Account>) -> Self {
        let mut state = State::default();
        (state.proto, state.account) = (proto, account);
        Self(Rc::new(RefCell::new(state)))
    }

    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        work(&mut self.0.borrow_mut())
    }

    /// From now on this one is told of each confirmation.
    pub fn is_followed_by(&self, follower: Arc<dyn Follower>) {
        self.0.borrow_mut().follower = Some(follower);
    }

    /// From now on what the upstream says of this connection is about this client.
    pub fn redirects(&self, redirect: Option<(i64, u64)>) {
        self.0.borrow_mut().redirect = redirect;
    }

    /// A frame with our id of a client in the place of the upstream's id of its connection.
    pub(super) fn with_our_id(&self, frame: Bytes) -> Bytes {
        const BROKEN: &[u8] = b">2\r\n$21\r\ntracking-redir-broken\r\n:";
        match self.0.borrow().redirect {
            Some((theirs, ours)) if frame.strip_prefix(BROKEN) == Some(format!("{theirs}\r\n").as_bytes()) => {
                [BROKEN, format!("{ours}\r\n").as_bytes()].concat().into()
            }
            _ => frame,
        }
    }

    /// What came among replies that its client does not get.
    pub fn heard(&self, frames: Bytes) {
        if !frames.is_empty() {
            self.push(frames);
        }
    }

    /// Since when messages of its subscriptions wait, if some do.
    #[must_use]
    pub fn waits_since(&self) -> Option<Moment> {
        let state = self.0.borrow();
        (!state.frames.is_empty() && state.subscriptions.counts() != [0; 3]).then_some(state.since)
    }

    /// True when something waits.
    #[must_use]
    pub fn has_come(&self) -> bool {
        !self.0.borrow().frames.is_empty()
    }

    /// True for a line that a monitor is not shown.
    pub(super) fn is_own_line(&self, frame: &[u8]) -> bool {
        self.0.borrow_mut().own_lines.as_mut().is_some_and(|lines| lines.is_own(frame))
    }

    pub(super) fn push(&self, frame: Bytes) {
        let mut state = self.0.borrow_mut();
        state.account.came(cost(&frame));
        if state.frames.is_empty() {
            state.since = Moment::now();
        }
        state.frames.push_back(frame);
        wake(&mut state.client);
    }

    /// Nothing more will come; `was_slow`: the client had not taken what came.
    pub(crate) fn lose(&self, why: String, was_slow: bool) {
        let mut state = self.0.borrow_mut();
        (state.lost, state.was_slow) = (Some(why), was_slow);
        wake(&mut state.client);
    }

    /// The account of the client.
    pub(super) fn account(&self) -> Rc<Account> {
        self.0.borrow().account.clone()
    }

    /// The next frame, if there is one.
    pub fn take(&self) -> Option<Bytes> {
        self.0.borrow_mut().take()
    }

    /// The next frame, or why there will be none.
    pub fn poll_take(&self, cx: &Context<'_>) -> Poll<Result<Bytes, String>> {
        if let Some(frame) = self.take() {
            return Poll::Ready(Ok(frame));
        }
        let mut state = self.0.borrow_mut();
        if let Some(why) = &state.lost {
            return Poll::Ready(Err(why.clone()));
        }
        state.client = Some(cx.waker().clone());
        Poll::Pending
    }

    /// True when the connection is gone because the client did not take what came over it, as far as that can be known.
    #[must_use]
    pub fn was_slow(&self) -> bool {
        self.0.borrow().was_slow
    }

    /// Why the connection is gone, if it is.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.0.borrow().lost.clone()
    }

    /// Channels, patterns and shard channels that are subscribed.
    #[must_use]
    pub fn subscribed(&self) -> [usize; 3] {
        self.0.borrow().subscriptions.counts()
    }
}
