//! Commands by route and outcome. On the road of a request only a client's own [`Tally`] is counted up; it is added to
//! the process's counters once for each batch.

use std::fmt::{self, Write as _};
use std::sync::OnceLock;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::labels::Outcome;
use super::register::Register;

/// Which way a command took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the labels")]
pub enum RouteLabel {
    Local,
    Definition,
    Cache,
    Write,
    Passthrough,
    Pinned,
    Split,
    Near,
    Refused,
}

impl RouteLabel {
    /// One word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Definition => "definition",
            Self::Cache => "cache",
            Self::Write => "write",
            Self::Passthrough => "passthrough",
            Self::Pinned => "pinned",
            Self::Split => "split",
            Self::Near => "near",
            Self::Refused => "refused",
        }
    }
}

impl EncodeLabelValue for RouteLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(self.name())
    }
}

pub(super) const ROUTES: [RouteLabel; 9] = [
    RouteLabel::Local,
    RouteLabel::Definition,
    RouteLabel::Cache,
    RouteLabel::Write,
    RouteLabel::Passthrough,
    RouteLabel::Pinned,
    RouteLabel::Split,
    RouteLabel::Near,
    RouteLabel::Refused,
];
const OUTCOMES: [Outcome; 5] = [Outcome::Ok, Outcome::Hit, Outcome::Absent, Outcome::Miss, Outcome::Error];

/// Labels of `hearthside_commands_total`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabels {
    route: RouteLabel,
    outcome: Outcome,
}

/// Those of one route.
fn labels(route: RouteLabel) -> impl Iterator<Item = CommandLabels> {
    let outcomes: &[Outcome] = match route {
        RouteLabel::Definition => &[Outcome::Hit, Outcome::Absent],
        RouteLabel::Cache => &[Outcome::Hit, Outcome::Absent, Outcome::Miss],
        RouteLabel::Near => &[Outcome::Hit, Outcome::Miss],
        RouteLabel::Write => &[Outcome::Ok, Outcome::Error],
        RouteLabel::Refused => &[Outcome::Error],
        RouteLabel::Local | RouteLabel::Passthrough | RouteLabel::Pinned | RouteLabel::Split => &[Outcome::Ok],
    };
    outcomes.iter().map(move |outcome| CommandLabels { route, outcome: *outcome })
}

/// Counters of commands, looked up once so that the hot path only adds.
#[derive(Debug)]
pub struct Commands {
    family: Family<CommandLabels, Counter>,
    found: [[OnceLock<Counter>; OUTCOMES.len()]; ROUTES.len()],
}

impl Commands {
    pub(super) fn register(r: &mut Register) -> Self {
        Self {
            family: r.family_of("commands", "Commands by route and outcome", ROUTES.into_iter().flat_map(labels)),
            found: std::array::from_fn(|_| std::array::from_fn(|_| OnceLock::new())),
        }
    }

    /// The number of commands that went `route` and ended as `outcome`.
    #[must_use]
    pub fn get(&self, route: RouteLabel, outcome: Outcome) -> u64 {
        self.family.get_or_create(&CommandLabels { route, outcome }).get()
    }

    /// Counts `n` commands whose outcome is known only when no client can count them any more.
    pub fn add(&self, route: RouteLabel, outcome: Outcome, n: u64) {
        let find = || self.family.get_or_create_owned(&CommandLabels { route, outcome });
        self.found[route as usize][outcome as usize].get_or_init(find).inc_by(n);
    }
}

/// One client's counts since they were last added to the process's: no shared memory is touched per command.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    counts: [[u64; OUTCOMES.len()]; ROUTES.len()],
    /// A bit for each count that is not zero.
    used: u64,
    /// All that was ever counted.
    pub total: u64,
}

impl Tally {
    /// Counts `n` commands.
    pub fn add(&mut self, route: RouteLabel, outcome: Outcome, n: u64) {
        self.counts[route as usize][outcome as usize] += n;
        self.total += n;
        self.used |= 1 << (route as usize * OUTCOMES.len() + outcome as usize);
    }

    /// True when more commands of this route have ended like this than `before`.
    #[must_use]
    pub fn has_more(&self, before: &Self, route: RouteLabel, outcome: Outcome) -> bool {
        let count = |tally: &Self| tally.counts[route as usize][outcome as usize];
        count(self) > count(before)
    }

    /// Adds everything to `commands` and begins at zero again.
    pub fn flush(&mut self, commands: &Commands) {
        while self.used != 0 {
            let at = self.used.trailing_zeros() as usize;
            let (route, outcome) = (at / OUTCOMES.len(), at % OUTCOMES.len());
            commands.add(ROUTES[route], OUTCOMES[outcome], std::mem::take(&mut self.counts[route][outcome]));
            self.used &= self.used - 1;
        }
    }
}
