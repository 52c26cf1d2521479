//! Listens to one sentinel: asks it at once, every second, and whenever it tells of something that has happened.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::Msg;
use tokio::sync::mpsc::Sender;

use super::answer::{Answer, ask};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::asking::{in_time, open, subscriber};
use crate::upstream::endpoint::circuit::backoff;
use crate::upstream::endpoint::target::{Host, Target};

/// How often it is asked while all is well.
const OFTEN: Duration = Duration::from_secs(1);
/// The same while the master does not answer.
const OFTENER: Duration = Duration::from_millis(200);

/// One sentinel that is listened to.
pub(super) struct Listener {
    pub(super) target: Target,
    pub(super) host: Host,
    pub(super) service: String,
    /// Of the service's master.
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) reports: Sender<Report>,
}

/// What a listener tells.
#[derive(Debug)]
pub(super) enum Report {
    /// The sentinel says this.
    Says(Host, Answer),
    /// It does not answer.
    IsSilent(Host, String),
    /// It runs a failover.
    Failover(Stage),
}

/// Of a failover that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A replica is about to become the master.
    Begins,
    /// It did not.
    Fails,
}

impl Stage {
    fn of(event: &str) -> Option<Self> {
        match event {
            "+failover-state-send-slaveof-noone" => Some(Self::Begins),
            _ if event.starts_with("-failover-abort") => Some(Self::Fails),
            _ => None,
        }
    }
}

impl Listener {
    /// Goes on for ever, or until nobody takes its reports.
    pub(super) async fn run(self) {
        let mut attempt = 0;
        loop {
            let Err(why) = self.converse(&mut attempt).await;
            attempt += 1;
            if attempt == 1 {
                tracing::warn!(sentinel = %self.host, why, "a sentinel does not answer; it is tried again and again");
            }
            if self.reports.send(Report::IsSilent(self.host.clone(), why)).await.is_err() {
                return;
            }
            tokio::time::sleep(backoff(attempt)).await;
        }
    }

    async fn converse(&self, attempt: &mut u32) -> Result<Infallible, String> {
        let timeout = self.endpoint.settings.connect_timeout;
        let mut questions = open(&self.target, timeout).await?;
        let mut events = subscriber(&self.target, timeout).await?;
        let subscribed = async { events.psubscribe("*").await.map_err(|error| error.to_string()) };
        in_time(timeout, subscribed).await?;
        loop {
            let answer = ask(&mut questions, &self.service).await?;
            if std::mem::take(attempt) > 0 {
                tracing::info!(sentinel = %self.host, "a sentinel answers again");
            }
            self.tell(Report::Says(self.host.clone(), answer)).await?;
            let often = if self.endpoint.circuit.attempts() > 0 { OFTENER } else { OFTEN };
            let mut stream = events.on_message();
            let happened = async {
                loop {
                    match stream.next().await {
                        Some(message) if !self.is_ours(&message) => {}
                        other => return other,
                    }
                }
            };
            // The timeout is the other reason to ask again.
            if let Ok(event) = tokio::time::timeout(often, happened).await {
                let event = event.ok_or("it closed the connection")?;
                if let Some(stage) = Stage::of(event.get_channel_name()) {
                    self.tell(Report::Failover(stage)).await?;
                }
            }
        }
    }

    /// It is about this service: the words of an event name it.
    fn is_ours(&self, message: &Msg) -> bool {
        let text = String::from_utf8_lossy(message.get_payload_bytes());
        text.split(' ').any(|word| word == self.service)
    }

    async fn tell(&self, report: Report) -> Result<(), String> {
        self.reports.send(report).await.map_err(|_| "nobody listens any more".to_owned())
    }
}
