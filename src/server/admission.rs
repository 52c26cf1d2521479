//! Decides who may connect: clients are counted, in all and by address, before a worker serves them. A new client
//! beyond a limit is refused; those that are connected are not disturbed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::config::Limits;
use crate::telemetry::LogThrottle;
use crate::telemetry::metrics::ClientMetrics;

/// The clients that are in.
#[derive(Debug)]
pub(super) struct Admission {
    limits: ArcSwap<Limits>,
    inside: Mutex<Inside>,
    metrics: Arc<ClientMetrics>,
    /// Log lines, by refusal.
    logged: [LogThrottle; 3],
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A client's leave to be in; dropped, it has left.
#[derive(Debug)]
pub(super) struct Admitted {
    admission: Arc<Admission>,
    /// Where clients are counted by it.
    address: Option<IpAddr>,
}

/// Why a client may not connect. It gets the error of a Redis that accepts no more; the log says which limit it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Clients,
    PerAddress,
    Buffers,
}

impl Refusal {
    /// The setting of `[limits]`.
    pub(super) const fn limit(self) -> &'static str {
        match self {
            Self::Clients => "clients",
            Self::PerAddress => "clients_per_address",
            Self::Buffers => "buffers",
        }
    }
}

impl Admission {
    pub(super) fn new(limits: Arc<Limits>, metrics: Arc<ClientMetrics>) -> Self {
        Self { limits: ArcSwap::new(limits), inside: Mutex::default(), metrics, logged: Default::default() }
    }

    /// From now on these limits hold. Who is in stays in.
    pub(super) fn change(&self, limits: Arc<Limits>) {
        self.limits.store(limits);
    }

    /// The limits of the moment.
    pub(super) fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a client in. One over a Unix socket has no address.
    pub(super) fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Admitted, Refusal> {
        let limits = self.limits.load();
        // 0: as many as may come in at all.
        let address = address.filter(|_| limits.clients_per_address > 0);
        let counted = match self.metrics.buffers.held() > limits.buffers.0 {
            true => Err(Refusal::Buffers),
            false => self.inside().count(&limits, address),
        };
        match counted {
            Ok(()) => {
                self.metrics.connected.inc();
                self.metrics.accepted.inc();
                Ok(Admitted { admission: self.clone(), address })
            }
            Err(refusal) => {
                self.metrics.refused(refusal.limit());
                Err(refusal)
            }
        }
    }

    /// Says so in the log, now and then.
    pub(super) fn log(&self, refusal: Refusal, peer: &str) {
        if let Some(unlogged) = self.logged[refusal as usize].due() {
            let limit = format!("limits.{}", refusal.limit());
            tracing::warn!(address = peer, limit, unlogged, "a newcomer is refused: the limit is reached");
        }
    }
}

impl Inside {
    fn count(&mut self, limits: &Limits, address: Option<IpAddr>) -> Result<(), Refusal> {
        if self.all >= limits.clients {
            return Err(Refusal::Clients);
        }
        if let Some(address) = address {
            let theirs = self.by_address.entry(address).or_default();
            if *theirs >= limits.clients_per_address {
                return Err(Refusal::PerAddress);
            }
            *theirs += 1;
        }
        self.all += 1;
        Ok(())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut inside = self.admission.inside();
        inside.all -= 1;
        self.admission.metrics.connected.dec();
        let Some(address) = self.address else { return };
        if let Some(theirs) = inside.by_address.get_mut(&address) {
            *theirs -= 1;
            if *theirs == 0 {
                inside.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use super::{Admission, Refusal};
    use crate::config::Limits;
    use crate::telemetry::Metrics;

    #[test]
    fn newcomers_beyond_a_limit_are_refused_until_somebody_leaves() {
        let limits = Limits { clients: 3, clients_per_address: 2, ..Limits::default() };
        let admission = Arc::new(Admission::new(Arc::new(limits), Metrics::default().clients));
        let [one, other] = [1, 2].map(|last| Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))));
        let first = admission.admit(one).expect("room");
        let _second = admission.admit(one).expect("room");
        assert_eq!(admission.admit(one).expect_err("its address is full"), Refusal::PerAddress);
        let _third = admission.admit(other).expect("another address");
        assert_eq!(admission.admit(None).expect_err("full"), Refusal::Clients);
        drop(first);
        let _fourth = admission.admit(one).expect("room again");
        assert_eq!(admission.metrics.connected.get(), 3);
        assert_eq!(admission.inside().by_address.len(), 2);
    }
}
