//! Requests that may change keys of which the upstream may still have the values (`mode = "fallback"`): the client is
//! served alone until these are settled, and its request is answered then.

use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::End;
use super::intake::answer;
use super::{Client, Next};
use crate::command::OwnedRequest;
use crate::route::{Route, Transaction};
use crate::session::ReplyMode;
use crate::telemetry::metrics::{Outcome, RouteLabel};

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Settles the keys of a request, and answers it by its route.
    pub(super) async fn settle_keys(&mut self, request: &OwnedRequest, route: Route) -> Result<(), End> {
        let is_queued = self.is_queueing();
        let is_of_transaction = is_queued || matches!(route, Route::Transaction(Transaction::Watch, _));
        let db = self.transaction.as_ref().and_then(|transaction| transaction.database());
        let settling = self.services.settling(&self.session, is_of_transaction, db);
        let settled = self.connection.meanwhile(settling.run(request, &route)).await?;
        // Somebody else may answer for the keys by now. Nothing is awaited between this and the answer's beginning.
        if let Some(latest) = self.services.latest() {
            self.adopt(latest);
            if self.connection.replies.muted && self.session.reply == ReplyMode::On {
                self.session.reply = ReplyMode::Skip;
            }
            self.put_back(request);
            return Ok(());
        }
        if is_queued {
            self.begin_reply(&route, request.view().len());
        }
        let settled = match settled {
            Ok(settled) => settled,
            // What was queued before is not run without it.
            Err(text) if is_queued => return self.in_transaction(request, Route::Refused(text.into())).await,
            Err(text) => {
                self.session.tally.add(RouteLabel::Refused, Outcome::Error, 1);
                self.error(&text);
                return Ok(());
            }
        };
        if let Some(answer) = &settled.done {
            self.session.tally.add(RouteLabel::Write, Outcome::Ok, 1);
            self.connection.replies.tail().extend_from_slice(answer);
            return Ok(());
        }
        let route = match route {
            _ if settled.passes => self.services.route_to_upstream(&mut self.session, &request.view()),
            Route::Split(keys) => Route::Split(keys.removed_elsewhere(settled.removed)),
            route => route,
        };
        if is_of_transaction {
            // Whoever waits for a connection meanwhile may wait for the same key.
            drop(settled);
            return self.in_transaction(request, route).await;
        }
        let next = answer(&self.services, &mut self.session, &mut self.connection.replies, &request.view(), route);
        self.services.note_answered(&self.session);
        drop(settled);
        match next {
            Next::Exclusive(exclusive) => Box::pin(self.exclusive(exclusive)).await,
            _ => Ok(()),
        }
    }
}
