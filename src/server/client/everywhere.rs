//! Commands that all masters of a cluster must answer, each over a connection of its own: what ends or reports what
//! keeps a server busy.

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::join_all;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use super::blocking::{SOON, wait};
use super::connection::End;
use crate::command::OwnedRequest;
use crate::dispatch::{first, join};
use crate::errors;
use crate::resp::{encode, reply};
use crate::route::{Joint, Pin, may_end_server};
use crate::upstream::{ConnectError, Lost, To};

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// True for a command that one node of a cluster cannot answer for all.
    pub(super) fn concerns_all(&self, pin: Pin, request: &OwnedRequest) -> bool {
        pin == Pin::Aside && !may_end_server(&request.view()) && self.services.upstream.is_cluster()
    }

    /// The replies of all masters, as one.
    pub(super) async fn everywhere(&mut self, request: &OwnedRequest) -> Result<(), End> {
        let stops = self.services.lane(&mut self.session).everywhere(false);
        let stops: Vec<To> = stops.into_iter().filter(|stop| stop.counts).map(|stop| stop.to).collect();
        let (services, group, account) =
            (self.services.clone(), self.session.group.clone(), self.session.account.clone());
        let one = async |to: To| {
            let pinned = services.upstream.pin_aside(to, &group, &account).await?;
            let reply = wait(&pinned, Pin::Aside, request.bytes()).await;
            if reply.is_ok() {
                pinned.give_back();
            }
            Ok::<_, ConnectError>(reply)
        };
        let replies = self.unless_left(SOON, join_all(stops.into_iter().map(one))).await?;
        let replies: Vec<Bytes> = replies.into_iter().map(told).collect();
        let reply = match self.session.spec {
            Some(spec) if spec.name == "function|stats" => busiest(&replies),
            _ => join(Joint::OneSucceeded, &replies),
        };
        self.connection.replies.tail().put_slice(&reply);
        Ok(())
    }
}

fn told(reply: Result<Result<Bytes, Lost>, ConnectError>) -> Bytes {
    let mut out = BytesMut::new();
    match reply {
        Ok(Ok(reply)) => return reply,
        Ok(Err(Lost)) => encode::error(&mut out, errors::upstream::LOST_WAITING),
        Err(error) => encode::error(&mut out, &error.to_string()),
    }
    out.freeze()
}

/// Of answers to FUNCTION STATS, that of a server on which something runs; else the first.
fn busiest(replies: &[Bytes]) -> Bytes {
    let runs = |reply: &&Bytes| {
        let parts = reply::parts(reply).unwrap_or_default();
        parts.get(1).is_some_and(|script| reply::parts(script).is_some())
    };
    replies.iter().find(runs).cloned().unwrap_or_else(|| first(replies))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::busiest;

    #[test]
    fn the_server_on_which_something_runs_answers() {
        let idle = Bytes::from_static(b"%2\r\n+running_script\r\n_\r\n+engines\r\n%0\r\n");
        let busy = Bytes::from_static(b"%2\r\n+running_script\r\n%1\r\n+name\r\n+f\r\n+engines\r\n%0\r\n");
        assert_eq!(busiest(&[idle.clone(), busy.clone()]), busy);
        assert_eq!(busiest(&[idle.clone(), idle.clone()]), idle);
    }
}
