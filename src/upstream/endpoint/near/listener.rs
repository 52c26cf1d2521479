//! Listens to one server: it tells every change of a key that begins as those of a block do, and is asked again and
//! again whether it is there.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::Sender;
use tokio::time::MissedTickBehavior;

use crate::near::{BELIEVED, Near};
use crate::resp::reply::{Frame, ReplyScanner, parts};
use crate::resp::{Proto, decode, encode};
use crate::telemetry::clock::Tick;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::circuit::backoff;
use crate::upstream::endpoint::connect::connect_now;
use crate::upstream::endpoint::greeting::PING;
use crate::upstream::endpoint::group::Group;
use crate::upstream::endpoint::stream::Stream;

/// How often it is asked: several times within the time for which its word is believed.
const OFTEN: Duration = Duration::from_millis(BELIEVED / 5);
/// Bytes asked for in one read.
const READ: usize = 64 * 1024;

/// One server that is listened to.
pub(super) struct Listener {
    pub(super) number: u64,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) near: Arc<Near>,
    pub(super) reports: Sender<Report>,
}

/// What a listener tells.
pub(super) struct Report {
    pub(super) number: u64,
    pub(super) said: Said,
}

pub(super) enum Said {
    /// The server has told everything that happened before this moment.
    All(Tick),
    /// It does not tell what changes, for this reason.
    Lost(String),
}

impl Report {
    pub(super) fn lost(number: u64, why: &str) -> Self {
        Self { number, said: Said::Lost(why.to_owned()) }
    }
}

/// What has come over a connection.
#[derive(Default)]
struct Talk {
    incoming: BytesMut,
    scanner: ReplyScanner,
    scanned: usize,
    /// When the questions were asked that have not been answered.
    asked: VecDeque<Tick>,
    /// It tells what changes: the request for that has been answered.
    has_begun: bool,
}

impl Listener {
    /// Goes on for ever, or until nobody takes its reports.
    pub(super) async fn run(self) {
        let mut attempt = 0;
        loop {
            let mut lookout = self.endpoint.location.lookout(self.endpoint.location.numbered().1);
            let Err(why) = self.follow(&mut attempt).await;
            // At once: whoever puts the reports together may be late.
            self.near.gap();
            attempt += 1;
            if self.reports.send(Report::lost(self.number, &why)).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff(attempt)) => {}
                () = lookout.moved() => {}
            }
        }
    }

    async fn follow(&self, attempt: &mut u32) -> Result<Infallible, String> {
        let group = Group { proto: Proto::Resp3, ..Group::default() };
        let connected = connect_now(&self.endpoint, &group).await.map_err(|error| error.to_string())?;
        let mut lookout = self.endpoint.location.lookout(connected.generation);
        let (mut stream, mut talk) = (connected.stream, Talk::default());
        self.begin(&mut stream).await.map_err(|error| error.to_string())?;
        let mut ticker = tokio::time::interval(OFTEN);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            talk.incoming.reserve(READ);
            tokio::select! {
                biased;
                read = stream.read_buf(&mut talk.incoming) => match read {
                    Ok(0) => return Err("it closed the connection".to_owned()),
                    Ok(_) => if let Some(told) = self.hear(&mut talk)? {
                        *attempt = 0;
                        let report = Report { number: self.number, said: Said::All(told) };
                        self.reports.send(report).await.map_err(|_| "nobody listens".to_owned())?;
                    },
                    Err(error) => return Err(error.to_string()),
                },
                _ = ticker.tick() => ask(&mut stream, &mut talk).await?,
                () = lookout.moved() => return Err("the upstream is somewhere else".to_owned()),
            }
        }
    }

    async fn begin(&self, stream: &mut Stream) -> std::io::Result<()> {
        let mut words: Vec<&[u8]> = vec![b"CLIENT", b"TRACKING", b"ON", b"BCAST"];
        self.near.prefixes().for_each(|prefix| words.extend([&b"PREFIX"[..], prefix]));
        stream.write_all(&encode::request_of(&words)).await?;
        stream.flush().await
    }

    /// Takes what has come: for which moment the last question is answered, if one is.
    fn hear(&self, talk: &mut Talk) -> Result<Option<Tick>, String> {
        let mut told = None;
        loop {
            let step = talk.scanner.scan(&talk.incoming[talk.scanned..]).map_err(|fault| fault.to_string())?;
            talk.scanned += step.used;
            let Some(frame) = step.end else { break };
            let mut bytes = talk.incoming.split_to(std::mem::take(&mut talk.scanned));
            if let Some(text) = decode::error(&bytes) {
                return Err(text);
            }
            match frame {
                Frame::Push => self.pushed(&mut bytes),
                Frame::Reply if !std::mem::replace(&mut talk.has_begun, true) => {}
                Frame::Reply => told = talk.asked.pop_front().or(told),
            }
        }
        Ok(told.filter(|_| talk.has_begun))
    }

    /// `>2 invalidate [keys]`, or nothing in the place of the keys where all are gone.
    fn pushed(&self, frame: &mut [u8]) {
        if let Some(kind) = frame.first_mut() {
            *kind = b'*';
        }
        let Some([name, keys]) = parts(frame).and_then(|said| <[&[u8]; 2]>::try_from(said).ok()) else { return };
        if decode::bulk(name) != Some(b"invalidate") {
            return;
        }
        match parts(keys) {
            Some(keys) => keys.into_iter().filter_map(decode::bulk).for_each(|key| self.near.changed(key)),
            None => self.near.emptied(),
        }
    }
}

/// Asks whether the server is there, unless it has been silent for too long.
async fn ask(stream: &mut Stream, talk: &mut Talk) -> Result<(), String> {
    let now = Tick::now();
    if talk.asked.front().is_some_and(|asked| now.since(*asked) >= BELIEVED) {
        return Err(format!("it has been silent for {BELIEVED} ms"));
    }
    talk.asked.push_back(now);
    let sent = async {
        stream.write_all(&encode::request_of(&PING)).await?;
        stream.flush().await
    };
    sent.await.map_err(|error: std::io::Error| error.to_string())
}
