//! Notices while little changes, rows of the outbox while much does (decision 0032). A sidecar that hears many notices
//! begins to read the outbox every few milliseconds (`pace`), and holds an advisory lock while it does; triggers that
//! find the lock held add rows to the outbox in place of sending notices (`store/triggers/telling.rs`). When few rows
//! come, it lets the lock go.
//!
//! Invariants:
//! - a change is told once its transaction can be seen: a notice is sent behind it, and a row is read by a statement
//!   that sees it. What a statement sees and the one before did not is what it reads (`reader`), so that transactions
//!   that stay open for long lose nothing and hold up nothing;
//! - a transaction may have found the lock held and commit when it is not any more: so the outbox is always read, ever
//!   more slowly while nobody holds the lock, and with each heartbeat at least;
//! - nobody rests while another sidecar holds the lock, and who takes it tells the others;
//! - `Alive` vouches for a moment when a notice that was sent after it has come back, and a statement that was begun
//!   after it has been read (`vouching`);
//! - what is emptied was read, or the reader that has not read it is told so, which is a gap (`cleaning`, `reader`).

mod cleaning;
mod pace;
mod reader;
mod vouching;

use sqlx::postgres::PgListener;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::OF_STANDBY;
use super::next_notice::next_notice;
use super::notify::{self, Reading};
use crate::config;
use crate::store::postgres::options::place;
use crate::store::postgres::way::Way;
use crate::store::triggers::Means;
use crate::store::{Change, OnChange};
use crate::telemetry::clock::Tick;
use cleaning::Cleaning;
use pace::{Heard, Pace};
use reader::{AWAKE, Reader};
use vouching::Vouching;

/// Why the outbox is to be read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    /// Many notices have come: nobody holds the lock.
    Many,
    /// Another sidecar has taken the lock.
    Other,
}

/// What both halves of a feed need.
struct Outbox<'f> {
    settings: &'f config::Store,
    heartbeat: &'f str,
    on_change: &'f OnChange,
    reading: Reading,
    vouching: Vouching,
}

/// Listens and reads until something is wrong, and says what.
pub(super) async fn listen(
    way: &Way,
    settings: &config::Store,
    heartbeat: &str,
    on_change: &OnChange,
    attempt: &mut u64,
) -> String {
    let options = way.get();
    let listener = match notify::connect(&options, settings, [Means::Outbox.channel(), notify::WORDS, heartbeat]).await
    {
        Ok(listener) => listener,
        Err(why) => return why,
    };
    let begun = Tick::now();
    let reader = match Reader::connect(&options, settings).await {
        Ok(Some(reader)) => reader,
        Ok(None) => return format!("{} {OF_STANDBY}", place(&options)),
        Err(why) => return why,
    };
    // Nobody was told what changed before both began.
    on_change(Change::Everything);
    on_change(Change::Alive(begun));
    tracing::info!("the change feed of Postgres is connected, with the outbox");
    *attempt = 0;
    let (reading, vouching) = (Reading::default(), Vouching::default());
    let outbox = Outbox { settings, heartbeat, on_change, reading, vouching };
    // Those that come while one waits say nothing more.
    let (wakes, waking) = mpsc::channel(2);
    tokio::select! {
        why = outbox.hear(listener, wakes) => why,
        why = outbox.read(reader, waking) => why,
    }
}

impl Outbox<'_> {
    /// Hears what comes until something is wrong, and says what.
    async fn hear(&self, mut listener: PgListener, wakes: mpsc::Sender<Wake>) -> String {
        let mut heard = Heard::new(Instant::now());
        loop {
            let notice = match next_notice(&mut listener, self.settings.heartbeat_timeout).await {
                Err(why) => return why,
                Ok(notice) => notice,
            };
            if notice.channel() == self.heartbeat {
                let sent = notice.payload().parse().ok().and_then(|sent| self.vouching.heard(sent));
                sent.into_iter().for_each(|sent| (self.on_change)(Change::Alive(sent)));
            } else if notice.channel() == notify::WORDS {
                (self.on_change)(Change::Word(notice.payload().to_owned()));
            } else if notice.payload() == AWAKE {
                let _is_awake = wakes.try_send(Wake::Other);
            } else {
                (self.on_change)(self.reading.change(notice.payload()));
                if heard.is_many(Instant::now()) {
                    let _is_awake = wakes.try_send(Wake::Many);
                }
            }
        }
    }

    /// Reads the outbox until something is wrong, and says what.
    async fn read(&self, mut reader: Reader, mut waking: mpsc::Receiver<Wake>) -> String {
        let longest = self.settings.heartbeat_interval;
        let (mut pace, mut cleaning) = (Pace::new(Instant::now(), longest), Cleaning::new(Instant::now()));
        loop {
            let begun = Instant::now();
            let done = async {
                let rows = self.read_once(&mut reader, pace.beats(begun)).await?;
                if pace.is_quiet(begun, rows) && reader.is_let_go().await? {
                    pace.rest(begun);
                }
                match cleaning.due(begun, reader.before(), pace.rests_since()) {
                    Some(seen) => reader.clean(&seen).await,
                    None => Ok(()),
                }
            };
            if let Err(why) = done.await {
                return why;
            }
            let wake = tokio::select! {
                wake = waking.recv() => wake,
                () = tokio::time::sleep_until(pace.next(begun)) => None,
            };
            let Some(wake) = wake else { continue };
            pace.wake(Instant::now());
            if wake == Wake::Many
                && let Err(why) = reader.take().await
            {
                return why;
            }
        }
    }

    /// Gives on what is new; how many rows that was.
    async fn read_once(&self, reader: &mut Reader, beats: bool) -> Result<u64, String> {
        let (mut rows, sent) = (0, Tick::now());
        let heartbeat = beats.then(|| (self.heartbeat, sent.as_ms().to_string()));
        let give = |told: &str| {
            rows += 1;
            (self.on_change)(self.reading.change(told));
        };
        reader.read(heartbeat, give).await?;
        if beats && let Some(sent) = self.vouching.read(sent.as_ms()) {
            (self.on_change)(Change::Alive(sent));
        }
        Ok(rows)
    }
}
