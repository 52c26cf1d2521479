//! Requests of which the command table does not know enough: they wait until the upstream has said what they are.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::End;
use super::intake::answer;
use super::streaming::LONG;
use super::{Client, Next};
use crate::command::OwnedRequest;
use crate::dispatch::Exclusive;
use crate::errors;
use crate::route::{Refusal, Route, Unknown};
use crate::upstream::{Batch, Broken, Expect, Lost};

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Answers a request when the upstream has said what it is, or tells what the client does for that while nothing
    /// else of it is under way. Everything before it has been answered.
    pub(super) async fn explain(&mut self, unknown: Unknown, request: &OwnedRequest) -> Result<Option<Exclusive>, End> {
        let route = self.explained(unknown, request).await?;
        if self.session.is_shown && unknown == Unknown::Name {
            self.services.show_routed(&self.session, &request.view(), &route);
        }
        let next = match route {
            Route::PassThrough(_) if request.bytes().len() >= LONG && !self.session.way.is_dedicated() => {
                self.services.note_passed(&self.session, &request.view(), &route);
                Next::Exclusive(Exclusive::Long(request.clone()))
            }
            route => {
                let next =
                    answer(&self.services, &mut self.session, &mut self.connection.replies, &request.view(), route);
                self.services.note_answered(&self.session);
                next
            }
        };
        Ok(match next {
            Next::Exclusive(exclusive) => Some(exclusive),
            _ => None,
        })
    }

    /// Where a request goes, by what the upstream says of it and the configuration of the moment when that is known.
    pub(super) async fn explained(&mut self, unknown: Unknown, request: &OwnedRequest) -> Result<Route, End> {
        let (mut route, mut questions) = (Route::Unknown(unknown), 0);
        // What a name is, then which keys it touches: there is no third question.
        while let Route::Unknown(unknown) = route
            && unknown.is_asked_first()
            && questions < 2
        {
            let answer = match self.services.question(&self.session, request, unknown) {
                Some((question, replies)) => match self.ask(question, replies).await? {
                    Ok(answer) => Some(answer),
                    // Owned keys are served while the upstream is away.
                    Err(_) if unknown == Unknown::Right => None,
                    Err(refusal) => return Ok(Route::Refused(refusal)),
                },
                None => None,
            };
            if let Some(latest) = self.services.latest() {
                self.adopt(latest);
                (route, questions) = (self.services.clone().route(&mut self.session, &request.view()), 0);
                continue;
            }
            route = self.services.clone().explained(&mut self.session, request, unknown, answer);
            questions += 1;
        }
        Ok(route)
    }

    /// The upstream's answer to a question: over a lane, or over a connection that is lent for it where it is so long
    /// that others would wait behind it.
    async fn ask(&mut self, question: Bytes, replies: u32) -> Result<Result<Bytes, Refusal>, End> {
        let (services, group, account) =
            (self.services.clone(), self.session.group.clone(), self.session.account.clone());
        let lost = || Refusal::from(errors::upstream::LOST_UNSENT);
        if question.len() < LONG {
            let lane = services.upstream.lane(&group, self.session.peer.id, &account);
            let asked = lane.submit(match replies {
                1 => Batch::one(question, true),
                _ => Batch::expecting(question, Expect::Replies(replies)),
            });
            return Ok(self.connection.meanwhile(asked.whole()).await?.map_err(|Broken| lost()));
        }
        let asked = async {
            let pinned =
                services.upstream.pin(&group, &account).await.map_err(|error| Refusal::from(error.to_string()))?;
            let answer = pinned.ask(question, Expect::Replies(replies), &mut BytesMut::new()).await;
            let answer = answer.map_err(|Lost| lost())?;
            pinned.give_back();
            Ok(answer)
        };
        self.connection.meanwhile(asked).await
    }
}
