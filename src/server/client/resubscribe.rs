//! A subscriber whose upstream connection is lost gets another one with all its subscriptions. If it listens for that,
//! it also gets a message that it may have missed some (docs/OPERATIONS.md). No other state that the upstream kept for
//! a client can be restored without the client's knowledge.

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use super::connection::End;
use crate::resp::pubsub::{self, GAP, GAP_MESSAGE, Kind, PubSub};
use crate::resp::reply::ReplyScanner;
use crate::resp::{Proto, encode};
use crate::upstream::{ConnectError, Expect, Membership, Pinned};

/// What a client was subscribed to.
type Wanted = [(Kind, Vec<Bytes>); 3];

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// True when subscriptions are all that was lost, if that, and nothing is owed whose reply is lost with them.
    pub(super) fn can_resubscribe(&self) -> bool {
        (self.services.policy.resubscribes || self.session.subscribed() == [0; 3])
            && self.session.way.is_dedicated()
            && self.session.way.state().keeps_nothing()
            && self.transaction.is_none()
            && self.connection.replies.is_settled()
            && !self.session.closing
            && !self.was_slow()
    }

    /// Subscribes again, as soon as the upstream lets it; a client without subscriptions needs no connection of its
    /// own.
    pub(super) async fn resubscribe(&mut self) -> Result<(), End> {
        let Some(lost) = self.session.way.connection() else { return Err(End::Broken) };
        if self.session.subscribed() == [0; 3] {
            self.session.way.close();
            self.follow_way();
            return Ok(());
        }
        let wanted = [Kind::Channel, Kind::Pattern, Kind::Shard].map(|kind| (kind, lost.names(kind)));
        let error = lost.inbox.lost().unwrap_or_default();
        if let Some(unlogged) = self.services.metrics.clients.logged.subscribed_again.due() {
            tracing::warn!(
                client = self.session.peer.id,
                address = self.session.peer.addresses.0,
                %error,
                unlogged,
                "a subscriber's upstream connection was lost; it is subscribed again, and may have missed messages"
            );
        }
        self.session.way.close();
        self.follow_inbox();
        if self.services.upstream.is_cluster() {
            self.subscribe_in_cluster(&wanted).await?;
            self.follow_way();
            return Ok(());
        }
        let (pinned, messages) = self.subscribed_again(&wanted).await?;
        self.resume(pinned, &messages);
        Ok(())
    }

    /// The upstream is a cluster now, of which one node does not have all of it.
    async fn subscribe_in_cluster(&mut self, wanted: &Wanted) -> Result<(), End> {
        let Membership { hub, subscriber, .. } = self.services.membership(&mut self.session);
        let (hub, subscriber) = (hub.clone(), subscriber.clone());
        let mut awaited = Vec::new();
        for (kind, names) in wanted {
            for name in names {
                subscriber.note(*kind, name, true);
                awaited.push(hub.subscribe(&subscriber, *kind, name));
            }
        }
        for mut confirmed in awaited {
            tokio::select! {
                confirmed = confirmed.wait() => if confirmed.is_err() { return Err(End::Broken) },
                end = self.connection.left() => return Err(end),
            }
        }
        let listening = self.services.listening(&mut self.session);
        let names =
            |(kind, names): &(Kind, Vec<Bytes>)| names.iter().map(|name| (*kind, name.clone())).collect::<Vec<_>>();
        listening.is_subscribed_to(&wanted.iter().flat_map(names).collect::<Vec<_>>());
        self.services.metrics.clients.subscribers_restored.inc();
        if subscriber.names(Kind::Channel).iter().any(|name| name == GAP) {
            self.tell_gap();
        }
        Ok(())
    }

    /// Messages may have been missed.
    fn tell_gap(&mut self) {
        let out = self.connection.replies.loud();
        out.put_u8(if self.session.proto() == Proto::Resp3 { b'>' } else { b'*' });
        out.put_slice(GAP_MESSAGE);
    }

    /// Another connection with all the subscriptions, and the messages that came meanwhile, as soon as the upstream is
    /// there.
    async fn subscribed_again(&mut self, wanted: &Wanted) -> Result<(Pinned, BytesMut), End> {
        let services = self.services.clone();
        let (group, account) = (self.session.group.clone(), self.session.account.clone());
        loop {
            let again = async {
                match services.upstream.pin(&group, &account).await {
                    Ok(pinned) => Ok(subscribe(&pinned, wanted).await.map(|missed| (pinned, missed))),
                    Err(ConnectError::Refused(text)) => Err(text),
                    Err(_) => Ok(None),
                }
            };
            let subscribed = tokio::select! {
                subscribed = again => subscribed,
                end = self.connection.left() => return Err(end),
            };
            match subscribed {
                Err(error) => {
                    if let Some(unlogged) = services.metrics.clients.logged.not_subscribed.due() {
                        let (client, address) = (self.session.peer.id, &self.session.peer.addresses.0);
                        tracing::warn!(
                            client,
                            address,
                            error,
                            unlogged,
                            "the upstream refuses a subscriber; it is closed"
                        );
                    }
                    return Err(End::Broken);
                }
                Ok(Some(subscribed)) => return Ok(subscribed),
                Ok(None) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(services.upstream.pause()) => {}
                end = self.connection.left() => return Err(end),
            }
        }
    }

    fn resume(&mut self, pinned: Pinned, messages: &[u8]) {
        self.services.metrics.clients.subscribers_restored.inc();
        if pinned.names(Kind::Channel).iter().any(|name| name == GAP) {
            self.tell_gap();
        }
        self.connection.replies.loud().put_slice(messages);
        self.session.way.lend(pinned);
        self.session.way.dedicate();
        self.follow_way();
    }
}

/// Subscribes to everything; the messages that came meanwhile. `None` when the upstream did not confirm it all.
async fn subscribe(pinned: &Pinned, wanted: &Wanted) -> Option<BytesMut> {
    let mut pushes = BytesMut::new();
    for (kind, names) in wanted.iter().filter(|(_, names)| !names.is_empty()) {
        let words: Vec<&[u8]> =
            [kind.word(true).as_bytes()].into_iter().chain(names.iter().map(|name| &name[..])).collect();
        let expect = Expect::Confirmations(u32::try_from(names.len()).ok()?);
        let refused = pinned.ask(encode::request_of(&words), expect, &mut pushes).await.ok()?;
        if !refused.is_empty() {
            return None;
        }
    }
    Some(messages(&pushes))
}

/// The messages among frames: the client knows already that it is subscribed.
fn messages(mut frames: &[u8]) -> BytesMut {
    let mut messages = BytesMut::new();
    let mut scanner = ReplyScanner::default();
    while let Ok(step) = scanner.scan(frames)
        && step.end.is_some()
    {
        let (frame, rest) = frames.split_at(step.used);
        if let Some(PubSub::Message(..)) = pubsub::read(frame) {
            messages.put_slice(frame);
        }
        frames = rest;
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::messages;

    #[test]
    fn only_messages_are_kept() {
        let confirmation = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
        let message = b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n";
        assert_eq!(
            messages(&[&confirmation[..], message, confirmation, message].concat()),
            [&message[..], message].concat()
        );
        assert!(messages(b"").is_empty());
    }
}
