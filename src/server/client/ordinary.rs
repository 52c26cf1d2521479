//! The short way of a request: of most clients nothing is to be asked but the command table and the keyspace. Whether
//! that is so is looked at once for many requests, and not any more behind a request that may have changed it.

use tokio::io::{AsyncRead, AsyncWrite};

use super::streaming::LONG;
use super::{Client, Next};
use crate::route::Route;
use crate::session::ReplyMode;
use crate::upstream::Expect;

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// True while nothing that the client did, and no setting, asks for more than that.
    pub(super) fn looks_ordinary(&self) -> bool {
        self.transaction.is_none()
            && !self.lookahead.is_under_way()
            && self.session.reply == ReplyMode::On
            && !self.connection.replies.muted
            && self.services.is_ordinary(&self.session)
    }

    /// Takes a request of an ordinary client. Inlined where every request passes.
    #[inline(always)]
    pub(super) fn take_ordinary(&mut self, length: usize) -> Next {
        let request = self.batch.behind(&self.connection.incoming, self.scanner.spans(), length);
        match self.services.route_ordinary(&mut self.session, &request) {
            Some(Route::PassThrough(resendable)) if length < LONG => {
                self.sample_passed(length);
                self.gather(length, resendable, Expect::Replies(1), false)
            }
            Some(route @ Route::Near(_)) if length < LONG => {
                self.sample_passed(length);
                self.answer_in_place(length, route)
            }
            Some(route @ (Route::Cached(..) | Route::Definition(..))) => self.answer_in_place(length, route),
            _ => {
                self.is_ordinary = false;
                self.take_request(length)
            }
        }
    }
}
