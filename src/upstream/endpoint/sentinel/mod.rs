//! The master that sentinels watch over: every sentinel that is known is asked, and heard, all the time, and where the
//! newest of what they say differs from what is in use, commands go to another master from that moment on.
//!
//! Invariants:
//! - what a sentinel says of an older configuration does not replace what is known of a newer one, unless most of them
//!   say it for long (`council.rs`);
//! - a sentinel that is silent changes nothing: the last master stays in use.
//!
//! Source: <https://redis.io/docs/latest/develop/reference/sentinel-clients/>

mod answer;
mod council;
mod event;
mod listener;
mod members;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Endpoint;
use super::asking::{in_time, open};
use super::target::Target;
use super::topology::{Sentinels, Topology};
use answer::{ask, in_words};
use council::Council;
use listener::subscribed;
use watch::Watch;

/// Follows the sentinels, whenever `upstream.url` leads to some.
#[derive(Debug)]
pub struct SentinelTask {
    endpoint: Arc<Endpoint>,
    /// The number of the topology that the council is about.
    number: u64,
    council: Council,
}

impl SentinelTask {
    /// It has asked nobody yet.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, number: 0, council: Council::default() }
    }

    /// Runs for ever. Begun again after a panic, it knows what the sentinels said before.
    pub async fn run(&mut self) {
        loop {
            let (topology, number) = self.endpoint.location.topology();
            let mut lookout = self.endpoint.location.lookout(0);
            if std::mem::replace(&mut self.number, number) != number {
                self.council = Council::default();
            }
            if let Some(Topology::Sentinels(sentinels)) = topology.as_deref() {
                let mut watch = Watch::new(&self.endpoint, sentinels, number, &mut self.council);
                lookout.unless_replaced(number, watch.run()).await;
                watch.end();
            } else {
                lookout.replaced(number).await;
            }
        }
    }
}

/// The master, as the sentinels name it now, and what an operator should know of them.
///
/// # Errors
/// Why none of them names one.
pub(super) async fn find(sentinels: &Sentinels, timeout: Duration) -> Result<(Target, Vec<String>), String> {
    let mut council = Council::default();
    for host in &sentinels.hosts {
        let target = sentinels.sentinel(host.clone());
        let answer = in_time(timeout, async {
            let mut questions = open(&target, timeout).await.map_err(in_words)?;
            let answer = ask(&mut questions, &sentinels.service).await?;
            subscribed(&target, timeout).await.map(|_| answer)
        });
        council.hear(host, answer.await.map(|answer| answer.view));
    }
    match council.verdict(sentinels.hosts.len(), sentinels.hosts.len(), Instant::now()) {
        Some(master) => {
            tracing::info!(service = sentinels.service, %master, "the sentinels name the master");
            Ok((sentinels.master(master), council.reasons()))
        }
        None => Err(council.reasons().join("; ")),
    }
}
