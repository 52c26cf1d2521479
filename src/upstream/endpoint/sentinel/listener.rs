//! Listens to one sentinel: asks it at once, every second, and whenever it tells of something that has happened.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSub};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;

use super::answer::{Answer, HIDDEN, ask, in_words, own_id, replicas};
use super::event::{Stage, master_of};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::asking::{in_time, open, subscriber};
use crate::upstream::endpoint::circuit::backoff;
use crate::upstream::endpoint::target::{Host, Target};

/// How often it is asked while all is well.
const OFTEN: Duration = Duration::from_secs(1);
/// The same while the master does not answer.
const OFTENER: Duration = Duration::from_millis(200);

/// What an error of a user holds who may not do something.
const FORBIDDEN: &str = "may not subscribe";

/// A connection on which a sentinel tells all its events.
///
/// # Errors
/// Why that cannot be, in an operator's words.
pub(super) async fn subscribed(target: &Target, timeout: Duration) -> Result<PubSub, String> {
    let mut events = subscriber(target, timeout).await.map_err(in_words)?;
    let subscribed = async {
        events.psubscribe("*").await.map_err(|error| match error.code() {
            Some("NOPERM") => format!("its user {FORBIDDEN} (+psubscribe, and all channels): {error}"),
            _ => error.to_string(),
        })
    };
    in_time(timeout, subscribed).await?;
    Ok(events)
}

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
    /// It runs a failover, in which this master is replaced.
    Failover(Stage, Host),
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
        let mut questions = open(&self.target, timeout).await.map_err(in_words)?;
        let happened = Notify::new();
        let events = match subscribed(&self.target, timeout).await {
            Ok(events) => Some(events),
            Err(why) if why.contains(FORBIDDEN) => {
                self.warn_of_silence(&why);
                None
            }
            Err(why) => return Err(why),
        };
        // What it tells is taken while it is asked: the beginning of a failover does not wait for an answer.
        tokio::select! {
            ended = self.hear(events, &happened) => ended,
            ended = self.ask(&mut questions, &happened, attempt) => ended,
        }
    }

    fn warn_of_silence(&self, why: &str) {
        tracing::warn!(
            sentinel = %self.host,
            why,
            "a sentinel does not let its user subscribe to its events: failovers are noticed within a second only, and \
             writes that the old master takes meanwhile are lost"
        );
    }

    fn warn_of_replicas(&self, why: &str) {
        tracing::warn!(
            sentinel = %self.host,
            why,
            "a sentinel does not let its user ask for the replicas (+sentinel|replicas): those that no other one tells \
             of are not read"
        );
    }

    /// Takes what it tells by itself.
    async fn hear(&self, events: Option<PubSub>, happened: &Notify) -> Result<Infallible, String> {
        let Some(mut events) = events else { return std::future::pending().await };
        let mut events = events.on_message();
        loop {
            let event = events.next().await.ok_or("it closed the connection")?;
            let channel = event.get_channel_name();
            let text = String::from_utf8_lossy(event.get_payload_bytes());
            if let Some(master) = master_of(&self.service, channel, &text) {
                if let Some(stage) = Stage::of(channel) {
                    self.tell(Report::Failover(stage, master)).await?;
                }
                happened.notify_one();
            }
        }
    }

    /// Asks it again and again.
    async fn ask(
        &self,
        questions: &mut MultiplexedConnection,
        happened: &Notify,
        attempt: &mut u32,
    ) -> Result<Infallible, String> {
        let (id, mut is_warned) = (own_id(questions).await, false);
        loop {
            let mut answer = Answer { id: id.clone(), ..ask(questions, &self.service).await? };
            if self.endpoint.replicas.are_read() {
                answer.replicas = match replicas(questions, &self.service).await {
                    Err(why) if why.contains(HIDDEN) => {
                        if !std::mem::replace(&mut is_warned, true) {
                            self.warn_of_replicas(&why);
                        }
                        Vec::new()
                    }
                    told => told?,
                };
            }
            if std::mem::take(attempt) > 0 {
                tracing::info!(sentinel = %self.host, "a sentinel answers again");
            }
            self.tell(Report::Says(self.host.clone(), answer)).await?;
            let often = if self.endpoint.circuit.attempts() > 0 { OFTENER } else { OFTEN };
            // The timeout is the other reason to ask again.
            let _late = tokio::time::timeout(often, happened.notified()).await;
        }
    }

    async fn tell(&self, report: Report) -> Result<(), String> {
        self.reports.send(report).await.map_err(|_| "nobody listens any more".to_owned())
    }
}
