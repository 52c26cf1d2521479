//! A transaction where the upstream is a cluster: it runs at the node that has the slot of its keys. The first command
//! with a key decides; what was queued before goes to whichever node there was, and is queued again at the right one.
//!
//! Every command waits for what the node says of it. A node that does not have the slot any more has done nothing, and
//! everything is queued again where the slot is. What is watched cannot be: a key may have changed meanwhile, so EXEC
//! says that it has, and the client begins again.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Desk, MULTI, QUEUE_LOSS, Taken, Transaction, refuses, summary};
use crate::command::Request;
use crate::errors;
use crate::resp::encode;
use crate::resp::pieces::Pieces;
use crate::upstream::{Batch, Expect, Loss, Onward, Pinned, Ticket, To, Trail};

/// A reply that sends a transaction elsewhere is not longer.
const LONGEST_REDIRECTION: usize = 1024;

/// Where a transaction is, and what is needed to take it elsewhere.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// The slot of its keys, once it has one.
    slot: Option<u16>,
    /// What it has been sent since MULTI, with so many replies.
    sent: BytesMut,
    replies: u32,
    /// That became too much to be kept.
    is_too_long: bool,
    /// Its node, or the one server that the upstream was, watches keys for it.
    pub(super) watches: bool,
    /// It has left a node that watched keys for it.
    has_left_watch: bool,
    /// The slot is on its way to its node.
    asks: bool,
    trail: Trail,
}

impl Node {
    /// Bytes that are kept.
    pub(super) fn kept(&self) -> usize {
        self.sent.len()
    }

    /// EXEC must not run it: a key that it watches may have changed, and nobody has seen it.
    pub(super) const fn is_stale(&self) -> bool {
        self.has_left_watch
    }

    /// Keeps what has been queued.
    fn keep(&mut self, bytes: &[u8], replies: u32, most: usize) {
        self.is_too_long |= self.sent.len() + bytes.len() > most;
        if self.is_too_long {
            self.sent = BytesMut::new();
        } else {
            self.sent.put_slice(bytes);
            self.replies += replies;
        }
    }

    /// True when all of a transaction for which the upstream `is_open` can be queued again.
    fn can_repeat(&self, is_open: bool) -> bool {
        !self.is_too_long && is_open == (self.replies > 0)
    }
}

impl Transaction {
    /// Why a command does not fit the others, if so: one node runs them all, and only the keys of one slot stay
    /// together.
    pub(super) fn is_elsewhere(&self, desk: &Desk<'_>, request: &Request<'_>) -> Option<String> {
        let To::Slot(slot) = desk.session.to else { return None };
        self.node.slot.filter(|decided| *decided != slot)?;
        Some(errors::transaction::in_another_slot(&request.name()))
    }

    /// Sends commands of the transaction and waits for what the node says, which goes to `desk.out`.
    pub async fn send(&mut self, desk: &mut Desk<'_>, batch: &Batch) {
        match self.said_to(desk, batch).await {
            Ok(said) => desk.out.put_slice(&said),
            Err(text) => encode::error(desk.out, &text),
        }
    }

    async fn said_to(&mut self, desk: &mut Desk<'_>, batch: &Batch) -> Result<Bytes, String> {
        let (bytes, replies) = (&batch.bytes, replies_to(batch));
        let opens = bytes.starts_with(MULTI);
        let is_begun = self.is_open && !opens;
        self.be_at_slot(desk, is_begun).await.inspect_err(|_| self.dirty |= self.in_multi)?;
        loop {
            if opens {
                self.say_caching(desk);
            }
            if opens && self.node.asks {
                desk.session.way.transacting().into_iter().for_each(|own| own.ask_for_slot());
            }
            let said = self.ask_once(desk, bytes.clone(), replies).await;
            let onward = desk.session.way.transacting().and_then(|own| desk.services.upstream.onward(own, &said));
            match onward {
                Some(onward) if self.node.can_repeat(is_begun) => {
                    self.go_on_at(desk, onward).await.inspect_err(|_| self.dirty |= self.in_multi)?;
                }
                Some(_) => {
                    self.dirty |= self.in_multi;
                    return Err(errors::transaction::MOVED.to_owned());
                }
                None => {
                    self.note_said(desk, batch, &said);
                    return Ok(said);
                }
            }
        }
    }

    /// The one reply that tells how all went.
    async fn ask_once(&self, desk: &mut Desk<'_>, bytes: Bytes, replies: u32) -> Bytes {
        let lost = || {
            let mut out = BytesMut::new();
            encode::error(&mut out, errors::transaction::LOST);
            out.freeze()
        };
        let Some(own) = desk.session.way.transacting() else { return lost() };
        let Ok((reply, pushed)) = own.lane().submit(Batch::queued(bytes, replies, QUEUE_LOSS)).parts().await else {
            return lost();
        };
        desk.pushes().put_slice(&pushed);
        let whole = reply.whole();
        whole.slice_ref(summary(&whole))
    }

    fn note_said(&mut self, desk: &Desk<'_>, batch: &Batch, said: &[u8]) {
        if !self.in_multi {
            self.node.watches |= !said.starts_with(b"-");
        } else if refuses(said) {
            self.dirty = true;
        } else {
            self.node.keep(&batch.bytes, replies_to(batch), desk.services.policy.limits.request.0);
        }
    }

    /// The first command with a key decides where the transaction is.
    async fn be_at_slot(&mut self, desk: &mut Desk<'_>, is_begun: bool) -> Result<(), String> {
        let to @ To::Slot(slot) = desk.session.to else { return Ok(()) };
        let services = desk.services;
        let leads_there = |own: &Pinned| services.upstream.leads_to(own, to);
        if self.node.slot.is_some() || !desk.services.upstream.is_cluster() {
            return Ok(());
        }
        (self.node.slot, self.node.trail) = (Some(slot), Trail::of(to));
        if desk.session.way.transacting().is_none_or(leads_there) || !self.node.can_repeat(is_begun) {
            return Ok(());
        }
        self.node.has_left_watch |= std::mem::take(&mut self.node.watches);
        if desk.session.way.own_to(leads_there).is_some() {
            self.discard(desk);
            desk.session.way.transacts_where(leads_there);
            return self.repeat(desk).await;
        }
        let (group, account) = (desk.session.group.clone(), desk.session.account.clone());
        let pinned = desk.services.upstream.pin_at(to, &group, &account).await.map_err(|error| error.to_string())?;
        self.repeat_over(desk, pinned).await
    }

    /// Goes on at another node, where everything is queued again.
    async fn go_on_at(&mut self, desk: &mut Desk<'_>, mut onward: Onward) -> Result<(), String> {
        let (group, account) = (desk.session.group.clone(), desk.session.account.clone());
        self.node.has_left_watch |= std::mem::take(&mut self.node.watches);
        loop {
            self.node.asks = onward.is_for_once();
            let upstream = &desk.services.upstream;
            let pinned = upstream.follow(&mut self.node.trail, onward, &group, &account).await?;
            match self.repeat_over(desk, pinned).await {
                Ok(()) => return Ok(()),
                Err(text) => {
                    let reply = format!("-{text}\r\n");
                    let own = desk.session.way.transacting();
                    let again = own.and_then(|own| desk.services.upstream.onward(own, reply.as_bytes()));
                    onward = again.ok_or(text)?;
                }
            }
        }
    }

    /// From now on it uses this connection, on which what it has been sent is sent again.
    async fn repeat_over(&mut self, desk: &mut Desk<'_>, mut pinned: Pinned) -> Result<(), String> {
        desk.session.tell(&desk.services.upstream, &mut pinned).await?;
        self.discard(desk);
        desk.session.way.transacts_over(pinned);
        self.repeat(desk).await
    }

    /// What it has been sent is sent again.
    async fn repeat(&self, desk: &mut Desk<'_>) -> Result<(), String> {
        if self.node.replies == 0 {
            return Ok(());
        }
        self.say_caching(desk);
        let said = self.ask_once(desk, self.node.sent.clone().freeze(), self.node.replies).await;
        match said.strip_prefix(b"-") {
            Some(error) => Err(String::from_utf8_lossy(error).trim_end().to_owned()),
            None => Ok(()),
        }
    }

    /// What CLIENT CACHING says of a transaction stands before MULTI. A node that is asked for a slot forgets it.
    fn say_caching(&self, desk: &mut Desk<'_>) {
        let Some(tracking) = desk.session.way.tracking_mut() else { return };
        tracking.is_unheard |= tracking.caching.is_some() && self.node.asks;
        let caching = tracking.caching.clone();
        if let (Some(bytes), Some(own)) = (caching, desk.session.way.transacting()) {
            let _unread = own.lane().submit(Batch::queued(bytes, 1, QUEUE_LOSS));
        }
    }

    /// The connection that is left forgets what was queued, should its client use it for something else.
    fn discard(&self, desk: &Desk<'_>) {
        let Some(own) = desk.session.way.transacting() else { return };
        let word = if self.is_open { "DISCARD" } else { "UNWATCH" };
        let _unread = own.lane().submit(Batch::queued(encode::request_of(&[word]), 1, QUEUE_LOSS));
    }

    /// What the upstream says to EXEC, or how the transaction has ended with that; without an answer, with `loss`.
    pub(super) async fn outcome(
        &mut self,
        desk: &mut Desk<'_>,
        mut ticket: Ticket,
        loss: Loss,
    ) -> Result<Pieces, Taken> {
        loop {
            let Ok((reply, pushed)) = ticket.parts().await else {
                encode::error(desk.out, loss.sent);
                return Err(Taken::Ends(None));
            };
            desk.pushes().put_slice(&pushed);
            if reply.len() > LONGEST_REDIRECTION {
                return Ok(reply);
            }
            let whole = reply.whole();
            let own = desk.session.way.transacting();
            let Some(onward) = own.and_then(|own| desk.services.upstream.onward(own, &whole)) else {
                return Ok(whole.into());
            };
            desk.services.upstream.learn(&onward);
            if self.node.watches || self.node.is_stale() {
                encode::null_array(desk.out, desk.session.proto());
                return Err(Taken::Ends(None));
            }
            let again = match self.node.can_repeat(self.is_open) {
                true => self.go_on_at(desk, onward).await,
                false => Err(errors::transaction::MOVED.to_owned()),
            };
            let asked = again.map(|()| self.ask(desk, loss));
            ticket = match asked {
                Ok(Some(again)) => again,
                Ok(None) => return Err(Taken::Ends(None)),
                Err(text) => {
                    encode::error(desk.out, &errors::transaction::not_run(&text));
                    return Err(Taken::Ends(None));
                }
            };
        }
    }
}

fn replies_to(batch: &Batch) -> u32 {
    batch.asked.iter().map(|asked| if let Expect::Replies(replies) = asked.expect { replies } else { 1 }).sum()
}
