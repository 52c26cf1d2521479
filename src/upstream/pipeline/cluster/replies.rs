//! How far the replies to one request have come, and whether one of them sends it elsewhere.

use bytes::{Bytes, BytesMut};

use super::part::Part;
use crate::resp::reply::ReplyScanner;
use crate::upstream::endpoint::cluster::redirect::Redirect;
use crate::upstream::pipeline::batch::Expect;
use crate::upstream::pipeline::lane_ticket::Broken;

/// How far the replies to the front request have come.
#[derive(Debug, Default)]
pub(super) struct Replies {
    scanner: ReplyScanner,
    /// Those that come before, and are nobody's.
    pub(super) skip: u32,
    /// Whole ones.
    seen: u32,
    /// Some of the current one has come, and has been passed on.
    is_begun: bool,
    /// Those that answer nothing by themselves: of a transaction, all but the last.
    held: BytesMut,
    /// A node has sent the request elsewhere by one of them.
    redirect: Option<Redirect>,
}

/// What a look at the replies gives.
pub(super) enum Look {
    /// So many bytes in front are the client's.
    Passed(usize),
    /// These bytes are.
    Gave(Bytes),
    /// Nothing that is the client's yet.
    Held,
    /// The last reply has ended; so many bytes in front are the client's.
    Ended(usize),
    /// The same, with what was held.
    GaveLast(Bytes),
    /// The node sends the request elsewhere; if it cannot go there, this is the reply.
    Redirected(Redirect, Bytes),
}

impl Replies {
    /// Nothing of the next request's has come.
    pub(super) fn begin(&mut self) {
        (self.skip, self.seen, self.is_begun, self.redirect) = (0, 0, false, None);
        self.held.clear();
    }

    /// Looks at what has come of them.
    pub(super) fn look(&mut self, part: &mut Part, expect: Expect) -> Result<Look, Broken> {
        let all = if let Expect::Replies(all) = expect { all } else { 1 };
        let is_last = self.skip == 0 && self.seen + 1 == all;
        let is_error = !self.is_begun && part.come.first() == Some(&b'-');
        let step = self.scanner.scan(&part.come).map_err(|_| Broken)?;
        if step.end.is_none() {
            return Ok(self.unfinished(part, step.used, is_last));
        }
        if is_last && !is_error && self.held.is_empty() && self.redirect.is_none() {
            return Ok(Look::Ended(step.used));
        }
        self.is_begun = false;
        let bytes = part.take(step.used);
        if self.skip > 0 {
            self.skip -= 1;
            return Ok(Look::Held);
        }
        self.seen += 1;
        if is_error && self.redirect.is_none() {
            self.redirect = Redirect::read(&bytes, &part.server.host());
        }
        if !is_last {
            self.held.extend_from_slice(&bytes);
            return Ok(Look::Held);
        }
        let bytes = self.behind_held(bytes);
        Ok(match self.redirect.take() {
            Some(redirect) => Look::Redirected(redirect, bytes),
            None => Look::GaveLast(bytes),
        })
    }

    /// A reply that has begun, and not ended. The last one is the client's if nothing has sent the request elsewhere.
    fn unfinished(&mut self, part: &mut Part, used: usize, is_last: bool) -> Look {
        self.is_begun = true;
        if is_last && self.redirect.is_none() {
            if self.held.is_empty() {
                return Look::Passed(used);
            }
            return Look::Gave(self.behind_held(part.take(used)));
        }
        self.held.extend_from_slice(&part.take(used));
        Look::Held
    }

    fn behind_held(&mut self, bytes: Bytes) -> Bytes {
        if self.held.is_empty() {
            return bytes;
        }
        self.held.extend_from_slice(&bytes);
        self.held.split().freeze()
    }
}
