//! The replies to a batch whose requests went to several nodes: they come in the order of the requests, whichever node
//! answers first. A node that does not have a key any more says so instead of an answer, and the request goes on to the
//! one that has it.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::again::Again;
use super::part::Part;
use super::replies::{Look, Replies};
use super::{ClusterLane, Unheard};
use crate::near::Detached;
use crate::resp::encode;
use crate::telemetry::traces::CommandTrace;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::cluster::redirect::{self, PAUSE, Redirect};
use crate::upstream::endpoint::cluster::{has_moved, known_node};
use crate::upstream::pipeline::account::Account;
use crate::upstream::pipeline::batch::{Asked, Batch, Expect, To};
use crate::upstream::pipeline::lane_ticket::{Broken, Chunk};

/// A reply that is shorter than this is gathered with others, at most so many bytes of them.
const SHORT: usize = 4 * 1024;
const GATHERED: usize = 16 * 1024;

/// What a node has just said of the cluster counts for so long.
const KNOWN: Duration = Duration::from_millis(250);

/// What comes next of the merged replies.
enum Next {
    /// More was gathered.
    Gathered,
    /// These bytes, behind what was gathered.
    Chunk(Chunk),
    /// Nothing any more.
    End,
}

/// The client's side of a batch whose requests went to the nodes of a cluster.
#[derive(Debug)]
pub struct Merged {
    lane: Rc<ClusterLane>,
    parts: Vec<Part>,
    /// When the batch was given to the lanes. A cluster that cannot take some of it is waited for once, not for each
    /// request.
    since: Instant,
    /// One of the requests has waited for the cluster: what was said to those behind it is old.
    has_waited: bool,
    /// Until then the cluster counts as it was found when that time was over: nobody behind asks again.
    known_until: Option<Instant>,
    /// The part of each request, and how many of them have been answered.
    order: Vec<usize>,
    answered: usize,
    replies: Replies,
    again: Option<Box<Again>>,
    /// The replies to the front request were waited for: what they say is news.
    is_awaited: bool,
    /// Short replies, and the beat for which they wait.
    gathered: BytesMut,
    beat: Option<u64>,
    /// Behind what was gathered.
    next: Option<Result<Chunk, Broken>>,
    /// Follows what was answered last.
    unheard: Option<Unheard>,
    is_muted: bool,
    /// The command, if it is traced: what is sent again is of it, too.
    trace: Option<Arc<CommandTrace>>,
    /// Kept keys that it may change, also where some of it is sent again.
    _detached: Option<Rc<Detached>>,
}

impl Merged {
    pub(super) fn new(lane: Rc<ClusterLane>, parts: Vec<Part>, order: Vec<usize>) -> Self {
        let trace = lane.rider.account.trace.get();
        Self {
            lane,
            parts,
            since: Instant::now(),
            has_waited: false,
            known_until: None,
            order,
            answered: 0,
            replies: Replies::default(),
            again: None,
            is_awaited: false,
            gathered: BytesMut::new(),
            beat: None,
            next: None,
            unheard: None,
            is_muted: false,
            trace,
            _detached: None,
        }
    }

    /// The same, which may change these.
    pub(super) fn detaching(self, detached: Option<Rc<Detached>>) -> Self {
        Self { _detached: detached, ..self }
    }

    pub(in crate::upstream::pipeline) fn account(&self) -> Rc<Account> {
        self.lane.rider.account.clone()
    }

    pub(in crate::upstream::pipeline) const fn mute(&mut self) {
        self.is_muted = true;
    }

    pub(in crate::upstream::pipeline) fn is_bulky(&self) -> bool {
        self.parts.iter().any(|part| part.ticket.is_bulky())
    }

    /// The next bytes; `None` after the last.
    pub(in crate::upstream::pipeline) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Chunk>, Broken>> {
        loop {
            let Some(chunk) = ready!(self.poll_gathered(cx))? else { return Poll::Ready(Ok(None)) };
            if !self.is_muted || matches!(chunk, Chunk::Push(_)) {
                return Poll::Ready(Ok(Some(chunk)));
            }
        }
    }

    /// The next bytes, as many short replies together as are here.
    fn poll_gathered(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Broken>> {
        if let Some(next) = self.next.take() {
            return Poll::Ready(next.map(Some));
        }
        let next = loop {
            match self.poll_next(cx) {
                Poll::Ready(Ok(Next::Gathered)) if self.gathered.len() < GATHERED => {}
                next => break next,
            }
        };
        if self.gathered.is_empty() {
            return next.map_ok(|next| if let Next::Chunk(chunk) = next { Some(chunk) } else { None });
        }
        if next.is_pending() && self.is_held(cx) {
            return Poll::Pending;
        }
        self.beat = None;
        self.next = match next {
            Poll::Ready(Ok(Next::Chunk(chunk))) => Some(Ok(chunk)),
            Poll::Ready(Err(broken)) => Some(Err(broken)),
            // It is looked at again.
            Poll::Ready(Ok(Next::Gathered | Next::End)) | Poll::Pending => None,
        };
        Poll::Ready(Ok(Some(Chunk::Reply(self.gathered.split().freeze()))))
    }

    /// What other nodes answer until the next beat is written together with what was gathered.
    fn is_held(&mut self, cx: &Context<'_>) -> bool {
        let holding = &self.lane.servers.holding;
        self.parts.len() > 1 && !holding.has_been(*self.beat.get_or_insert_with(|| holding.wait(cx.waker())))
    }

    /// Gathers the short replies that are here, which almost all are; true if there was one.
    fn gather(&mut self) -> bool {
        if self.again.is_some() || self.replies.are_begun() || self.lane.rider.unheard.is_some() {
            return false;
        }
        let before = self.answered;
        for at in self.order.get(before..).unwrap_or_default() {
            let Some(part) = self.parts.get_mut(*at).filter(|_| self.gathered.len() < GATHERED) else { break };
            let Some(length) = part.short_reply() else { break };
            if self.answered == before {
                // For all that are left, if they are as long as this one.
                self.gathered.reserve((length * (self.order.len() - before)).min(GATHERED));
            }
            part.move_to(&mut self.gathered, length);
            part.pass();
            self.answered += 1;
        }
        self.answered > before
    }

    /// The part of the request that is answered next.
    fn front(&self) -> Option<usize> {
        self.order.get(self.answered).copied()
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, Broken>> {
        loop {
            if let Some(push) = self.unheard.take().map(|unheard| unheard.tell()).filter(|push| !push.is_empty()) {
                return Poll::Ready(Ok(Next::Chunk(Chunk::Push(push))));
            }
            let Some(at) = self.front() else { return Poll::Ready(Ok(Next::End)) };
            let Some(asked) = self.parts.get(at).and_then(Part::front) else { return Poll::Ready(Err(Broken)) };
            let expect = asked.expect;
            if expect == Expect::Nothing {
                self.pass(at);
                continue;
            }
            ready!(self.poll_again(at, cx));
            let part = answering(&mut self.again, &mut self.parts, at)?;
            let come = part.poll_come(cx);
            self.is_awaited |= come.is_pending();
            if matches!(come, Poll::Ready(Err(_))) && part.is_of_replica() && !self.replies.is_passed {
                // It was lost in the middle of a reply.
                self.replies.begin_again();
                self.follow(at, &Redirect::Primary);
                continue;
            }
            if let Some(push) = ready!(come)? {
                return Poll::Ready(Ok(Next::Chunk(Chunk::Push(push))));
            }
            if self.gather() {
                self.is_awaited = false;
                return Poll::Ready(Ok(Next::Gathered));
            }
            let look = self.replies.look(answering(&mut self.again, &mut self.parts, at)?, expect)?;
            if let Some(next) = self.given(at, look)? {
                return Poll::Ready(Ok(next));
            }
        }
    }

    /// What the client gets of what has come, if anything.
    fn given(&mut self, at: usize, look: Look) -> Result<Option<Next>, Broken> {
        let part = answering(&mut self.again, &mut self.parts, at)?;
        let (bytes, is_last) = match look {
            Look::Held => return Ok(None),
            Look::Ended(length) if length < SHORT => {
                part.move_to(&mut self.gathered, length);
                self.pass(at);
                return Ok(Some(Next::Gathered));
            }
            Look::Passed(length) => (part.take(length), false),
            Look::Gave(bytes) => (bytes, false),
            Look::Ended(length) => (part.take(length), true),
            Look::GaveLast(bytes) => (bytes, true),
            Look::Redirected(redirect, instead) => {
                if self.follow(at, &redirect) {
                    return Ok(None);
                }
                (self.leads_nowhere(at, &redirect, instead), true)
            }
        };
        if is_last {
            self.pass(at);
        }
        Ok(Some(Next::Chunk(Chunk::Reply(bytes))))
    }

    /// The front request has been answered.
    fn pass(&mut self, at: usize) {
        self.answered += 1;
        let by = self.again.as_ref().and_then(|again| again.part.as_ref()).or(self.parts.get(at));
        let to = self.parts.get(at).and_then(Part::front).map(|asked| asked.to);
        let unheard = by.zip(to).and_then(|(part, to)| self.lane.unheard_from(&part.server, to));
        self.unheard = unheard.cloned();
        (self.again, self.is_awaited) = (None, false);
        self.replies.begin();
        if let Some(part) = self.parts.get_mut(at) {
            part.pass();
        }
    }

    /// Sends the front request again, when its pause is over.
    fn poll_again(&mut self, at: usize, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(again) = &mut self.again
            && let Some(pause) = &mut again.pause
        {
            ready!(pause.as_mut().poll(cx));
            again.pause = None;
            let to = self.parts.get(at).and_then(Part::front).map_or(To::Home, |asked| asked.to);
            let owner = self.lane.newest(to);
            self.send(at, &owner, false);
        }
        Poll::Ready(())
    }

    /// The `replies` of a node that sends the front request elsewhere, when it cannot go there any more.
    fn leads_nowhere(&self, at: usize, redirect: &Redirect, replies: Bytes) -> Bytes {
        let asked = self.parts.get(at).and_then(Part::front).and_then(|asked| asked.to.slot());
        if self.lane.is_of_cluster() && redirect.is_by_node(&self.lane.servers.upstream, asked) {
            return redirect::told_plainly(&replies);
        }
        replies
    }

    /// True when a request that is sent elsewhere, again and again `since` then, has waited long enough.
    fn is_late(&mut self, redirect: &Redirect, since: Instant) -> bool {
        let patience = self.lane.servers.upstream.settings.queue_timeout;
        match redirect {
            Redirect::Primary => false,
            Redirect::TryAgain | Redirect::Down | Redirect::Demoted | Redirect::Retired => {
                let is_over = self.since.elapsed() >= patience;
                if is_over && self.is_awaited {
                    self.known_until = Some(Instant::now() + KNOWN);
                }
                // What was said before that time was over may not be true any more.
                is_over && (self.is_awaited || self.known_until.is_some_and(|until| Instant::now() < until))
            }
            Redirect::Moved(..) | Redirect::Ask(..) | Redirect::Unsent => since.elapsed() >= patience,
        }
    }

    /// Goes where the `redirect` leads; false if that has taken too long.
    fn follow(&mut self, at: usize, redirect: &Redirect) -> bool {
        let (upstream, Some(part)) = (self.lane.servers.upstream.clone(), self.parts.get(at)) else { return false };
        let again = self.again.get_or_insert_default();
        let (since, server) = (again.since, again.part.as_ref().unwrap_or(part).server.clone());
        let to = part.front().map_or(To::Home, |asked| asked.to);
        let is_foreign =
            *redirect != Redirect::Primary && !self.lane.is_of_cluster() || !redirect.may_concern(to.slot());
        if is_foreign || self.is_late(redirect, since) {
            return false;
        }
        self.replies.begin();
        let owner = self.lane.newest(to);
        match redirect {
            Redirect::Primary => self.send(at, &owner, false),
            // No other node stands for this one.
            Redirect::Unsent | Redirect::Retired | Redirect::Demoted if matches!(to, To::Node(_)) => return false,
            Redirect::Unsent | Redirect::Retired if !Arc::ptr_eq(&owner, &server) => self.send(at, &owner, false),
            Redirect::Unsent => return false,
            // It may have been said long ago, and not be true any more: whoever has the slot now is asked.
            Redirect::Moved(..) if !self.is_awaited && !Arc::ptr_eq(&owner, &server) => self.send(at, &owner, false),
            Redirect::Ask(..) if !self.is_awaited => self.send(at, &owner, false),
            Redirect::TryAgain | Redirect::Down if !self.is_awaited && self.has_waited => self.send(at, &owner, false),
            Redirect::Moved(slot, node) => {
                // Two nodes that name each other do not agree yet.
                let owner = if self.again.as_mut().is_some_and(|again| again.has_moved_before()) {
                    None
                } else {
                    has_moved(&upstream, *slot, node)
                };
                self.send_or_wait(at, owner, false);
            }
            Redirect::Ask(_, node) => self.send_or_wait(at, known_node(&upstream, node), true),
            Redirect::TryAgain | Redirect::Down | Redirect::Demoted | Redirect::Retired => {
                self.send_or_wait(at, None, false);
            }
        }
        true
    }

    /// Sends the front request to this server, or, without one, to whichever the nodes say in a moment.
    fn send_or_wait(&mut self, at: usize, server: Option<Arc<Endpoint>>, asks: bool) {
        if let Some(server) = server {
            return self.send(at, &server, asks);
        }
        self.lane.servers.upstream.cluster.doubt();
        self.has_waited = true;
        if let Some(again) = &mut self.again {
            again.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
        }
    }

    /// Sends the front request to this server, which may be about to have the slot.
    fn send(&mut self, at: usize, server: &Arc<Endpoint>, asks: bool) {
        let Some(part) = self.parts.get(at) else { return };
        let Some(&front) = part.front() else { return };
        let (mut bytes, mut asked) = (BytesMut::new(), Vec::with_capacity(2));
        if asks {
            encode::request(&mut bytes, &["ASKING"]);
            asked.push(Asked { end: bytes.len(), resendable: false, expect: Expect::Replies(1), to: front.to });
        }
        bytes.extend_from_slice(&part.bytes[part.start..front.end]);
        asked.push(Asked { end: bytes.len(), ..front });
        let batch = Batch { bytes: bytes.freeze(), asked, ..Batch::default() };
        let hand = || self.lane.hand(server, batch);
        let ticket = self.lane.rider.account.trace.again(self.trace.clone(), hand);
        self.replies.skip = u32::from(asks);
        self.is_awaited = true;
        if let Some(again) = &mut self.again {
            again.part = Some(Part::new(ticket, server.clone(), Bytes::new(), Vec::new()));
        }
    }
}

/// What answers the front request, which belongs to the part at this place and may have been sent again.
fn answering<'p>(again: &'p mut Option<Box<Again>>, parts: &'p mut [Part], at: usize) -> Result<&'p mut Part, Broken> {
    again.as_mut().and_then(|again| again.part.as_mut()).or(parts.get_mut(at)).ok_or(Broken)
}
