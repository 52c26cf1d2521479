//! Reads of pass-through keys that are kept in memory (`[[near]]`, decision 0047): answered from there, or sent to the
//! upstream with the question when their keys end. And what a request may change there, before it is sent anywhere.

use std::rc::Rc;

use bytes::{Buf, Bytes, BytesMut};

use super::call::Call;
use super::{Flow, Services};
use crate::command::Request;
use crate::near::{Fill, Found, Near};
use crate::resp::{decode, encode};
use crate::route::Route;
use crate::session::Session;
use crate::telemetry::metrics::{Outcome, RouteLabel};
use crate::upstream::{Asked, Batch, Expect, Login, To, Upstream};

/// A reply on its way that is to be kept. Before it come those that say when its keys end.
pub struct Filling {
    fill: Fill,
    upstream: Rc<Upstream>,
    /// So many of these are still to come, and what has come of the next one.
    questions: usize,
    line: BytesMut,
    /// How long the keys last, in milliseconds; none once that is not known.
    ends: Option<u64>,
}

/// How long a key lasts, by the answer to PTTL: one that is not there, or has no end, for ever.
fn lasts(line: &[u8]) -> Option<u64> {
    decode::integer(line).map(|left| u64::try_from(left).unwrap_or(u64::MAX))
}

impl Filling {
    /// More has come; what of it is the client's.
    pub fn came(&mut self, mut bytes: Bytes) -> Bytes {
        while self.questions > 0 && !bytes.is_empty() {
            let Some(end) = memchr::memchr(b'\n', &bytes) else {
                self.line.extend_from_slice(&bytes.split_off(0));
                break;
            };
            self.line.extend_from_slice(&bytes[..=end]);
            bytes.advance(end + 1);
            self.ends = self.ends.zip(lasts(&self.line)).map(|(ends, lasts)| ends.min(lasts));
            self.line.clear();
            self.questions -= 1;
        }
        self.fill.came(&bytes);
        bytes
    }

    /// Everything has come.
    pub fn end(self) {
        self.fill.end(self.ends, self.upstream.ground());
    }
}

impl Services {
    /// Before a request is sent: what it may change is not answered from memory until it has been answered.
    #[inline]
    pub fn detach(&self, session: &mut Session, request: &Request<'_>) {
        if let Some(near) = &self.near {
            session.writes.begin(near.detach(request, session.spec));
        }
    }

    /// `route`, unless the request may be answered from memory.
    #[inline]
    pub fn unless_near(&self, session: &Session, request: &Request<'_>, route: Route) -> Route {
        match (&self.near, &route) {
            (Some(near), Route::PassThrough(true)) => self.near(near, session, request).unwrap_or(route),
            _ => route,
        }
    }

    /// What is kept was read with the sidecar's own login: who comes with another one may not be allowed to see it.
    fn near(&self, near: &Near, session: &Session, request: &Request<'_>) -> Option<Route> {
        if session.way.is_dedicated() || session.group.login != Login::Service || !near.is_vouched(session.now) {
            return None;
        }
        let spec = session.spec?;
        let read = near.read(request, spec, (session.proto(), session.group.db))?;
        let found = self.near_front.borrow_mut().find(near, &read, session.now);
        // What cannot be kept goes with the client's other requests.
        (found.is_some() || near.is_quiet(request, spec)).then_some(Route::Near(found))
    }
}

impl Call<'_> {
    /// A read that may be answered from memory, where its reply was found or not.
    pub(super) fn near(&mut self, found: Option<Found>) -> Flow {
        let Some(found) = found else { return self.near_miss() };
        let mut front = self.services.near_front.borrow_mut();
        let (reply, is_due) = front.reply(found, self.session.now);
        self.out.extend_from_slice(reply);
        drop(front);
        self.session.tally.add(RouteLabel::Near, Outcome::Hit, 1);
        if is_due {
            self.touch();
        }
        Flow::Answered
    }

    /// The reply is kept when it has come, if nothing happens to its keys meanwhile.
    fn near_miss(&mut self) -> Flow {
        let Some((batch, filling)) = self.filling() else {
            return self.services.forward(self.session, self.request, true);
        };
        self.session.tally.add(RouteLabel::Near, Outcome::Miss, 1);
        Flow::Filling(self.session.submit(&self.services.upstream, batch), Box::new(filling))
    }

    fn filling(&self) -> Option<(Batch, Filling)> {
        let (services, spec) = (self.services, self.session.spec?);
        let near = services.near.as_ref()?;
        let read = near.read(self.request, spec, (self.session.proto(), self.session.group.db))?;
        let at = (self.session.now, services.upstream.ground());
        let fill = near.fill(&read, self.request, spec, at)?;
        near.missed(&read);
        let (to, mut bytes, mut asked) = (self.session.to.at_primary(), BytesMut::new(), Vec::new());
        let mut add = |end: usize| asked.push(Asked { end, resendable: true, expect: Expect::Replies(1), to });
        let mut questions = 0;
        self.request.each_key(spec, |key| {
            encode::request(&mut bytes, &[&b"PTTL"[..], self.request.arg(key)]);
            add(bytes.len());
            questions += 1;
        });
        bytes.extend_from_slice(self.request.raw());
        add(bytes.len());
        let batch = Batch { bytes: bytes.freeze(), asked, is_whole: true, ..Batch::default() };
        let upstream = services.upstream.clone();
        Some((batch, Filling { fill, upstream, questions, line: BytesMut::new(), ends: Some(u64::MAX) }))
    }

    /// Tells the upstream that these keys are read. Nobody waits for the answer.
    #[cold]
    fn touch(&mut self) {
        let Some(spec) = self.session.spec else { return };
        if self.services.upstream.endpoint().paused().is_some() {
            return;
        }
        let mut words: Vec<&[u8]> = vec![b"TOUCH"];
        self.request.each_key(spec, |at| words.push(self.request.arg(at)));
        let to: To = self.session.to.at_primary();
        let _unread =
            self.session.submit(&self.services.upstream, Batch::one(encode::request_of(&words), false).to(to));
    }
}
