//! The hub's task: keeps its connection, subscribes to what the table wants, and hands every message to its
//! subscribers.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::HubTask;
use super::table::{Topic, Wish};
use crate::resp::encode;
use crate::resp::pubsub::{self, GAP, GAP_MESSAGE, Kind, PubSub};
use crate::resp::reply::ReplyScanner;
use crate::upstream::endpoint::circuit::backoff;
use crate::upstream::endpoint::connect::connect;
use crate::upstream::endpoint::greeting::PING;
use crate::upstream::endpoint::group::Group;
use crate::upstream::endpoint::stream::Stream;

/// Bytes asked for in one read.
const READ: usize = 64 * 1024;
/// A message that is shorter than this is copied into separate memory.
const SLICE: usize = 32 * 1024;
/// Topics subscribed in one request.
const AT_ONCE: usize = 512;

impl HubTask {
    /// Runs for ever. Does not connect before the first subscription. Begun again after a panic, it has no connection.
    pub async fn run(&mut self) {
        let mut attempt: u32 = 0;
        if self.has_begun {
            self.lose();
        } else {
            let Some(first) = self.wishes.recv().await else { return };
            tracing::debug!(?first, "the first shared subscription");
            self.has_begun = true;
        }
        loop {
            let error = match connect(&self.hub.endpoint, &Group::default()).await {
                Ok(connected) => {
                    if attempt > 0 {
                        tracing::info!(
                            attempt,
                            "the shared subscriber connection is there again; all is subscribed again"
                        );
                    }
                    attempt = 0;
                    let mut lookout = self.hub.endpoint.location.lookout(connected.generation);
                    tokio::select! {
                        error = self.serve(connected.stream) => error.to_string(),
                        () = lookout.moved() => "the upstream is somewhere else now".to_owned(),
                    }
                }
                Err(error) => error.to_string(),
            };
            attempt += 1;
            self.lose();
            if attempt == 1 || attempt.is_multiple_of(20) {
                tracing::warn!(
                    %error,
                    attempt,
                    "the shared subscriber connection is down; messages are missed until it is back"
                );
            }
            tokio::time::sleep(backoff(attempt)).await;
        }
    }

    fn lose(&mut self) {
        self.hub.table().end();
        self.was_lost = true;
        self.hub.endpoint.metrics.hub.up.set(0);
    }

    /// Serves one connection until it fails. Who listens for gaps gets a message about one when everything else is
    /// confirmed again.
    async fn serve(&mut self, mut stream: Stream) -> io::Error {
        let topics = {
            let mut table = self.hub.table();
            // Every earlier wish is in the table.
            while self.wishes.try_recv().is_ok() {}
            table.begin_again()
        };
        let mut out = BytesMut::new();
        subscribe_all(&topics, &mut out);
        self.hub.endpoint.metrics.hub.up.set(1);
        self.hub.endpoint.metrics.hub.connects.inc();
        match self.converse(&mut stream, out).await {
            Ok(()) => io::ErrorKind::UnexpectedEof.into(),
            Err(error) => error,
        }
    }

    /// Pings a quiet connection, and gives it up when nothing comes back.
    async fn converse(&mut self, stream: &mut Stream, mut out: BytesMut) -> io::Result<()> {
        let (mut incoming, mut scanner, mut scanned) = (BytesMut::new(), ReplyScanner::default(), 0);
        let settings = self.hub.endpoint.settings.clone();
        let (mut heard, mut pinged) = (tokio::time::Instant::now(), false);
        loop {
            if !out.is_empty() {
                // Wishes that are made meanwhile wait.
                tokio::time::timeout(settings.ping_timeout, write(stream, &out)).await.map_err(|_| silent())??;
                out = BytesMut::new();
            }
            incoming.reserve(READ);
            let patience = if pinged { settings.ping_timeout } else { settings.ping_interval };
            tokio::select! {
                read = stream.read_buf(&mut incoming) => {
                    if read? == 0 {
                        return Ok(());
                    }
                    (heard, pinged) = (tokio::time::Instant::now(), false);
                    self.deliver(&mut incoming, &mut scanner, &mut scanned)?;
                }
                Some(wish) = self.wishes.recv() => {
                    write_wish(&wish, &mut out);
                    while let Ok(wish) = self.wishes.try_recv() {
                        write_wish(&wish, &mut out);
                    }
                }
                () = tokio::time::sleep_until(heard + patience) => {
                    if pinged {
                        return Err(silent());
                    }
                    (heard, pinged) = (tokio::time::Instant::now(), true);
                    encode::request(&mut out, &PING);
                }
            }
        }
    }

    fn deliver(&mut self, incoming: &mut BytesMut, scanner: &mut ReplyScanner, scanned: &mut usize) -> io::Result<()> {
        loop {
            let step = scanner.scan(&incoming[*scanned..]).map_err(io::Error::other)?;
            *scanned += step.used;
            if step.end.is_none() {
                return Ok(());
            }
            self.frame(incoming.split_to(std::mem::take(scanned)).freeze());
        }
    }

    fn frame(&mut self, frame: Bytes) {
        match pubsub::read(&frame) {
            Some(PubSub::Message(kind, name)) => {
                let topic = (kind, Bytes::copy_from_slice(name));
                // A slice keeps alive everything that was read with it: a short message must not do that for a client
                // that is slow to take it.
                let message = if frame.len() < SLICE { Bytes::copy_from_slice(&frame[1..]) } else { frame.slice(1..) };
                self.hub.table().members(&topic).for_each(|member| member.deliver(message.clone()));
            }
            Some(PubSub::Confirmation(kind, Some(name), true)) => {
                let topic = (kind, Bytes::copy_from_slice(name));
                let mut table = self.hub.table();
                table.confirm(&topic);
                self.hub.endpoint.metrics.hub.topics.set(table.len() as i64);
                if name == GAP && std::mem::take(&mut self.was_lost) {
                    let notice = Bytes::from_static(GAP_MESSAGE);
                    table.members(&topic).for_each(|member| member.deliver(notice.clone()));
                }
            }
            None if frame.starts_with(b"-") => {
                let error = String::from_utf8_lossy(&frame[1..]).trim_end().to_owned();
                tracing::warn!(%error, "the upstream refuses a shared subscription");
            }
            _ => {}
        }
    }
}

async fn write(stream: &mut Stream, out: &[u8]) -> io::Result<()> {
    stream.write_all(out).await?;
    stream.flush().await
}

fn silent() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no reply within upstream.ping_timeout")
}

fn write_wish(wish: &Wish, out: &mut BytesMut) {
    let (verb, (kind, name)) = match wish {
        Wish::Subscribe(topic) => (topic.0.word(true), topic),
        Wish::Unsubscribe(topic) => (topic.0.word(false), topic),
    };
    tracing::trace!(?kind, verb, "a shared subscription changes");
    encode::request(out, &[verb.as_bytes(), name]);
}

fn subscribe_all(topics: &[Topic], out: &mut BytesMut) {
    for kind in [Kind::Shard, Kind::Pattern, Kind::Channel] {
        let mut names: Vec<&[u8]> = topics.iter().filter(|topic| topic.0 == kind).map(|topic| &topic.1[..]).collect();
        // Its confirmation says that all others have come.
        names.sort_by_key(|name| *name == GAP);
        for some in names.chunks(AT_ONCE) {
            let words: Vec<&[u8]> = [kind.word(true).as_bytes()].into_iter().chain(some.iter().copied()).collect();
            encode::request(out, &words);
        }
    }
}
