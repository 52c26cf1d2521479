//! Asks one server about its part in replication, again and again.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use tokio::sync::mpsc::Sender;

use super::said::{Said, value};
use crate::telemetry::clock::Tick;
use crate::upstream::endpoint::asking::open;
use crate::upstream::endpoint::greeting::NAME;
use crate::upstream::endpoint::target::{Host, Target};

/// One server that is asked.
pub(super) struct Listener {
    pub(super) target: Target,
    pub(super) host: Host,
    pub(super) often: Duration,
    pub(super) timeout: Duration,
    pub(super) reports: Sender<Report>,
}

/// What a listener tells.
pub(super) struct Report {
    pub(super) host: Host,
    /// What the server says, or why it does not answer.
    pub(super) said: Result<Answer, String>,
}

/// One answer.
pub(super) struct Answer {
    pub(super) said: Said,
    /// When it was asked.
    pub(super) asked: Tick,
    /// How long the answer took.
    pub(super) took: Duration,
    /// The availability zone that it is in, if it tells.
    pub(super) zone: String,
}

impl Listener {
    /// Goes on for ever, or until nobody takes its reports.
    pub(super) async fn run(self) {
        loop {
            let Err(why) = self.converse().await;
            if !self.tell(Err(why)).await {
                return;
            }
            tokio::time::sleep(self.often).await;
        }
    }

    async fn tell(&self, said: Result<Answer, String>) -> bool {
        self.reports.send(Report { host: self.host.clone(), said }).await.is_ok()
    }

    async fn converse(&self) -> Result<Infallible, String> {
        let mut questions = open(&self.target, self.timeout).await?;
        // The name tells monitors that what follows is ours; a server may be too old for it.
        let named = redis::cmd("HELLO").arg(2).arg("SETNAME").arg(NAME).query_async::<()>(&mut questions).await;
        drop(named);
        // Only some servers tell it, and it stays what it is.
        let about = info(&mut questions, "server").await.unwrap_or_default();
        let zone = value(&about, "availability_zone").unwrap_or_default().to_owned();
        loop {
            let (asked, begun) = (Tick::now(), Instant::now());
            let told = info(&mut questions, "replication").await?;
            let said = Said::read(&told).ok_or("it tells no role (INFO replication)")?;
            if !self.tell(Ok(Answer { said, asked, took: begun.elapsed(), zone: zone.clone() })).await {
                return Err("nobody listens".to_owned());
            }
            tokio::time::sleep(self.often).await;
        }
    }
}

async fn info(questions: &mut MultiplexedConnection, section: &str) -> Result<String, String> {
    redis::cmd("INFO").arg(section).query_async(questions).await.map_err(|error| error.to_string())
}

/// What the server there says, once.
///
/// # Errors
/// Why it says nothing.
pub(super) async fn ask_once(target: &Target, timeout: Duration) -> Result<Said, String> {
    let told = info(&mut open(target, timeout).await?, "replication").await?;
    Said::read(&told).ok_or_else(|| "it tells no role (INFO replication)".to_owned())
}
