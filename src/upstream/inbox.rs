//! What arrives on a client's own connection without having been asked for: messages, invalidations, a monitor's lines.
//! Shared by the connection's task and the client's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::account::Account;
use super::subscriptions::Subscriptions;
use super::ticket::wake;
use crate::resp::Proto;

#[derive(Debug, Default)]
pub(super) struct State {
    frames: VecDeque<Bytes>,
    account: Rc<Account>,
    /// The connection is gone, and why.
    lost: Option<String>,
    pub(super) subscriptions: Subscriptions,
    /// Everything that comes is out of band (MONITOR, SCRIPT DEBUG).
    pub(super) raw: bool,
    /// It will be so behind the next reply, unless that is an error: lines may come with the very bytes of the reply.
    pub(super) raw_next: bool,
    pub(super) proto: Proto,
    /// The client gave the connection back.
    pub(super) retired: bool,
    client: Option<Waker>,
}

impl State {
    fn take(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.account.took(frame.len() + COST);
        Some(frame)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        while self.take().is_some() {}
    }
}

/// What a frame costs beside its bytes.
const COST: usize = size_of::<Bytes>();

/// A handle on it.
#[derive(Clone, Debug, Default)]
pub struct Inbox(Rc<RefCell<State>>);

impl Inbox {
    pub(super) fn new(proto: Proto, account: Rc<Account>) -> Self {
        let mut state = State::default();
        (state.proto, state.account) = (proto, account);
        Self(Rc::new(RefCell::new(state)))
    }

    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        work(&mut self.0.borrow_mut())
    }

    pub(super) fn push(&self, frame: Bytes) {
        let mut state = self.0.borrow_mut();
        state.account.came(frame.len() + COST);
        state.frames.push_back(frame);
        wake(&mut state.client);
    }

    /// Nothing more will come.
    pub(super) fn lose(&self, why: String) {
        let mut state = self.0.borrow_mut();
        state.lost = Some(why);
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
