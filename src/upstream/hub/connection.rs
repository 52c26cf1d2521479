//! The task of one server's subscriptions: keeps the connection, subscribes to what the table wants, and hands every
//! message to its subscribers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;

use super::Hub;
use super::link::Link;
use super::placement::is_told_by_one;
use super::questions::Questions;
use super::table::{Topic, Wish};
use crate::resp::pubsub::{self, Kind, PubSub};
use crate::resp::reply::ReplyScanner;
use crate::telemetry::clock::Moment;
use crate::upstream::endpoint::circuit::backoff;
use crate::upstream::endpoint::cluster::has_moved;
use crate::upstream::endpoint::cluster::redirect::Redirect;
use crate::upstream::endpoint::connect::{Connected, connect};
use crate::upstream::endpoint::error::{ConnectError, is_unready};
use crate::upstream::endpoint::group::Group;
use crate::upstream::endpoint::stream::Stream;

/// Bytes asked for in one read.
const READ: usize = 64 * 1024;
/// A message that is shorter than this is copied into separate memory.
const SLICE: usize = 32 * 1024;
/// The pause before a server is asked again that did not take a subscription.
const AGAIN: Duration = Duration::from_millis(50);
/// A connection that nobody wants is closed after so long, unless it is everybody's.
const REST: Duration = Duration::from_secs(1);

/// One server's connection.
#[derive(Debug)]
pub(super) struct Line {
    link: Arc<Link>,
    wishes: UnboundedReceiver<Wish>,
    /// Somebody has subscribed.
    has_begun: bool,
}

/// Why a connection is not served any more.
enum Over {
    /// Nobody needs it.
    Unneeded,
    /// It was lost, for this reason.
    Lost(String),
}

impl From<io::Error> for Over {
    fn from(error: io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

/// What is under way on a connection.
#[derive(Default)]
struct Talk {
    incoming: BytesMut,
    scanner: ReplyScanner,
    scanned: usize,
    questions: Questions,
    /// What the server did not take, and may take later.
    put_off: Vec<Topic>,
    /// When it is asked again.
    again: Option<Instant>,
}

/// The place of a connection that one client has, among those that clients may have.
struct Lease<'a> {
    link: &'a Link,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.link.server.metrics.pinned.open.dec();
    }
}

impl Line {
    pub(super) const fn new(link: Arc<Link>, wishes: UnboundedReceiver<Wish>) -> Self {
        Self { link, wishes, has_begun: false }
    }

    /// Runs until the server is not needed any more. Does not connect before the first subscription. Begun again after
    /// a panic, it has no connection.
    pub(super) async fn run(&mut self, hub: Arc<Hub>) {
        let mut attempt: u32 = 0;
        if self.has_begun {
            self.lose(&hub, "a bug, which is in the log");
        }
        while !self.link.table().is_ended {
            if !self.has_begun || self.may_rest(&hub) && self.link.table().rests() {
                let Some(first) = self.wishes.recv().await else { return };
                tracing::debug!(?first, "a subscription opens a connection");
                (self.has_begun, attempt) = (true, 0);
                continue;
            }
            let mut lookout = self.link.server.location.lookout(self.link.server.location.numbered().1);
            let Over::Lost(error) = self.connection(&hub, &mut attempt).await else { continue };
            attempt += 1;
            self.lose(&hub, &error);
            if hub.owner.is_none() && (attempt == 1 || attempt.is_multiple_of(20)) {
                tracing::warn!(
                    error,
                    attempt,
                    "the shared subscriber connection is down; messages are missed until it is back"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(backoff(attempt)) => {}
                () = lookout.moved() => {}
            }
        }
    }

    /// The connection is closed when nobody wants it.
    fn may_rest(&self, hub: &Hub) -> bool {
        hub.owner.is_some() || !self.link.is_home
    }

    /// Messages are missed from now on, if somebody is subscribed.
    fn lose(&self, hub: &Hub, error: &str) {
        let had_some = self.link.lose();
        if hub.owner.is_none() && self.link.is_home {
            self.link.server.metrics.hub.up.set(0);
        }
        if had_some {
            hub.owner.iter().for_each(|owner| owner.log_loss(error));
            hub.close_if_wanted(&self.link);
        }
    }

    /// Opens a connection and serves it.
    async fn connection(&mut self, hub: &Hub, attempt: &mut u32) -> Over {
        let link = self.link.clone();
        let (connected, _lease) = match open(hub, &link).await {
            Ok(opened) => opened,
            Err(error) => {
                if hub.owner.is_some() && matches!(error, ConnectError::Refused(_) | ConnectError::Busy(_)) {
                    self.refuse_all(hub, &error);
                }
                return Over::Lost(error.to_string());
            }
        };
        if *attempt > 0 && hub.owner.is_none() {
            tracing::info!(attempt, "the shared subscriber connection is there again; all is subscribed again");
        }
        *attempt = 0;
        let mut lookout = link.server.location.lookout(connected.generation);
        tokio::select! {
            over = self.serve(hub, connected.stream) => over,
            () = lookout.moved() => Over::Lost("the upstream is somewhere else now".to_owned()),
        }
    }

    /// The client may not come in, or there is no room for it: what it waits for will not be, and if it had
    /// subscriptions it is closed.
    fn refuse_all(&self, hub: &Hub, error: &ConnectError) {
        let mut table = self.link.table();
        table.refuse_all(&error.to_string());
        let is_out = table.has_stood() && matches!(error, ConnectError::Refused(_));
        drop(table);
        if is_out {
            hub.owner.iter().for_each(|owner| owner.log_refused(&error.to_string()));
            self.link.everybody().values().for_each(|member| member.close());
        }
    }

    /// Serves one connection until it fails, or nobody needs it.
    async fn serve(&mut self, hub: &Hub, mut stream: Stream) -> Over {
        let mut talk = Talk::default();
        {
            let mut table = self.link.table();
            // Every earlier wish is in the table.
            while self.wishes.try_recv().is_ok() {}
            talk.questions.ask_all(&table.begin_again());
            self.link.count(&table);
        }
        if hub.owner.is_none() {
            let metrics = &self.link.server.metrics.hub;
            metrics.connects.inc();
            if self.link.is_home {
                metrics.up.set(1);
            }
        }
        self.converse(hub, &mut stream, &mut talk).await.unwrap_or_else(Over::from)
    }

    /// Pings a quiet connection, and gives it up when nothing comes back.
    async fn converse(&mut self, hub: &Hub, stream: &mut Stream, talk: &mut Talk) -> io::Result<Over> {
        let settings = self.link.server.settings.clone();
        let (mut heard, mut pinged) = (Instant::now(), false);
        loop {
            if !talk.questions.out.is_empty() {
                // Wishes that are made meanwhile wait.
                let out = std::mem::take(&mut talk.questions.out);
                tokio::time::timeout(settings.ping_timeout, write(stream, &out)).await.map_err(|_| silent())??;
            }
            talk.incoming.reserve(READ);
            let patience = if pinged { settings.ping_timeout } else { settings.ping_interval };
            let is_unneeded = self.may_rest(hub) && self.link.table().is_empty();
            tokio::select! {
                read = stream.read_buf(&mut talk.incoming) => {
                    if read? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    (heard, pinged) = (Instant::now(), false);
                    self.deliver(hub, talk)?;
                }
                Some(wish) = self.wishes.recv() => {
                    let mut next = Some(wish);
                    while let Some(wish) = next {
                        match wish {
                            Wish::Subscribe(topic) => talk.questions.ask(&topic, true),
                            Wish::Unsubscribe(topic) => talk.questions.ask(&topic, false),
                            Wish::End => return Ok(Over::Unneeded),
                        }
                        next = self.wishes.try_recv().ok();
                    }
                }
                () = tokio::time::sleep_until(heard + patience) => {
                    if pinged {
                        return Err(silent());
                    }
                    (heard, pinged) = (Instant::now(), true);
                    talk.questions.ping();
                }
                () = tokio::time::sleep(REST), if is_unneeded => return Ok(Over::Unneeded),
                () = tokio::time::sleep_until(talk.again.unwrap_or(heard)), if talk.again.is_some() => {
                    talk.again = None;
                    for topic in std::mem::take(&mut talk.put_off) {
                        self.ask_again(&topic, talk);
                    }
                }
            }
        }
    }

    /// Asks once more for what somebody still wants.
    fn ask_again(&self, topic: &Topic, talk: &mut Talk) {
        if self.link.table().again(topic) {
            talk.questions.ask(topic, true);
        }
    }

    fn deliver(&self, hub: &Hub, talk: &mut Talk) -> io::Result<()> {
        loop {
            let step = talk.scanner.scan(&talk.incoming[talk.scanned..]).map_err(io::Error::other)?;
            talk.scanned += step.used;
            if step.end.is_none() {
                return Ok(());
            }
            let frame = talk.incoming.split_to(std::mem::take(&mut talk.scanned)).freeze();
            self.frame(hub, frame, talk);
        }
    }

    fn frame(&self, hub: &Hub, frame: Bytes, talk: &mut Talk) {
        match pubsub::read(&frame) {
            Some(PubSub::Message(kind, name)) => {
                if self.link.is_home || is_told_by_one(kind, &frame) {
                    self.message((kind, Bytes::copy_from_slice(name)), &frame);
                }
            }
            Some(PubSub::Confirmation(kind, Some(name), on)) => {
                let (topic, was_asked) =
                    ((kind, Bytes::copy_from_slice(name)), talk.questions.confirmed(kind, name, on));
                match on {
                    true => self.confirmed(hub, &topic),
                    false if was_asked => {}
                    false => self.interrupted(hub, &topic, talk),
                }
            }
            Some(PubSub::Confirmation(_, None, _)) => {}
            None => {
                let topics = talk.questions.answered();
                if frame.starts_with(b"-") {
                    self.failed(hub, &topics, &frame, talk);
                }
            }
        }
    }

    fn message(&self, topic: Topic, frame: &Bytes) {
        // A slice keeps alive everything that was read with it: a short message must not do that for a client that is
        // slow to take it.
        let message = if frame.len() < SLICE { Bytes::copy_from_slice(&frame[1..]) } else { frame.slice(1..) };
        self.link.server.metrics.hub.messages.inc();
        let came = Moment::now();
        self.link.table().members(&topic).for_each(|member| member.deliver(message.clone(), came));
    }

    fn confirmed(&self, hub: &Hub, topic: &Topic) {
        let mut table = self.link.table();
        table.confirm(topic);
        let is_whole_again = table.is_whole_again();
        self.link.count(&table);
        drop(table);
        if is_whole_again {
            hub.tell_gap(&self.link);
        }
    }

    /// The server has ended a subscription by itself: the slot of a sharded channel has moved away. It says where to.
    fn interrupted(&self, hub: &Hub, topic: &Topic, talk: &mut Talk) {
        if topic.0 != Kind::Shard || !self.link.table().interrupt(topic) {
            return;
        }
        if let Some(owner) = &hub.owner {
            owner.log_loss("the slot of a sharded channel has moved");
            hub.close_if_wanted(&self.link);
        }
        self.ask_again(topic, talk);
    }

    /// The server has not subscribed these, and says why.
    fn failed(&self, hub: &Hub, topics: &[Topic], frame: &[u8], talk: &mut Talk) {
        let [topic] = topics else {
            // One of them may be the cause.
            topics.iter().for_each(|topic| talk.questions.ask(topic, true));
            return;
        };
        let error = String::from_utf8_lossy(&frame[1..]).trim_end().to_owned();
        let redirect = Redirect::read(frame, &self.link.server.host());
        if redirect.is_none() && !is_unready(error.as_bytes()) {
            return self.refused(hub, topic, &error);
        }
        self.link.table().put_off(topic);
        talk.put_off.push(topic.clone());
        talk.again.get_or_insert_with(|| Instant::now() + AGAIN);
        match redirect {
            Some(Redirect::Moved(slot, node)) => {
                has_moved(&hub.upstream, slot, &node);
                drop(hub.nodes());
            }
            _ => hub.upstream.cluster.doubt(),
        }
    }

    fn refused(&self, hub: &Hub, topic: &Topic, error: &str) {
        let mut table = self.link.table();
        let had_stood = table.refuse(topic, error);
        drop(table);
        match &hub.owner {
            None => tracing::warn!(error, "the upstream refuses a shared subscription"),
            Some(owner) if had_stood => {
                owner.log_refused(error);
                self.link.members(topic).iter().for_each(|member| member.close());
            }
            Some(_) => {}
        }
    }
}

/// Opens a connection: everybody's, or one of those that clients may have.
async fn open<'l>(hub: &Hub, link: &'l Link) -> Result<(Connected, Option<Lease<'l>>), ConnectError> {
    let Some(owner) = &hub.owner else { return Ok((connect(&link.server, &Group::default()).await?, None)) };
    // A server that does not answer keeps nobody from others.
    let _opening = link.server.openings.enter().await;
    let _permit = link.server.permits.enter().await?;
    let connected = connect(&link.server, &owner.group).await?;
    link.server.metrics.pinned.open.inc();
    Ok((connected, Some(Lease { link, _permit })))
}

async fn write(stream: &mut Stream, out: &[u8]) -> io::Result<()> {
    stream.write_all(out).await?;
    stream.flush().await
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no reply within upstream.ping_timeout")
}
