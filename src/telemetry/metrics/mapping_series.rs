//! Shows what is counted of each mapping, from the moment on that it is configured until a reload takes it away.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::durations::seconds;
use super::labels::{MappingLabel, Outcome};
use super::mapping_counts::MappingCounts;
use crate::config::Mode;

/// So many mappings are shown by themselves, the others as one.
const MOST: usize = 1000;

/// As which.
const OTHERS: &str = "(others)";

/// What is shown of one mapping.
type Shown = (Arc<MappingCounts>, bool);

/// Those that are shown, by their key patterns; with each, whether its keys are cached.
#[derive(Debug, Default)]
pub(super) struct MappingSeries(Mutex<BTreeMap<String, Shown>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MappingOutcome {
    mapping: String,
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MappingMode {
    mapping: String,
    mode: &'static str,
}

impl MappingSeries {
    fn shown(&self) -> MutexGuard<'_, BTreeMap<String, Shown>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn show(&self, mapping: &str, counts: Arc<MappingCounts>, is_cached: bool) {
        self.shown().insert(mapping.to_owned(), (counts, is_cached));
    }

    /// The others are not shown any more; their names.
    pub(super) fn keep(&self, mappings: &[&str]) -> Vec<String> {
        let is_gone = |mapping: &String, _: &mut Shown| !mappings.contains(&mapping.as_str());
        self.shown().extract_if(.., is_gone).map(|(mapping, _)| mapping).collect()
    }
}

/// Writes the series of all mappings, or of those whose keys are cached.
struct Series<'e, 's> {
    encoder: DescriptorEncoder<'e>,
    shown: &'s [(&'s str, Vec<&'s MappingCounts>)],
}

impl Series<'_, '_> {
    fn counter<L, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        of: impl Fn(String, &MappingCounts) -> [(L, u64); N],
    ) -> fmt::Result
    where
        L: EncodeLabelSet,
    {
        let kind = ConstCounter::new(0_u64).metric_type();
        let name = format!("hearthside_{name}");
        let mut metric = self.encoder.encode_descriptor(&name, help, None, kind)?;
        for (mapping, counts) in self.shown {
            let mut sums: Option<[(L, u64); N]> = None;
            for counts in counts {
                let one = of((*mapping).to_owned(), counts);
                match &mut sums {
                    None => sums = Some(one),
                    Some(sums) => sums.iter_mut().zip(one).for_each(|(sum, (_, more))| sum.1 += more),
                }
            }
            for (label, sum) in sums.into_iter().flatten() {
                ConstCounter::new(sum).encode(metric.encode_family(&label)?)?;
            }
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, of: impl Fn(&MappingCounts) -> u64) -> fmt::Result {
        let kind = ConstGauge::new(0_u64).metric_type();
        let name = format!("hearthside_{name}");
        let mut metric = self.encoder.encode_descriptor(&name, help, None, kind)?;
        for (mapping, counts) in self.shown {
            let label = MappingLabel { mapping: (*mapping).to_owned() };
            let sum: u64 = counts.iter().map(|counts| of(counts)).sum();
            ConstGauge::new(sum).encode(metric.encode_family(&label)?)?;
        }
        Ok(())
    }

    /// Gauges by another label beside the mapping.
    fn family<L: EncodeLabelSet, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        of: impl Fn(&str, &[&MappingCounts]) -> [(L, u64); N],
    ) -> fmt::Result {
        let kind = ConstGauge::new(0_u64).metric_type();
        let name = format!("hearthside_{name}");
        let mut metric = self.encoder.encode_descriptor(&name, help, None, kind)?;
        for (mapping, counts) in self.shown {
            for (label, value) in of(mapping, counts) {
                ConstGauge::new(value).encode(metric.encode_family(&label)?)?;
            }
        }
        Ok(())
    }

    /// Microseconds, shown as seconds.
    fn seconds_counter(&mut self, name: &str, help: &str, of: impl Fn(&MappingCounts) -> u64) -> fmt::Result {
        let kind = ConstCounter::new(0.0_f64).metric_type();
        let name = format!("hearthside_{name}");
        let mut metric = self.encoder.encode_descriptor(&name, help, None, kind)?;
        for (mapping, counts) in self.shown {
            let label = MappingLabel { mapping: (*mapping).to_owned() };
            let sum: u64 = counts.iter().map(|counts| of(counts)).sum();
            ConstCounter::new(seconds(sum)).encode(metric.encode_family(&label)?)?;
        }
        Ok(())
    }
}

fn alone(of: impl Fn(&MappingCounts) -> u64) -> impl Fn(String, &MappingCounts) -> [(MappingLabel, u64); 1] {
    move |mapping, counts| [(MappingLabel { mapping }, of(counts))]
}

fn outcomes<const N: usize>(mapping: &str, counts: [(Outcome, u64); N]) -> [(MappingOutcome, u64); N] {
    counts.map(|(outcome, count)| (MappingOutcome { mapping: mapping.to_owned(), outcome }, count))
}

/// How many of these mappings are in each mode: 1 or 0 where they are shown by themselves.
fn modes(mapping: &str, counts: &[&MappingCounts]) -> [(MappingMode, u64); Mode::ALL.len()] {
    Mode::ALL.map(|mode| {
        let count = counts.iter().filter(|counts| counts.mode().0 == mode).count();
        (MappingMode { mapping: mapping.to_owned(), mode: mode.name() }, count as u64)
    })
}

/// Each by its name, but for those that are too many.
fn grouped(shown: &BTreeMap<String, Shown>, is_meant: impl Fn(&Shown) -> bool) -> Vec<(&str, Vec<&MappingCounts>)> {
    let mut groups: Vec<(&str, Vec<&MappingCounts>)> = Vec::new();
    for (mapping, one) in shown.iter().filter(|(_, one)| is_meant(one)) {
        if groups.len() < MOST {
            groups.push((mapping, vec![&one.0]));
        } else if groups.len() == MOST {
            groups.push((OTHERS, vec![&one.0]));
        } else if let Some((_, others)) = groups.last_mut() {
            others.push(&one.0);
        }
    }
    groups
}

impl Collector for MappingSeries {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shown = self.shown();
        let (all, cached) = (grouped(&shown, |_| true), grouped(&shown, |(_, is_cached)| *is_cached));
        let mut series = Series { encoder, shown: &all };
        series.gauge("mapping_entries", "Keys of the mapping in memory, absent ones included.", |m| m.room()[0])?;
        let help = "1 for the mode that the mapping is in (off, shadow, fallback or on), 0 for the others.";
        series.family("mapping_mode", help, modes)?;
        let help = "For so many of a hundred keys the mapping's mode holds; the others pass through.";
        series.gauge("mapping_percent", help, |mapping| mapping.mode().1)?;
        let errors = alone(|mapping| mapping.failures().0);
        series.counter("mapping_errors", "What went wrong, by mapping: its loads, writes and reloads.", errors)?;
        series.shown = &cached;
        series.gauge("mapping_bytes", "Memory of the mapping's cached records, in bytes.", |m| m.room()[1])?;
        series.counter(
            "hits",
            "Reads of cached keys that were answered from memory, by mapping.",
            |mapping, counts| {
                let hits = counts.hits();
                outcomes(&mapping, [(Outcome::Hit, hits.present), (Outcome::Absent, hits.absent)])
            },
        )?;
        let misses = alone(MappingCounts::misses);
        series.counter("misses", "Reads of cached keys that needed a load, or joined one, by mapping.", misses)?;
        series.counter(
            "loads",
            "Loads of one cached key from the store, by mapping and outcome.",
            |mapping, counts| {
                let loads = counts.loads();
                let by = [(Outcome::Ok, loads.ok), (Outcome::Absent, loads.absent), (Outcome::Error, loads.failed)];
                outcomes(&mapping, by)
            },
        )?;
        let help = "Time that the mapping's loads took together, in seconds.";
        series.seconds_counter("mapping_load_seconds", help, |mapping| mapping.loads().micros)?;
        let evictions = alone(MappingCounts::evictions);
        series.counter("evictions", "Records that had to go because memory was full, by mapping.", evictions)?;
        let help = "Keys that were forgotten because of a change, a write or a command, and whole mappings.";
        series.counter("mapping_invalidations", help, alone(MappingCounts::invalidations))
    }
}
