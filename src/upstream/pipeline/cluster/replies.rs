//! How far the replies to one request have come, and whether they send it elsewhere.

use bytes::{Bytes, BytesMut};

use super::part::Part;
use crate::resp::reply::ReplyScanner;
use crate::upstream::endpoint::cluster::redirect::Redirect;
use crate::upstream::pipeline::batch::Expect;
use crate::upstream::pipeline::lane_ticket::Broken;

/// A reply that sends its request elsewhere, or says that there is nothing, is shorter.
const SHORT: usize = 4 * 1024;

/// How far the replies to the front request have come.
#[derive(Debug, Default)]
pub(super) struct Replies {
    scanner: ReplyScanner,
    /// Those that come before, and are nobody's.
    pub(super) skip: u32,
    /// Whole ones.
    seen: u32,
    /// Some of the current one has come.
    is_begun: bool,
    /// The current one may send the request elsewhere: it is not passed on before it has ended.
    may_redirect: bool,
    /// The client has some of them.
    pub(super) is_passed: bool,
    /// Those that answer nothing by themselves: of a transaction, all but the last; and what has come of the current
    /// one and may not be passed on yet.
    held: BytesMut,
    /// Where the current one begins there.
    from: usize,
    /// A node has sent the request elsewhere by one of them.
    redirect: Option<Redirect>,
    /// The first one was another error. Of a transaction it is that to MULTI: what stands behind was not queued, and
    /// may have been done.
    is_refused: bool,
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
        (self.skip, self.seen, self.redirect) = (0, 0, None);
        (self.is_begun, self.is_passed, self.is_refused) = (false, false, false);
        self.held.clear();
    }

    /// What has come of the current one is nothing any more.
    pub(super) fn begin_again(&mut self) {
        self.scanner = ReplyScanner::default();
        self.begin();
    }

    /// Some of them has come.
    pub(super) const fn are_begun(&self) -> bool {
        self.is_begun || self.seen > 0
    }

    /// Looks at what has come of them.
    pub(super) fn look(&mut self, part: &mut Part, expect: Expect) -> Result<Look, Broken> {
        let all = if let Expect::Replies(all) = expect { all } else { 1 };
        let is_last = self.skip == 0 && self.seen + 1 == all;
        if !self.is_begun {
            (self.from, self.may_redirect) = (self.held.len(), part.may_redirect());
        }
        let step = self.scanner.scan(&part.come).map_err(|_| Broken)?;
        if step.end.is_none() {
            return Ok(self.unfinished(part, step.used, is_last));
        }
        if is_last && self.held.is_empty() && self.redirect.is_none() {
            let redirect = self.may_redirect.then(|| part.redirect(&part.come[..step.used])).flatten();
            if redirect.is_none() {
                return Ok(Look::Ended(step.used));
            }
        }
        self.is_begun = false;
        let bytes = part.take(step.used);
        if self.skip > 0 {
            self.skip -= 1;
            self.held.truncate(self.from);
            return Ok(Look::Held);
        }
        self.seen += 1;
        let bytes = self.behind_held(bytes);
        if self.may_redirect && self.redirect.is_none() && !self.is_refused {
            let reply = &bytes[self.from..];
            self.redirect = part.redirect(reply);
            self.is_refused = self.seen == 1 && self.redirect.is_none() && reply.starts_with(b"-");
        }
        if !is_last {
            self.held.extend_from_slice(&bytes);
            return Ok(Look::Held);
        }
        Ok(match self.redirect.take() {
            Some(redirect) => Look::Redirected(redirect, bytes),
            None => Look::GaveLast(bytes),
        })
    }

    /// A reply that has begun, and not ended. The last one is the client's if nothing has sent the request elsewhere.
    fn unfinished(&mut self, part: &mut Part, used: usize, is_last: bool) -> Look {
        self.is_begun = true;
        // Less than the first line has come of what is next.
        part.lacks = used == 0;
        self.may_redirect &= self.held.len() + used < self.from + SHORT;
        if is_last && self.redirect.is_none() && !self.may_redirect && used > 0 {
            self.is_passed = true;
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
