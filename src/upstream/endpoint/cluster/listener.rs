//! Asks one node of a cluster who owns what: at once, every second, and whenever there is reason to doubt it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::sync::mpsc::Sender;

use super::nodes::{Seen, read};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::asking::open;
use crate::upstream::endpoint::circuit::backoff;
use crate::upstream::endpoint::not_told::NotTold;
use crate::upstream::endpoint::target::{Host, Target};

/// How often a node is asked while nobody doubts what it said.
const OFTEN: Duration = Duration::from_secs(1);
/// A doubt is followed by a question after this time, however many doubt.
const SOON: Duration = Duration::from_millis(20);

async fn ask(questions: &mut MultiplexedConnection, target: &Target, host: &Host) -> Result<Vec<Seen>, NotTold> {
    let answer: String = redis::cmd("CLUSTER").arg("NODES").query_async(questions).await?;
    Ok(read(&answer, host, target.access.is_by_name()))
}

/// What the node there says, once.
///
/// # Errors
/// Why it says nothing.
pub(super) async fn ask_once(target: Target, host: &Host, timeout: Duration) -> Result<Vec<Seen>, NotTold> {
    ask(&mut open(&target, timeout).await.map_err(NotTold::Silent)?, &target, host).await
}

/// One node that is asked.
pub(super) struct Listener {
    pub(super) target: Target,
    pub(super) host: Host,
    /// The upstream as a whole.
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) reports: Sender<Report>,
}

/// What a listener tells.
pub(super) struct Report {
    pub(super) host: Host,
    /// What the node says, or why it does not answer.
    pub(super) said: Result<Vec<Seen>, String>,
}

impl Listener {
    /// Goes on for ever, or until nobody takes its reports.
    pub(super) async fn run(self) {
        let mut attempt = 0;
        loop {
            let Err(why) = self.converse(&mut attempt).await;
            attempt += 1;
            if self.reports.send(Report { host: self.host.clone(), said: Err(why) }).await.is_err() {
                return;
            }
            tokio::time::sleep(backoff(attempt)).await;
        }
    }

    async fn converse(&self, attempt: &mut u32) -> Result<Infallible, String> {
        let timeout = self.endpoint.settings.connect_timeout;
        let mut questions = open(&self.target, timeout).await?;
        loop {
            let doubted = self.endpoint.cluster.doubted.notified();
            let asked = ask(&mut questions, &self.target, &self.host).await;
            let said = Ok(asked.map_err(|why| why.to_string())?);
            *attempt = 0;
            let report = Report { host: self.host.clone(), said };
            if self.reports.send(report).await.is_err() {
                return Err("nobody listens".to_owned());
            }
            if tokio::time::timeout(OFTEN, doubted).await.is_ok() {
                tokio::time::sleep(SOON).await;
            }
        }
    }
}
