//! Ends clients that cost too much: those that ask nothing, those that do not read, and the one that holds most when all
//! together hold too much. Looks at what each client accounts for; never at its socket.

use std::sync::Arc;
use std::time::Duration;

use super::admission::Admission;
use crate::clients::{Peer, Registry};
use crate::config::Limits;
use crate::telemetry::Metrics;
use crate::telemetry::clock::{millis, now_ms};

/// How often clients are looked at, at least.
const OFTEN: Duration = Duration::from_millis(100);

/// What the reaper looks at.
pub(super) struct Reaper {
    pub(super) registry: Arc<Registry>,
    pub(super) admission: Arc<Admission>,
    pub(super) metrics: Arc<Metrics>,
}

impl Reaper {
    /// Looks again and again, for ever. The limits are those of the moment.
    pub(super) async fn run(self) {
        loop {
            let limits = self.admission.limits();
            self.look(&limits);
            tokio::time::sleep(pause(&limits)).await;
        }
    }

    fn look(&self, limits: &Limits) {
        let now = now_ms();
        if !limits.idle_timeout.is_zero() {
            let then = now.saturating_sub(millis(limits.idle_timeout));
            for peer in self.living(|peer| peer.is_idle_since(then)) {
                tracing::debug!(client = peer.id, "a client asked nothing for limits.idle_timeout and is closed");
                self.metrics.clients_idle.inc();
                peer.kill();
            }
        }
        for peer in self.living(|peer| peer.owes() > 0) {
            if let Some(limit) = overdue(&peer, limits, now) {
                self.cut(&peer, limit);
            }
        }
        self.make_room(limits);
    }

    /// Cuts those that hold most, until the others fit.
    fn make_room(&self, limits: &Limits) {
        let (mut held, most) = (self.metrics.client_buffers.get(), limits.buffers.0 as i64);
        if held <= most {
            return;
        }
        let mut peers = self.living(|peer| peer.holds() > 0);
        peers.sort_by_key(|peer| peer.holds());
        while held > most
            && let Some(peer) = peers.pop()
        {
            held -= peer.holds() as i64;
            self.cut(&peer, "buffers");
        }
    }

    fn living(&self, is_match: impl Fn(&Peer) -> bool) -> Vec<Arc<Peer>> {
        self.registry.matching(|peer| !peer.is_killed() && is_match(peer))
    }

    fn cut(&self, peer: &Peer, limit: &'static str) {
        self.metrics.clients_cut.inc();
        self.metrics.limited(limit);
        tracing::warn!(
            client = peer.id,
            address = peer.addresses.0,
            limit = format!("limits.{limit}"),
            bytes = peer.holds(),
            "a client did not read what waits for it, or holds too much, and is disconnected"
        );
        peer.kill();
    }
}

/// The limit that a client for which something waits has been past for too long, if there is one.
fn overdue(peer: &Peer, limits: &Limits, now: u64) -> Option<&'static str> {
    let (soft, time, name) = if peer.listens() {
        (limits.subscriber_output_soft, limits.subscriber_output_soft_time, "subscriber_output_soft")
    } else {
        (limits.client_output_soft, limits.client_output_soft_time, "client_output_soft")
    };
    if peer.past(soft.0, now).is_some_and(|since| soft.0 > 0 && now.saturating_sub(since) >= millis(time)) {
        return Some(name);
    }
    let stalled =
        peer.stalled_since().is_some_and(|since| now.saturating_sub(since) >= millis(limits.client_output_timeout));
    stalled.then_some("client_output_timeout")
}

fn pause(limits: &Limits) -> Duration {
    let deadlines = [
        limits.idle_timeout,
        limits.client_output_timeout,
        limits.client_output_soft_time,
        limits.subscriber_output_soft_time,
    ];
    let shortest = deadlines.into_iter().filter(|time| !time.is_zero()).min().unwrap_or(OFTEN);
    (shortest / 4).clamp(Duration::from_millis(10), OFTEN)
}
