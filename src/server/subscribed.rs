//! A client that subscribes has a pinned connection until nothing is subscribed any more: messages pass from it as
//! they come, in RESP2's subscriber mode and among the replies of RESP3. A client that monitors has one until it leaves.
//!
//! Invariant: a marked PING goes behind every UNSUBSCRIBE, and the client's next request waits for it. When it comes
//! back nothing else is on its way, so it is known whether the client is an ordinary one again: the connection is given
//! back clean (hazard 14), and no request for an owned key reaches an upstream that would answer it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::client::Client;
use super::link::End;
use crate::command::{OwnedRequest, Request};
use crate::dispatch::Flow;
use crate::resp::number::parse_i64;
use crate::resp::request::Scan;
use crate::resp::{Proto, encode};
use crate::route::{Local, Pin, Route};
use crate::upstream::{Pinned, Received};

/// With so much to write, the next message waits.
const ENOUGH: usize = 64 * 1024;

/// One client's subscription connection.
struct Subscription {
    pinned: Pinned,
    /// Channels and patterns, and shard channels, as the last confirmations counted them.
    classic: i64,
    sharded: i64,
    /// Replies that are no messages and still to come (RESP3).
    awaited: usize,
    /// Sent to learn whether anything is still subscribed.
    marker: Option<Bytes>,
}

/// What the client's next request means for the subscription.
enum Next {
    Nothing,
    Forwarded,
    /// RESET or QUIT: the subscription is over, its connection dropped.
    Over,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) async fn subscribed(&mut self, pinned: Pinned, pin: Pin, first: Bytes) -> Result<(), End> {
        let mut subscription = Subscription { pinned, classic: 0, sharded: 0, awaited: 0, marker: None };
        self.send_subscription(&mut subscription, pin, &first).await?;
        loop {
            match self.next_subscribed(&mut subscription).await? {
                Next::Over => return Ok(()),
                Next::Forwarded => continue,
                Next::Nothing if self.session.closing => return Ok(()),
                Next::Nothing => {}
            }
            let received = tokio::select! {
                biased;
                received = subscription.pinned.receive(), if self.link.replies.held() < ENOUGH => received,
                exchanged = self.link.exchange() => {
                    exchanged?;
                    continue;
                }
            };
            let frame = self.upstream(received)?;
            if self.relay(&mut subscription, frame).await? {
                subscription.pinned.give_back();
                return Ok(());
            }
        }
    }

    /// A lost subscription cannot be hidden: messages may be missing. The client is closed and will subscribe anew.
    fn upstream<T>(&self, result: std::io::Result<T>) -> Result<T, End> {
        result.map_err(|error| {
            tracing::warn!(client = self.session.id, %error, "the upstream connection of a subscriber was lost; the client is closed");
            End::Broken
        })
    }

    /// Passes one frame on. True when the subscription is over and its connection clean.
    async fn relay(&mut self, subscription: &mut Subscription, frame: Received) -> Result<bool, End> {
        let (bytes, is_reply) = match frame {
            Received::Reply(bytes) => (bytes, true),
            Received::Push(bytes) => (bytes, false),
        };
        if let Some(marker) = subscription.marker.as_ref().filter(|marker| is_marked(&bytes, marker)) {
            tracing::trace!(?marker, "a subscription's marker came back");
            subscription.marker = None;
            subscription.awaited = 0;
            return Ok(subscription.is_empty());
        }
        if !subscription.note(&bytes) && is_reply {
            subscription.awaited = subscription.awaited.saturating_sub(1);
        }
        self.link.replies.tail().put_slice(&bytes);
        Ok(false)
    }

    /// Sends a request that changes what is subscribed, and behind one that ends something the marker.
    async fn send_subscription(
        &mut self,
        subscription: &mut Subscription,
        pin: Pin,
        request: &[u8],
    ) -> Result<(), End> {
        self.upstream(subscription.pinned.send(request).await)?;
        if pin == Pin::Unsubscribe {
            let ping = subscription.mark();
            self.upstream(subscription.pinned.send(&ping).await)?;
        }
        Ok(())
    }

    /// Takes the client's next request, if there is a whole one.
    async fn next_subscribed(&mut self, subscription: &mut Subscription) -> Result<Next, End> {
        if subscription.marker.is_some() {
            return Ok(Next::Nothing);
        }
        let Some(request) = self.next_request() else { return Ok(Next::Nothing) };
        let route = self.context.router.route(&request.view());
        match route {
            Route::Local(Local::Quit | Local::Reset, _) => {
                self.context.answer(&mut self.session, &request.view(), route, self.link.replies.tail());
                Ok(Next::Over)
            }
            Route::Pinned(pin @ (Pin::Subscribe | Pin::Unsubscribe)) => {
                self.send_subscription(subscription, pin, &request.bytes()).await?;
                Ok(Next::Forwarded)
            }
            // RESP2: the upstream itself says what is allowed in subscriber mode.
            _ if self.session.proto() == Proto::Resp2 => self.forward_subscribed(subscription, &request).await,
            Route::PassThrough(_) | Route::Local(Local::Ping | Local::Echo, _) => {
                self.forward_subscribed(subscription, &request).await
            }
            Route::Local(Local::Hello, _) => {
                self.error("ERR hearthside: HELLO is not supported on a connection that is subscribed");
                Ok(Next::Forwarded)
            }
            route => {
                self.answer_between(subscription, &request.view(), route).await?;
                Ok(Next::Forwarded)
            }
        }
    }

    /// Forwards a request that has one reply.
    async fn forward_subscribed(
        &mut self,
        subscription: &mut Subscription,
        request: &OwnedRequest,
    ) -> Result<Next, End> {
        subscription.awaited += 1;
        self.upstream(subscription.pinned.send(&request.bytes()).await)?;
        Ok(Next::Forwarded)
    }

    /// RESP3: a request that does not go upstream is answered when every earlier one has been.
    async fn answer_between(
        &mut self,
        subscription: &mut Subscription,
        request: &Request<'_>,
        route: Route,
    ) -> Result<(), End> {
        while subscription.awaited > 0 {
            let frame = self.upstream(subscription.pinned.receive().await)?;
            self.relay(subscription, frame).await?;
        }
        match self.context.answer(&mut self.session, request, route, self.link.replies.tail()) {
            Flow::Answered => {}
            Flow::Later(reply) => self.link.replies.later(reply),
            Flow::Alone(_) => {
                self.error("ERR hearthside: this command is not supported on a connection that is subscribed")
            }
        }
        Ok(())
    }

    /// The next whole request of the buffer, as an array; framing faults close the client.
    fn next_request(&mut self) -> Option<OwnedRequest> {
        loop {
            match self.scanner.scan(&self.link.incoming) {
                Ok(Scan::Incomplete) => return None,
                Ok(Scan::Complete(length)) => {
                    let request =
                        OwnedRequest::copy(&Request::new(&self.link.incoming[..length], self.scanner.spans()));
                    self.link.incoming.advance(length);
                    return Some(request);
                }
                Ok(Scan::Empty(length)) => self.link.incoming.advance(length),
                Ok(Scan::Inline(length, words)) => {
                    self.link.incoming.advance(length);
                    return Some(OwnedRequest::from_words(&words));
                }
                Err(fault) => {
                    self.refuse(&fault);
                    return None;
                }
            }
        }
    }

    /// Passes what the upstream executes to the client, until it leaves, quits or resets.
    pub(super) async fn monitor(&mut self, mut pinned: Pinned, first: Bytes) -> Result<(), End> {
        self.upstream(pinned.send(&first).await)?;
        loop {
            while let Some(request) = self.next_request() {
                let route = self.context.router.route(&request.view());
                if !matches!(route, Route::Local(Local::Quit | Local::Reset, _)) {
                    self.error("ERR hearthside: a connection in MONITOR takes only QUIT and RESET");
                    continue;
                }
                self.context.answer(&mut self.session, &request.view(), route, self.link.replies.tail());
                return Ok(());
            }
            if self.session.closing {
                return Ok(());
            }
            tokio::select! {
                biased;
                received = pinned.receive(), if self.link.replies.held() < ENOUGH => match self.upstream(received)? {
                    Received::Reply(bytes) | Received::Push(bytes) => self.link.replies.tail().put_slice(&bytes),
                },
                exchanged = self.link.exchange() => exchanged?,
            }
        }
    }
}

impl Subscription {
    const fn is_empty(&self) -> bool {
        self.classic == 0 && self.sharded == 0
    }

    /// Reads the count of a confirmation. False for every other frame.
    fn note(&mut self, frame: &[u8]) -> bool {
        let Some((kind, count)) = confirmation(frame) else { return false };
        match kind {
            b"subscribe" | b"unsubscribe" | b"psubscribe" | b"punsubscribe" => self.classic = count,
            b"ssubscribe" | b"sunsubscribe" => self.sharded = count,
            _ => return false,
        }
        true
    }

    /// A PING whose answer cannot be mistaken for another's.
    fn mark(&mut self) -> BytesMut {
        let marker = Bytes::from(format!("hearthside:{:016x}", fastrand::u64(..)));
        let mut ping = BytesMut::new();
        encode::request(&mut ping, &[b"PING", &marker[..]]);
        self.marker = Some(marker);
        ping
    }
}

fn is_marked(frame: &[u8], marker: &[u8]) -> bool {
    frame.strip_suffix(b"\r\n").is_some_and(|body| body.ends_with(marker))
}

/// Kind and count of `*3` or `>3`, kind, channel, count.
fn confirmation(frame: &[u8]) -> Option<(&[u8], i64)> {
    let body = frame.strip_prefix(b"*3\r\n$").or_else(|| frame.strip_prefix(b">3\r\n$"))?;
    let line = memchr::memchr(b'\r', body)?;
    let length = usize::try_from(parse_i64(&body[..line])?).ok()?;
    let kind = body.get(line + 2..line + 2 + length)?;
    let body = frame.strip_suffix(b"\r\n")?;
    let colon = memchr::memrchr(b':', body)?;
    Some((kind, parse_i64(&body[colon + 1..])?))
}

#[cfg(test)]
mod tests {
    use super::{confirmation, is_marked};

    #[test]
    fn confirmations_are_told_from_messages() {
        let confirmed = confirmation(b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:2\r\n");
        assert_eq!(confirmed, Some((&b"subscribe"[..], 2)));
        assert_eq!(confirmation(b">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n"), Some((&b"unsubscribe"[..], 0)));
        assert_eq!(confirmation(b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"), None);
        assert_eq!(confirmation(b"+PONG\r\n"), None);
        assert!(is_marked(b"*2\r\n$4\r\npong\r\n$3\r\nabc\r\n", b"abc") && !is_marked(b"+PONG\r\n", b"abc"));
    }
}
