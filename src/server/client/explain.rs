//! Requests of which the command table does not know enough: they wait until the upstream has said what they are.

use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::End;
use super::intake::answer;
use super::streaming::LONG;
use super::{Client, Next};
use crate::command::OwnedRequest;
use crate::dispatch::Exclusive;
use crate::route::{Route, Unknown};

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Answers a request when the upstream has said what it is. Everything before it has been answered.
    pub(super) async fn explain(&mut self, unknown: Unknown, request: &OwnedRequest) -> Result<(), End> {
        let route = self.explained(unknown, request).await?;
        let next = match route {
            Route::PassThrough(_) if request.bytes().len() >= LONG && !self.session.way.is_dedicated() => {
                Next::Exclusive(Exclusive::Long(request.clone()))
            }
            route => answer(&self.services, &mut self.session, &mut self.connection.replies, &request.view(), route),
        };
        match next {
            Next::Exclusive(exclusive) => Box::pin(self.exclusive(exclusive)).await,
            _ => Ok(()),
        }
    }

    /// Where a request goes, by what the upstream says of it.
    pub(super) async fn explained(&mut self, unknown: Unknown, request: &OwnedRequest) -> Result<Route, End> {
        let mut route = Route::Unknown(unknown);
        // What a name is, then which keys it touches: there is no third question.
        for _ in 0..2 {
            let Route::Unknown(unknown) = route else { break };
            if !unknown.is_asked_first() {
                break;
            }
            let services = self.services.clone();
            let answer = match services.ask_about(&self.session, request, unknown) {
                Some(ticket) => Some(self.connection.meanwhile(ticket.whole()).await?),
                None => None,
            };
            route = services.explained(&mut self.session, request, unknown, answer);
        }
        Ok(route)
    }
}
