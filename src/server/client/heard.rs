//! What a client that tracks its keys hears behind a cluster, from all nodes: over its own connections, or over those
//! beside them whose news go to another client (REDIRECT).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::output::Output;
use crate::clients::Peer;
use crate::near::Near;
use crate::resp::invalidation;
use crate::upstream::Inbox;

/// Where a tracking client hears of its keys.
pub(super) struct Heard {
    /// Of the client's own connections.
    inboxes: Vec<Inbox>,
    /// Of those beside them, and who is told what comes there.
    ears: Vec<Inbox>,
    target: Option<Arc<Peer>>,
    /// The client cannot be told by a push that its target is gone.
    is_mute: bool,
    /// It was found to be gone.
    broken: Option<Bytes>,
    /// Comes when the client should look at its connections again.
    call: Pin<Box<dyn Future<Output = ()>>>,
    is_called: bool,
}

impl Heard {
    /// Over these connections; `call` comes when they may not be those any more that the client needs.
    pub(super) fn over(inboxes: Vec<Inbox>, call: impl Future<Output = ()> + 'static) -> Self {
        let (ears, call) = (Vec::new(), Box::pin(call));
        Self { inboxes, ears, target: None, is_mute: true, broken: None, call, is_called: false }
    }

    /// What comes over `ears` is for that client.
    pub(super) fn passed_on(mut self, ears: Vec<Inbox>, target: Option<Arc<Peer>>, is_mute: bool) -> Self {
        (self.ears, self.target, self.is_mute) = (ears, target, is_mute);
        self
    }

    /// True when the client should look at its connections.
    pub(super) const fn is_called(&self) -> bool {
        self.is_called
    }

    /// True when something waits for the client that must not wait for ever.
    pub(super) fn has_come(&self) -> bool {
        self.inboxes.iter().any(Inbox::has_come)
    }

    /// Passes on what is for another client, whatever this one is owed.
    pub(super) fn pass_on(&mut self, cx: &mut Context<'_>) {
        if !self.is_called && self.call.as_mut().poll(cx).is_ready() {
            self.is_called = true;
        }
        let (target, is_called) = (&self.target, &mut self.is_called);
        let mut is_gone = false;
        self.ears.retain(|ear| {
            loop {
                match ear.poll_take(cx) {
                    Poll::Pending => return true,
                    Poll::Ready(Err(_)) => {
                        *is_called = true;
                        return false;
                    }
                    Poll::Ready(Ok(frame)) => {
                        let keys = invalidation::keys(&frame);
                        if let (Some(target), Some(keys)) = (target, keys) {
                            is_gone |= target.is_gone();
                            target.invalidate(keys);
                        }
                    }
                }
            }
        });
        if is_gone {
            // The nodes notice it by themselves once nobody listens there.
            self.ears.clear();
            self.is_called = true;
            self.broken = target.as_ref().filter(|_| !self.is_mute).map(|target| invalidation::broken(target.id));
        }
    }

    /// Moves what has come to `out`, until that holds `enough` bytes.
    pub(super) fn poll(&mut self, cx: &Context<'_>, (out, near): (&mut Output, Option<&Near>), enough: usize) {
        if let Some(broken) = self.broken.take() {
            out.append(broken);
        }
        let is_called = &mut self.is_called;
        self.inboxes.retain(|inbox| {
            while out.len() < enough {
                match inbox.poll_take(cx) {
                    Poll::Pending => return true,
                    Poll::Ready(Ok(frame)) => {
                        near.into_iter().for_each(|near| near.told(&frame));
                        out.append(frame);
                    }
                    Poll::Ready(Err(_)) => {
                        *is_called = true;
                        return false;
                    }
                }
            }
            true
        });
    }
}
