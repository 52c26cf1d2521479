//! Closes clients that cost too much: those that send nothing for too long, those that do not read, and the one that
//! holds most when all together hold too much. It looks at what each client accounts for, never at its socket.

use std::sync::Arc;
use std::time::Duration;

use super::admission::Admission;
use crate::clients::{Peer, Registry};
use crate::config::Limits;
use crate::telemetry::clock::{Tick, millis};
use crate::telemetry::metrics::ClientMetrics;

/// How often clients are looked at, at least.
const OFTEN: Duration = Duration::from_millis(100);
/// How often when a limit is that short.
const SOON: Duration = Duration::from_millis(10);
/// The shortest time between two looks, while they hold more than they may.
const AT_ONCE: Duration = Duration::from_millis(1);

/// What the reaper looks at.
pub(super) struct Reaper {
    pub(super) registry: Arc<Registry>,
    pub(super) admission: Arc<Admission>,
    pub(super) metrics: Arc<ClientMetrics>,
}

impl Reaper {
    /// Looks again and again, for ever. The limits are those of the moment.
    pub(super) async fn run(&self) {
        loop {
            let limits = self.admission.limits();
            self.look(&limits);
            self.metrics.buffers.limit(limits.buffers.0);
            // Those that were closed need a moment to go.
            tokio::time::sleep(AT_ONCE).await;
            let _full = tokio::time::timeout(pause(&limits), self.metrics.buffers.overflows()).await;
        }
    }

    fn look(&self, limits: &Limits) {
        let now = Tick::now();
        self.registry.mark(now);
        if !limits.idle_timeout.is_zero() {
            for peer in self.living(|peer| peer.is_idle_for(limits.idle_timeout, now)) {
                let address = &peer.addresses.0;
                tracing::debug!(
                    client = peer.id,
                    address,
                    "a client asked nothing for limits.idle_timeout and is closed"
                );
                self.metrics.idle.inc();
                peer.kill();
            }
        }
        // How long a replica may take is for the upstream to say, which keeps what it has not taken.
        for peer in self.living(|peer| peer.holding.owes() > 0 && !peer.is_replica()) {
            if let Some(limit) = overdue(&peer, limits, now) {
                self.cut(&peer, limit);
            }
        }
        self.make_room(limits);
    }

    /// Closes those that hold most, until the others fit. Those that are closed and not yet gone do not count.
    fn make_room(&self, limits: &Limits) {
        let most = limits.buffers.0;
        // From these clients something has been withheld already.
        self.living(|peer| peer.holding.is_cut()).iter().for_each(|peer| self.cut(peer, "buffers"));
        if self.metrics.buffers.held() <= most {
            return;
        }
        let mut peers = self.living(|peer| peer.holding.holds() > 0);
        peers.sort_by_cached_key(|peer| peer.holding.holds());
        let mut held: usize = peers.iter().map(|peer| peer.holding.holds()).sum();
        while held > most
            && let Some(peer) = peers.pop()
        {
            held = held.saturating_sub(peer.holding.holds());
            self.cut(&peer, "buffers");
        }
    }

    fn living(&self, is_match: impl Fn(&Peer) -> bool) -> Vec<Arc<Peer>> {
        self.registry.matching(is_match)
    }

    fn cut(&self, peer: &Peer, limit: &'static str) {
        self.metrics.cut.inc();
        self.metrics.limited(limit);
        if let Some(unlogged) = self.metrics.logged.unread.due() {
            tracing::warn!(
                client = peer.id,
                address = peer.addresses.0,
                limit = format!("limits.{limit}"),
                bytes = peer.holding.holds(),
                unlogged,
                "a client did not read what waits for it, or holds too much, and is disconnected"
            );
        }
        peer.kill();
    }
}

/// The limit that a client for which something waits has been past for too long, if there is one.
fn overdue(peer: &Peer, limits: &Limits, now: Tick) -> Option<&'static str> {
    let (soft, time, name) = if peer.listens() {
        (limits.subscriber_output_soft, limits.subscriber_output_soft_time, "subscriber_output_soft")
    } else {
        (limits.client_output_soft, limits.client_output_soft_time, "client_output_soft")
    };
    if peer.holding.past(soft.0, now).is_some_and(|since| soft.0 > 0 && now.since(since) >= millis(time)) {
        return Some(name);
    }
    let stalled = peer.stalled_since().is_some_and(|since| now.since(since) >= millis(limits.client_output_timeout));
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
    (shortest / 4).clamp(SOON, OFTEN)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Admission, Reaper};
    use crate::clients::{Registry, State};
    use crate::config::{ByteSize, Limits};
    use crate::telemetry::Metrics;

    #[test]
    fn who_was_cut_and_is_still_to_go_costs_nobody_else_the_connection() {
        let metrics = Metrics::default().clients;
        let registry = Arc::new(Registry::new(metrics.buffers.clone()));
        let limits = Arc::new(Limits { buffers: ByteSize(64), ..Limits::default() });
        let admission = Arc::new(Admission::new(limits.clone(), metrics.clone()));
        let reaper = Reaper { registry: registry.clone(), admission, metrics: metrics.clone() };
        let clients = [100, 40, 10].map(|holds| {
            let client = registry.list(Default::default(), 0, 0, State::default());
            client.peer.holding.note(holds, 0);
            client
        });
        // No client has gone when they are looked at again.
        (0..2).for_each(|_| reaper.look(&limits));
        assert_eq!(clients.each_ref().map(|client| client.peer.is_killed()), [true, false, false]);
        assert_eq!(metrics.cut.get(), 1);
    }
}
