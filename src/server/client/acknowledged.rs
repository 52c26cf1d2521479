//! WAIT and WAITAOF behind a cluster: what a client has written may be at any of the masters, so each of them is asked,
//! and the client is told the least of what they say.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::{Either, join_all, select, try_join_all};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use super::blocking::{On, Waited, wait};
use super::connection::End;
use crate::command::OwnedRequest;
use crate::errors;
use crate::resp::encode;
use crate::resp::number::parse_i64;
use crate::route::Pin;
use crate::upstream::{Lost, To};

/// When one master has given up, the others, which were asked at the same moment, have so long to do the same.
const GRACE: Duration = Duration::from_millis(200);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Once more, for a while, where one of those who were asked is no master any more.
    pub(super) async fn wait_everywhere(&mut self, request: &OwnedRequest) -> Result<(), End> {
        let (begun, patience) = (Instant::now(), self.services.upstream.endpoint().settings.queue_timeout);
        while let Some(reply) = self.waited_everywhere(request).await? {
            if !is_of_replica(&reply) || begun.elapsed() >= patience {
                self.connection.replies.tail().put_slice(&reply);
                break;
            }
            let settled = self.services.upstream.settled();
            self.unless_left(Duration::ZERO, settled).await?;
        }
        Ok(())
    }

    /// What all masters say together; nothing where the client has been answered.
    async fn waited_everywhere(&mut self, request: &OwnedRequest) -> Result<Option<Bytes>, End> {
        let (services, group, account) =
            (self.services.clone(), self.session.group.clone(), self.session.account.clone());
        let mut masters = services.upstream.masters();
        if masters.is_empty() {
            masters.push(To::Home);
        }
        // However many are away, they are waited for at once.
        let borrowed = try_join_all(masters.into_iter().map(|to| services.upstream.pin_at(to, &group, &account)));
        let all = match self.unless_left(Duration::ZERO, borrowed).await? {
            Ok(all) => all,
            Err(error) => {
                self.error(&error.to_string());
                return Ok(None);
            }
        };
        let Some((shown, others)) = all.split_first() else { return Ok(None) };
        let view = request.view();
        // WAITAOF names the server's own disk, and then replicas.
        let wanted: Vec<i64> = (1..view.len().saturating_sub(1)).filter_map(|at| parse_i64(view.arg(at))).collect();
        let asked = |pinned| wait(pinned, Pin::Wait, request.bytes());
        let reply = least(asked(shown), others.iter().map(asked).collect(), &wanted);
        let reply = match self.waited(On::of(shown), request, Duration::ZERO, reply).await? {
            Waited::Ended(Ok(reply)) => Some(reply),
            Waited::Ended(Err(Lost)) => {
                self.error(errors::upstream::LOST_WAITING);
                None
            }
            Waited::Revoked(refusal) => {
                self.refused(request, &refusal);
                None
            }
        };
        // One that still waits owes a reply, and is closed for it.
        all.into_iter().for_each(|pinned| pinned.give_back());
        Ok(reply)
    }
}

/// True for the error of a server that is a replica.
fn is_of_replica(reply: &[u8]) -> bool {
    let text = reply.strip_prefix(b"-").unwrap_or_default();
    errors::as_redis::WAITS_AT_REPLICA.iter().any(|error| text.starts_with(error.as_bytes()))
}

/// The least of what all say; an error, if one says that.
async fn least<F: Future<Output = Result<Bytes, Lost>>>(
    shown: F,
    others: Vec<F>,
    wanted: &[i64],
) -> Result<Bytes, Lost> {
    let nothing = || vec![0; wanted.len()];
    let (shown, others) = match select(pin!(shown), pin!(join_all(others))).await {
        Either::Right((others, shown)) => (shown.await?, others),
        Either::Left((shown, others)) => {
            let shown = shown?;
            let has_enough = numbers(&shown).iter().zip(wanted).all(|(said, wanted)| said >= wanted);
            let others = match has_enough && !shown.starts_with(b"-") {
                true => others.await,
                false => tokio::time::timeout(GRACE, others).await.unwrap_or_else(|_| vec![Ok(encoded(&nothing()))]),
            };
            (shown, others)
        }
    };
    let all = [Ok(shown)].into_iter().chain(others).collect::<Result<Vec<Bytes>, Lost>>()?;
    if let Some(error) = all.iter().find(|reply| reply.starts_with(b"-")) {
        return Ok(error.clone());
    }
    let least = all
        .iter()
        .map(|reply| numbers(reply))
        .reduce(|one, other| one.into_iter().zip(other).map(|(one, other)| one.min(other)).collect());
    Ok(encoded(&least.unwrap_or_else(nothing)))
}

/// The numbers in a reply: it is one, or an array of them.
fn numbers(reply: &[u8]) -> Vec<i64> {
    let lines = reply.split(|byte| *byte == b'\n');
    lines.filter_map(|line| parse_i64(line.strip_prefix(b":")?.trim_ascii_end())).collect()
}

fn encoded(numbers: &[i64]) -> Bytes {
    let mut out = BytesMut::new();
    if let [number] = numbers {
        encode::int(&mut out, *number);
    } else {
        encode::array(&mut out, numbers.len());
        numbers.iter().for_each(|number| encode::int(&mut out, *number));
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{least, numbers};

    #[tokio::test]
    async fn the_least_counts() {
        let says = |text: &'static str| std::future::ready(Ok(Bytes::from_static(text.as_bytes())));
        let of = |texts: [&'static str; 3]| texts.map(says);
        for (all, wanted, told) in [
            ([":1\r\n", ":2\r\n", ":1\r\n"], &[1][..], ":1\r\n"),
            ([":0\r\n", ":2\r\n", ":1\r\n"], &[1], ":0\r\n"),
            ([":1\r\n", "-ERR x\r\n", ":1\r\n"], &[1], "-ERR x\r\n"),
            (["*2\r\n:1\r\n:0\r\n", "*2\r\n:0\r\n:1\r\n", "*2\r\n:1\r\n:1\r\n"], &[1, 1], "*2\r\n:0\r\n:0\r\n"),
        ] {
            let [shown, others @ ..] = of(all);
            assert_eq!(least(shown, others.into(), wanted).await.expect("told"), told, "{all:?}");
        }
        assert_eq!(numbers(b"*2\r\n:1\r\n:20\r\n"), [1, 20]);
    }
}
