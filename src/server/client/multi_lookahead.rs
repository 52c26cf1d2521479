//! Finds a MULTI ... EXEC that has arrived as a whole: it is one unit of the client's batch, and needs no connection
//! for the client alone.
//!
//! Invariant: only a transaction whose every command goes upstream is one; all others take the long way.

use std::time::Duration;

use crate::command::Request;
use crate::dispatch::Services;
use crate::near::Detached;
use crate::resp::request::{RequestScanner, Scan};
use crate::route::{Pin, Route, Transaction};
use crate::session::{Session, joined};
use crate::transaction::pushes;
use crate::upstream::To;

/// It looks at most so many bytes ahead; a longer transaction is handled command by command.
const FARTHEST: usize = 1 << 20;

/// What the requests behind a MULTI are.
pub(super) enum Ahead {
    /// A whole transaction of so many bytes and requests, MULTI and EXEC among them, which this server takes.
    Whole(usize, u32, To),
    /// Perhaps one, whose end is not here yet.
    Unfinished,
    /// Something that is handled command by command.
    Other,
}

/// How far the buffer has been looked at behind the MULTI that stands behind the batch.
#[derive(Debug, Default)]
pub(super) struct Lookahead {
    scanner: RequestScanner,
    /// Bytes from MULTI's first on; 0 when nothing has been looked at.
    seen: usize,
    requests: u32,
    /// Which server takes the requests seen, where the upstream is a cluster.
    to: To,
    /// Keys of the near cache that these may change.
    detached: Option<Box<Detached>>,
    /// Its end was waited for in vain: it is handled command by command.
    pub(super) given_up: bool,
}

impl Lookahead {
    /// Looks at `buffer`, which begins with a MULTI of `length` bytes, and goes on where the last look stopped.
    pub(super) fn look(&mut self, services: &Services, session: &mut Session, buffer: &[u8], length: usize) -> Ahead {
        if self.given_up {
            *self = Self::default();
            return Ahead::Other;
        }
        if self.seen == 0 {
            (self.seen, self.requests, self.to) = (length, 1, To::Home);
            let limits = &services.policy.limits;
            self.scanner.set_limits(limits.request_argument.0, limits.request_arguments);
        }
        let ahead = self.go_on(services, session, buffer);
        if !matches!(ahead, Ahead::Unfinished) {
            *self = Self::default();
        }
        ahead
    }

    /// The MULTI that stands behind the batch has been looked at before.
    pub(super) const fn is_under_way(&self) -> bool {
        self.seen > 0
    }

    /// A client that sent more than MULTI does not wait for an answer: the rest is on its way.
    pub(super) const fn patience(&self) -> Duration {
        if self.requests > 1 { Duration::from_millis(2) } else { Duration::ZERO }
    }

    fn go_on(&mut self, services: &Services, session: &mut Session, buffer: &[u8]) -> Ahead {
        let most = services.policy.limits.request.0;
        loop {
            let length = match self.scanner.scan(&buffer[self.seen..]) {
                Ok(Scan::Complete(length)) => length,
                Ok(Scan::Incomplete) if buffer.len() < FARTHEST && buffer.len() - self.seen <= most => {
                    return Ahead::Unfinished;
                }
                _ => return Ahead::Other,
            };
            let request = Request::new(&buffer[self.seen..self.seen + length], self.scanner.spans());
            self.seen += length;
            self.requests += 1;
            let route = services.route(session, &request);
            self.detached = joined(self.detached.take(), session.writes.take());
            match (self.to, session.to) {
                (To::Home, to) => self.to = to,
                (_, To::Home) => {}
                // No server takes both.
                (before, to) if before != to => return Ahead::Other,
                _ => {}
            }
            match route {
                _ if pushes(&request) => return Ahead::Other,
                Route::PassThrough(_) | Route::Pinned(Pin::Blocking | Pin::Wait, _) => {}
                Route::Transaction(Transaction::Exec, spec) if spec.accepts(request.len()) => {
                    session.writes.begin(self.detached.take());
                    return Ahead::Whole(self.seen, self.requests, self.to);
                }
                _ => return Ahead::Other,
            }
        }
    }
}
