//! Gives the metrics of the parts their names, under `hearthside_`.

use std::hash::Hash;

use prometheus_client::collector::Collector;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use super::durations::Durations;

/// Registers what it makes; the name and the help are what operators read.
#[derive(Default)]
pub(super) struct Register(Registry);

impl Register {
    pub(super) fn counter(&mut self, name: &str, help: &str) -> Counter {
        self.add(name, help, Counter::default())
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.add(name, help, Gauge::default())
    }

    /// Counters or gauges by labels that are not known from the beginning: whoever knows one shows it.
    pub(super) fn family<L, M>(&mut self, name: &str, help: &str) -> Family<L, M>
    where
        L: Clone + Hash + Eq,
        M: Default,
        Family<L, M>: Metric,
    {
        self.add(name, help, Family::default())
    }

    /// The same by labels that are known: each is shown from the beginning, so that its first event is a rise from 0.
    pub(super) fn family_of<L, M>(
        &mut self,
        name: &str,
        help: &str,
        labels: impl IntoIterator<Item = L>,
    ) -> Family<L, M>
    where
        L: Clone + Hash + Eq,
        M: Default,
        Family<L, M>: Metric,
    {
        let family: Family<L, M> = self.family(name, help);
        labels.into_iter().for_each(|label| drop(family.get_or_create(&label)));
        family
    }

    /// Durations in seconds.
    pub(super) fn seconds(&mut self, name: &str, help: &str) -> Durations {
        self.add(name, help, Durations::default())
    }

    /// What is looked at only when somebody asks, and has names of its own.
    pub(super) fn collector(&mut self, collector: Box<dyn Collector>) {
        self.0.register_collector(collector);
    }

    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(format!("hearthside_{name}"), help, metric.clone());
        metric
    }

    pub(super) fn into_registry(self) -> Registry {
        self.0
    }
}
