//! Heartbeats: proof that a feed is alive, sent over another connection than it has. Knows no feed.

use std::time::Duration;

use arc_swap::ArcSwapOption;
use sqlx::postgres::PgConnectOptions;
use tokio::time::MissedTickBehavior;

use super::SILENT;
use crate::config;
use crate::store::StoreError;
use crate::store::postgres::pulse::Pulse;
use crate::telemetry::clock::Tick;

/// What sends a feed's heartbeats.
pub(super) struct Heart<'f> {
    /// Sends one: by its name, and with the moment it is sent.
    sql: &'static str,
    name: &'f str,
    pulse: Pulse,
    interval: Duration,
    patience: Duration,
    /// Why the last one was not sent.
    unsent: ArcSwapOption<String>,
}

impl<'f> Heart<'f> {
    pub(super) fn new(sql: &'static str, options: &PgConnectOptions, settings: &config::Store, name: &'f str) -> Self {
        Self {
            sql,
            name,
            pulse: Pulse::new(options.clone(), settings.connect_timeout),
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
            let values = [self.name, &sent];
            let why = match tokio::time::timeout(self.patience, self.pulse.run(self.sql, &values)).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(StoreError::from(error).to_string()),
                Err(_) => Some("no answer in time".to_owned()),
            };
            if let Some(why) = &why {
                tracing::debug!(why, "a heartbeat of the change feed was not sent");
            }
            self.unsent.store(why.map(Into::into));
        }
    }
}
