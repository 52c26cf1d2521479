//! A batch of pipelined requests on its way through a lane, and what becomes of it when the connection dies:
//! requests that only read are sent once more, the others are answered as possibly applied.

use std::rc::Rc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::account::{Account, Charge};
use super::batch::{Asked, Batch, Expect, Loss};
use super::lane_ticket::{Broken, Chunk, Delivery};
use crate::errors;
use crate::near::Detached;
use crate::resp::encode;
use crate::telemetry::traces::UpstreamPart;

/// A batch between its client and the upstream.
#[derive(Debug)]
pub(crate) struct Flight {
    bytes: Bytes,
    asked: Vec<Asked>,
    /// Units in front that have been answered.
    answered: usize,
    /// By unit, our error that replaces its replies; empty while no unit has one.
    lost: Vec<Option<&'static str>>,
    delivery: Delivery,
    loss: Option<Loss>,
    is_timed: bool,
    /// It is for an upstream of one server.
    pub(super) is_for_one: bool,
    is_whole: bool,
    attempts: u32,
    /// When its client gave it to the lane.
    pub(super) since: Instant,
    /// Bytes the connection had been given before it: what is past the written mark was never sent.
    pub(super) offset: u64,
    /// What it costs its client.
    charge: Charge,
    /// The bytes that its replies take of the lane's window.
    pub(super) expected: usize,
    /// The client has the beginning of a reply whose end is still to come.
    pub(super) is_partial: bool,
    /// Some replies of the front unit have come, and not all.
    is_begun: bool,
    /// What of it is traced.
    traced: Option<Box<UpstreamPart>>,
    /// Kept keys that it may change, until it has been answered.
    _detached: Option<Rc<Detached>>,
}

impl Flight {
    pub(super) fn new(batch: Batch, delivery: Delivery) -> Self {
        let cost = batch.bytes.len() + batch.asked.capacity() * size_of::<Asked>() + size_of::<Self>();
        let account = delivery.account();
        let traced = account.trace.upstream_part();
        let charge = Charge::new(account, cost);
        Self {
            bytes: batch.bytes,
            asked: batch.asked,
            answered: 0,
            lost: Vec::new(),
            delivery,
            loss: batch.loss,
            is_timed: batch.is_timed,
            is_for_one: batch.is_for_one,
            is_whole: batch.is_whole,
            attempts: 0,
            since: Instant::now(),
            offset: 0,
            charge,
            expected: 0,
            is_partial: false,
            is_begun: false,
            traced,
            _detached: batch.detached,
        }
    }

    /// It is traced, and goes to this server now.
    #[inline]
    pub(super) fn goes_to(&mut self, server: impl FnOnce() -> String) {
        if let Some(traced) = &mut self.traced {
            traced.sent(server());
        }
    }

    /// Units without replies.
    fn pending(&self) -> &[Asked] {
        self.asked.get(self.answered..).unwrap_or_default()
    }

    /// The unit that is answered next.
    fn front_mut(&mut self) -> Option<&mut Asked> {
        self.asked.get_mut(self.answered)
    }

    /// The error that replaces a unit's replies.
    fn lost(&self, unit: usize) -> Option<&'static str> {
        self.lost.get(unit).copied().flatten()
    }

    /// From now on `error` replaces a unit's replies.
    fn lose_unit(&mut self, unit: usize, error: &'static str) {
        self.lost.resize(self.asked.len(), None);
        if let Some(lost) = self.lost.get_mut(unit) {
            *lost = Some(error);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Requests without replies.
    pub(super) fn requests(&self) -> usize {
        self.pending().len()
    }

    /// Its client's account.
    pub(super) const fn account(&self) -> &Rc<Account> {
        self.charge.account()
    }

    /// It has been sent.
    pub(super) fn send(&mut self) -> usize {
        let replies = self.pending().iter().map(|unit| match unit.expect {
            Expect::Replies(replies) => replies as usize,
            _ => 1,
        });
        self.expected = self.charge.send(replies.sum());
        self.expected
    }

    /// Somebody waits for it.
    pub(super) fn is_wanted(&self) -> bool {
        self.delivery.is_wanted()
    }

    /// Nobody waits for it, and it changes nothing.
    pub(super) fn is_moot(&self) -> bool {
        !self.delivery.is_wanted() && self.pending().iter().all(|unit| unit.resendable)
    }

    /// Appends what is to be sent.
    pub(super) fn write_to(&self, out: &mut BytesMut) {
        if self.attempts == 0 {
            out.extend_from_slice(&self.bytes);
            return;
        }
        let mut start = 0;
        for (unit, Asked { end, .. }) in self.asked.iter().enumerate() {
            if unit >= self.answered && self.lost(unit).is_none() {
                out.extend_from_slice(&self.bytes[start..*end]);
            }
            start = *end;
        }
    }

    pub(super) fn deliver(&self, chunk: Chunk) {
        self.delivery.push(chunk);
    }

    /// What the front unit still expects.
    pub(super) fn expects(&self) -> Option<Expect> {
        self.pending().first().map(|unit| unit.expect)
    }

    /// One reply has ended. True when an error of ours comes next, so that what was read must be delivered first.
    pub(super) fn reply_ended(&mut self) -> bool {
        self.is_partial = false;
        match self.front_mut().map(|unit| &mut unit.expect) {
            Some(Expect::Replies(left @ 2..)) => (*left, self.is_begun) = (*left - 1, true),
            _ => self.unit_ended(),
        }
        self.is_lost_next()
    }

    /// One confirmation of the front unit has come; `remain` of its kind are still subscribed.
    pub(super) fn confirmed(&mut self, remain: usize) {
        match self.front_mut().map(|unit| &mut unit.expect) {
            Some(Expect::Confirmations(left @ 2..)) => *left -= 1,
            Some(Expect::AllOf(_)) if remain > 0 => {}
            _ => self.unit_ended(),
        }
    }

    fn unit_ended(&mut self) {
        (self.answered, self.is_begun) = (self.answered + 1, false);
        self.drop_silent();
    }

    /// Units that nothing will answer end when their turn comes.
    pub(super) fn drop_silent(&mut self) {
        while self.pending().first().is_some_and(|next| next.expect == Expect::Nothing) {
            self.answered += 1;
        }
    }

    fn is_lost_next(&self) -> bool {
        !self.lost.is_empty() && self.lost(self.answered).is_some()
    }

    /// Answers the lost requests that are next in turn.
    pub(super) fn answer_lost(&mut self) {
        while self.is_lost_next() {
            self.answer_next(errors::upstream::LOST);
        }
    }

    /// Answers the front unit with an error for each of its replies.
    fn answer_next(&mut self, text: &str) {
        let Some(unit) = self.pending().first() else { return };
        let mut out = BytesMut::new();
        let replies = match unit.expect {
            Expect::Replies(replies) => replies,
            Expect::Confirmations(_) | Expect::AllOf(_) => 1,
            Expect::Nothing => 0,
        };
        let text = self.lost(self.answered).unwrap_or(text);
        (0..replies).for_each(|_| encode::error(&mut out, text));
        self.answered += 1;
        self.delivery.push(Chunk::Reply(out.freeze()));
    }

    /// A reply of `length` bytes has come for it.
    pub(super) fn saw(&self, length: usize) {
        if self.account().window.saw(length) {
            self.delivery.bulky();
        }
    }

    /// So much of a reply has come, and there is more; others should not have to wait behind one longer than `bulky`.
    pub(super) fn sees(&self, length: usize, bulky: usize) {
        self.account().window.sees(length);
        if length > bulky {
            self.delivery.bulky();
        }
    }

    pub(super) const fn is_done(&self) -> bool {
        self.answered >= self.asked.len()
    }

    pub(super) fn finish(self) {
        self.delivery.end(Ok(()));
    }

    /// Answers everything that is still open with one error.
    pub(super) fn fail(mut self, text: &str) {
        if self.is_partial {
            self.delivery.end(Err(Broken));
            return;
        }
        while !self.is_done() {
            self.answer_next(text);
        }
        self.finish();
    }

    /// The upstream may not let it wait for ever, and only its connection has a clock for that.
    pub(super) const fn has_deadline(&self) -> bool {
        self.is_timed
    }

    /// The connection was its client's own and died when `written` bytes had been sent. The client's state is lost with
    /// it, and so is the client, unless the batch says what the client is answered.
    pub(crate) fn lose(self, written: u64) {
        match self.loss {
            Some(loss) if self.offset < written => self.fail(loss.sent),
            Some(loss) => self.fail(loss.unsent),
            None => self.delivery.end(Err(Broken)),
        }
    }

    /// The request that was waited for took too long: were it sent again, the upstream would have it twice.
    pub(super) fn time_out(&mut self) {
        if self.pending().first().is_some_and(|front| front.resendable) {
            let end = if self.is_whole { self.asked.len() } else { self.answered + 1 };
            (self.answered..end).for_each(|unit| self.lose_unit(unit, errors::upstream::TIMED_OUT));
        }
    }

    /// The server is a replica, and has done nothing of what has no reply. Gives the flight back to be sent to its
    /// primary, but for a transaction of which the client has been told something: that has failed as a whole.
    pub(super) fn redirected(mut self) -> Option<Self> {
        if std::mem::take(&mut self.is_begun) {
            self.lose_unit(self.answered, errors::upstream::LOST_UNSENT);
        }
        // What has been answered is not sent again.
        self.attempts = self.attempts.max(1);
        self.salvage(0)
    }

    /// The connection died when `written` bytes had been sent. Gives the flight back if something is to be sent again.
    pub(super) fn salvage(mut self, written: u64) -> Option<Self> {
        self.charge.settle();
        if self.is_partial {
            self.delivery.end(Err(Broken));
            return None;
        }
        if self.offset < written {
            let again = self.attempts == 0;
            for unit in self.answered..self.asked.len() {
                if self.lost(unit).is_none() && !(self.asked[unit].resendable && again) {
                    self.lose_unit(unit, errors::upstream::LOST);
                }
            }
            self.attempts += 1;
            // From now on it waits for the next connection, not for a reply.
            self.since = Instant::now();
        }
        self.answer_lost();
        if self.is_done() {
            self.finish();
            return None;
        }
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use bytes::{Bytes, BytesMut};

    use super::Flight;
    use crate::upstream::pipeline::batch::{Asked, Batch, Expect, To};
    use crate::upstream::pipeline::lane_ticket::{Chunk, ticket};
    use crate::upstream::pipeline::ticket::Ticket;

    fn batch() -> Batch {
        let asked = [(4, true), (9, false), (13, true)].map(|(end, resendable)| Asked {
            end,
            resendable,
            expect: Expect::Replies(1),
            to: To::Home,
        });
        Batch { bytes: Bytes::from_static(b"readWRITEread"), asked: asked.into(), ..Batch::default() }
    }

    #[tokio::test]
    async fn after_a_cut_reads_are_sent_again_and_writes_are_told() {
        let (ticket, delivery) = ticket(Rc::default());
        let flight = Flight::new(batch(), delivery).salvage(1).expect("reads remain");
        let mut out = BytesMut::new();
        flight.write_to(&mut out);
        assert_eq!(out, &b"readread"[..]);
        let mut flight = flight;
        flight.deliver(Chunk::Reply(Bytes::from_static(b"+1\r\n")));
        assert!(flight.reply_ended());
        flight.answer_lost();
        flight.deliver(Chunk::Reply(Bytes::from_static(b"+3\r\n")));
        assert!(!flight.reply_ended() && flight.is_done());
        flight.finish();
        let all = Ticket::Lane(ticket).whole().await.expect("whole");
        let text = String::from_utf8_lossy(&all);
        assert!(
            text.starts_with("+1\r\n-ERR hearthside: the upstream") && text.ends_with("applied\r\n+3\r\n"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_second_cut_ends_it_and_what_was_never_sent_is_kept() {
        let (first, delivery) = ticket(Rc::default());
        let again = Flight::new(batch(), delivery).salvage(1).expect("reads remain");
        assert!(again.salvage(1).is_none());
        assert_eq!(Ticket::Lane(first).whole().await.expect("whole").iter().filter(|b| **b == b'-').count(), 3);
        let (_second, delivery) = ticket(Rc::default());
        let mut unsent = Flight::new(batch(), delivery);
        unsent.offset = 10;
        let mut out = BytesMut::new();
        unsent.salvage(10).expect("all of it").write_to(&mut out);
        assert_eq!(out, &b"readWRITEread"[..]);
    }

    #[tokio::test]
    async fn a_read_that_took_too_long_is_not_sent_again_and_those_behind_it_are() {
        let (ticket, delivery) = ticket(Rc::default());
        let mut flight = Flight::new(batch(), delivery);
        flight.time_out();
        let flight = flight.salvage(13).expect("one read remains");
        let mut out = BytesMut::new();
        flight.write_to(&mut out);
        assert_eq!(out, &b"read"[..]);
        flight.fail("ERR away");
        let told = Ticket::Lane(ticket).whole().await.expect("whole");
        let told = String::from_utf8_lossy(&told);
        let errors: Vec<_> = told.split("\r\n").collect();
        assert!(
            errors[0].contains("upstream.command_timeout") && errors[1].contains("may have been applied"),
            "{told}"
        );
        assert_eq!(&errors[2..], ["-ERR away", ""]);
    }

    #[tokio::test]
    async fn half_a_reply_breaks_the_client() {
        let (ticket, delivery) = ticket(Rc::default());
        let mut flight = Flight::new(batch(), delivery);
        flight.is_partial = true;
        assert!(flight.salvage(20).is_none());
        assert!(Ticket::Lane(ticket).whole().await.is_err());
    }
}
