//! Heartbeats: proof that a feed is alive, sent over another connection than it has. Knows no feed.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::MissedTickBehavior;

use super::SILENT;
use crate::config;
use crate::store::StoreError;
use crate::store::postgres::pulse::Pulse;
use crate::store::postgres::way::Way;
use crate::telemetry::clock::Tick;

/// `insufficient_privilege`.
const DENIED: &str = "42501";

/// How a heartbeat is sent.
pub(super) struct Beat {
    /// With its name and the moment it is sent as parameters.
    pub(super) sql: &'static str,
    /// The same by another statement, for a role that may not run that one.
    pub(super) when_denied: Option<fn(&str, &str) -> String>,
}

/// What sends a feed's heartbeats.
pub(super) struct Heart<'f> {
    beat: Beat,
    is_denied: AtomicBool,
    name: &'f str,
    pulse: Pulse,
    interval: Duration,
    patience: Duration,
    /// Why the last one was not sent.
    unsent: ArcSwapOption<String>,
}

impl<'f> Heart<'f> {
    pub(super) fn new(beat: Beat, way: &Way, settings: &config::Store, name: &'f str) -> Self {
        Self {
            beat,
            is_denied: AtomicBool::new(false),
            name,
            pulse: Pulse::new(way.clone(), settings.connect_timeout),
            interval: settings.heartbeat_interval,
            patience: settings.heartbeat_timeout,
            unsent: ArcSwapOption::empty(),
        }
    }

    /// Sends heartbeats until a feed ends, and gives why it did. To a feed that was silent that may be why the last
    /// heartbeat was not sent.
    pub(super) async fn beat_beside(&self, feed: impl Future<Output = String>) -> String {
        let why = tokio::select! {
            why = feed => why,
            () = self.beat() => "the heartbeat ended".to_owned(),
        };
        match self.unsent.load_full() {
            Some(unsent) if why == SILENT => format!("{why}, and its heartbeat is not sent: {unsent}"),
            _ => why,
        }
    }

    async fn beat(&self) {
        let mut ticker = tokio::time::interval(self.interval);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticker.tick().await;
            let sent = Tick::now().as_ms().to_string();
            let why = match tokio::time::timeout(self.patience, self.send(&sent)).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(StoreError::from(error).to_string()),
                Err(_) => Some("no answer in time".to_owned()),
            };
            if let Some(why) = &why {
                tracing::debug!(why, "a heartbeat of the change feed was not sent");
            }
            self.unsent.store(why.map(Into::into));
        }
    }

    async fn send(&self, sent: &str) -> Result<(), sqlx::Error> {
        let otherwise = self.beat.when_denied.filter(|_| self.is_denied.load(Relaxed));
        if let Some(otherwise) = otherwise {
            return self.pulse.run(&otherwise(self.name, sent), &[]).await.map(drop);
        }
        let called = self.pulse.run(self.beat.sql, &[self.name, sent]).await;
        let code = called.as_ref().err().and_then(|error| error.as_database_error()?.code());
        // The next one is sent otherwise.
        self.is_denied.store(code.is_some_and(|code| code == DENIED), Relaxed);
        called.map(drop)
    }
}
