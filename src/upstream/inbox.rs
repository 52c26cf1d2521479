//! What arrives on a client's own connection without having been asked for: messages, invalidations, a monitor's lines.
//! Shared by the connection's task and the client's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::subscriptions::Subscriptions;
use super::ticket::wake;
use crate::resp::Proto;

#[derive(Debug, Default)]
pub(super) struct State {
    frames: VecDeque<Bytes>,
    held: usize,
    /// The connection is gone, and why.
    lost: Option<String>,
    pub(super) subscriptions: Subscriptions,
    /// Everything that comes is out of band (MONITOR, SCRIPT DEBUG).
    pub(super) raw: bool,
    pub(super) proto: Proto,
    /// The client gave the connection back.
    pub(super) retired: bool,
    client: Option<Waker>,
    room: Option<Waker>,
}

/// A handle on it.
#[derive(Clone, Debug, Default)]
pub struct Inbox(Rc<RefCell<State>>);

impl Inbox {
    pub(super) fn new(proto: Proto) -> Self {
        Self(Rc::new(RefCell::new(State { proto, ..State::default() })))
    }

    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        work(&mut self.0.borrow_mut())
    }

    pub(super) fn push(&self, frame: Bytes) {
        let mut state = self.0.borrow_mut();
        state.held += frame.len();
        state.frames.push_back(frame);
        wake(&mut state.client);
    }

    /// Nothing more will come.
    pub(super) fn lose(&self, why: String) {
        let mut state = self.0.borrow_mut();
        state.lost = Some(why);
        wake(&mut state.client);
    }

    /// True when the client has taken all but `most` bytes; if not, the task of `cx` is woken when it takes some.
    pub(super) fn poll_room(&self, most: usize, cx: &Context<'_>) -> bool {
        let mut state = self.0.borrow_mut();
        let has_room = state.held <= most;
        if !has_room {
            state.room = Some(cx.waker().clone());
        }
        has_room
    }

    /// The next frame, if there is one.
    pub fn take(&self) -> Option<Bytes> {
        let mut state = self.0.borrow_mut();
        let frame = state.frames.pop_front()?;
        state.held -= frame.len();
        wake(&mut state.room);
        Some(frame)
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

    /// Bytes that have arrived and not been taken.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.borrow().held
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
