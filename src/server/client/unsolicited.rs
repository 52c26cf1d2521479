//! What a client is sent without a request for it: from the inbox of its dedicated connection, and from the shared
//! subscriber connection.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes};

use super::heard::Heard;
use super::output::Output;
use crate::clients::{Peer, Unread, Watching};
use crate::near::Near;
use crate::resp::{Proto, invalidation};
use crate::telemetry::clock::Moment;
use crate::telemetry::metrics::ClientMetrics;
use crate::upstream::{Broken, Ceased, Chunk, Inbox, Subscriber};

/// Why nothing more can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// A reply was cut short upstream, or messages were missed.
    Broken,
    /// Messages were lost because the client did not read.
    Overflowed,
}

impl From<Broken> for Stopped {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

impl From<Ceased> for Stopped {
    fn from(ceased: Ceased) -> Self {
        match ceased {
            Ceased::Overflowed => Self::Overflowed,
            Ceased::Lost => Self::Broken,
        }
    }
}

impl From<Unread> for Stopped {
    fn from(_: Unread) -> Self {
        Self::Overflowed
    }
}

#[derive(Default)]
pub(super) struct Unsolicited {
    /// Of the client's dedicated connection.
    pub(super) inbox: Option<Inbox>,
    /// The client among those of the shared subscriber connection.
    pub(super) subscriber: Option<Arc<Subscriber>>,
    /// The client's protocol, for shared messages.
    pub(super) proto: Proto,
    /// Of a client that tracks its keys behind a cluster: its own connections.
    pub(super) heard: Option<Box<Heard>>,
    /// What others ask, of a client that monitors.
    pub(super) watching: Option<Watching>,
    /// The client, which others may have named to be told of their keys.
    pub(super) peer: Option<Arc<Peer>>,
    /// What is kept of the upstream's keys: it must not show what was before whatever the client is told here.
    pub(super) near: Option<Arc<Near>>,
}

impl Unsolicited {
    /// Nobody sends the client anything without a request for it.
    #[inline]
    pub(super) fn has_no_source(&self) -> bool {
        self.inbox.is_none()
            && self.subscriber.is_none()
            && self.heard.is_none()
            && self.watching.is_none()
            && self.peer.as_ref().is_none_or(|peer| !peer.invalidations.is_any() && !peer.own_news.is_any())
    }

    /// The upstream says this to the client.
    #[inline]
    pub(super) fn says(&self, frame: Bytes) -> Bytes {
        if let Some(near) = &self.near {
            near.told(&frame);
        }
        frame
    }

    /// This comes from the upstream, in the order of the replies.
    pub(super) fn comes(&self, chunk: Chunk) -> Bytes {
        match chunk {
            Chunk::Reply(bytes) => bytes,
            Chunk::Push(bytes) => self.says(bytes),
        }
    }

    /// True when a tracking client should look at its connections.
    pub(super) fn is_called(&self) -> bool {
        self.heard.as_ref().is_some_and(|heard| heard.is_called())
    }

    /// True when something waits for a tracking client that comes to it only once nothing is owed.
    pub(super) fn must_pause(&self) -> bool {
        self.heard.as_ref().is_some_and(|heard| heard.has_come())
    }

    /// Passes on what is for another client, whatever this one is owed.
    pub(super) fn pass_on(&mut self, cx: &mut Context<'_>) {
        if let Some(heard) = &mut self.heard {
            heard.pass_on(cx);
        }
    }

    /// What the client is told of the keys of others.
    fn tell_of_others(&self, out: &mut Output) {
        let Some(peer) = self.peer.as_ref().filter(|peer| peer.invalidations.is_any()) else { return };
        let hears = self.proto == Proto::Resp3 || peer.read(|state| state.subscribed != [0; 3]);
        for keys in peer.invalidations.take().into_iter().filter(|_| hears) {
            out.append(self.says(invalidation::message(self.proto, keys.as_deref())));
        }
    }

    /// Something waits that the client is to be told of the owned keys that it keeps.
    #[inline]
    pub(super) fn has_own_news(&self) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.own_news.is_any())
    }

    /// What the client is told of the owned keys that it keeps; nobody can tell it by RESP2.
    pub(super) fn own_news(&self) -> Vec<Bytes> {
        let Some(peer) = self.peer.as_ref().filter(|peer| peer.own_news.is_any()) else { return Vec::new() };
        let news = peer.own_news.take();
        if self.proto == Proto::Resp3 { news } else { Vec::new() }
    }

    /// What came right behind the last reply, if it has come already.
    pub(super) fn take_come(&self, out: &mut Output, metrics: Option<&ClientMetrics>) {
        let Some(inbox) = &self.inbox else { return };
        let (since, mut taken) = (inbox.waits_since(), 0);
        while let Some(frame) = inbox.take() {
            out.append(self.says(frame));
            taken += 1;
        }
        note_delivered(metrics, since, taken);
    }

    /// Wakes the task of `cx` when a shared message or a monitor's line comes; while nothing can be written, they may
    /// become too many to hold.
    pub(super) fn watch(&self, cx: &Context<'_>) -> Result<(), Stopped> {
        self.watching.as_ref().map_or(Ok(()), |watching| watching.watch(cx))?;
        Ok(self.subscriber.as_ref().map_or(Ok(()), |subscriber| subscriber.watch(cx))?)
    }

    /// Moves what has come to `out`, until that holds `enough` bytes.
    pub(super) fn poll(
        &mut self,
        cx: &Context<'_>,
        (out, metrics): (&mut Output, Option<&ClientMetrics>),
        enough: usize,
    ) -> Result<(), Stopped> {
        self.tell_of_others(out);
        if let Some(heard) = &mut self.heard {
            heard.poll(cx, (out, self.near.as_deref()), enough);
        }
        // What is shown here has happened before what comes of the upstream.
        while let (Some(watching), true) = (&self.watching, out.len() < enough) {
            match watching.poll_take(cx) {
                Poll::Pending => break,
                Poll::Ready(line) => out.share(line?),
            }
        }
        let (since, mut taken) = (self.inbox.as_ref().and_then(Inbox::waits_since), 0);
        while let (Some(inbox), true) = (&self.inbox, out.len() < enough) {
            match inbox.poll_take(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(frame)) => out.append(self.says(frame)),
                Poll::Ready(Err(_)) => return Err(Stopped::Broken),
            }
            taken += 1;
        }
        note_delivered(metrics, since, taken);
        let mut since = None;
        taken = 0;
        while let (Some(subscriber), true) = (&self.subscriber, out.len() < enough) {
            match subscriber.poll_take(cx) {
                Poll::Pending => break,
                Poll::Ready(message) => {
                    let (message, came) = message?;
                    since.get_or_insert(came);
                    taken += 1;
                    out.tail().put_u8(if self.proto == Proto::Resp2 { b'*' } else { b'>' });
                    out.share(self.says(message));
                }
            }
        }
        note_delivered(metrics, since, taken);
        Ok(())
    }
}

/// So many messages, of which the first came then, are written now: one look at the clock for all of them.
fn note_delivered(metrics: Option<&ClientMetrics>, since: Option<Moment>, messages: u64) {
    if let (Some(metrics), Some(since), 1..) = (metrics, since, messages) {
        metrics.delivery_seconds.observe(since.age(), messages);
    }
}
