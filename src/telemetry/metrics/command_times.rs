//! How long commands take, by route and family. The clock is read for each batch, never for each command: what was
//! taken from a client's buffer at once is answered at once.

use std::cell::{Cell, RefCell};
use std::sync::OnceLock;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;

use super::command_family::{CommandFamily, FAMILIES};
use super::commands::{ROUTES, RouteLabel};
use super::durations::Durations;
use super::register::Register;
use crate::telemetry::clock::Moment;
use crate::telemetry::traces::TraceEnd;

/// Labels of `hearthside_command_seconds`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TimeLabels {
    route: RouteLabel,
    family: CommandFamily,
}

/// Both in one number.
const fn place(route: RouteLabel, family: CommandFamily) -> usize {
    route as usize * FAMILIES.len() + family as usize
}

const PLACES: usize = ROUTES.len() * FAMILIES.len();

fn labels(place: usize) -> TimeLabels {
    TimeLabels { route: ROUTES[place / FAMILIES.len()], family: FAMILIES[place % FAMILIES.len()].0 }
}

/// Of all commands.
#[derive(Debug)]
pub struct CommandTimes {
    family: Family<TimeLabels, Durations>,
    found: [OnceLock<Durations>; PLACES],
}

impl CommandTimes {
    pub(super) fn register(r: &mut Register) -> Self {
        let help = "Time from the reading of a command to its reply, in seconds, by route and family of commands";
        let shown = [
            (RouteLabel::Cache, CommandFamily::Hash),
            (RouteLabel::Cache, CommandFamily::String),
            (RouteLabel::Write, CommandFamily::Hash),
            (RouteLabel::Write, CommandFamily::String),
            (RouteLabel::Passthrough, CommandFamily::String),
        ];
        let shown = shown.map(|(route, family)| TimeLabels { route, family });
        Self { family: r.family_of("command_seconds", help, shown), found: [const { OnceLock::new() }; PLACES] }
    }

    fn observe(&self, place: usize, micros: u64, n: u64) {
        let find = || self.family.get_or_create_owned(&labels(place));
        self.found[place].get_or_init(find).observe(micros, n);
    }

    /// Counts a command that has been answered now.
    pub fn answered(&self, route: RouteLabel, family: CommandFamily, begun: Moment) {
        self.observe(place(route, family), begun.age(), 1);
    }

    /// Counts what was under way and has been answered now.
    pub fn ended(&self, under_way: &UnderWay) {
        match &under_way.under {
            Under::Nothing => {}
            Under::One(place, n) => self.observe(usize::from(*place), under_way.begun.age(), u64::from(*n)),
            Under::Several(several) => {
                let micros = under_way.begun.age();
                several.iter().for_each(|(place, n)| self.observe(usize::from(*place), micros, u64::from(*n)));
            }
        }
    }
}

/// Commands that are answered later, all at once.
#[derive(Debug)]
pub struct UnderWay {
    begun: Moment,
    under: Under,
    /// They are traced.
    traced: Option<TraceEnd>,
}

impl UnderWay {
    /// The same commands, which are traced, perhaps.
    #[must_use]
    pub fn traced(self, traced: Option<TraceEnd>) -> Self {
        Self { traced, ..self }
    }

    /// Their reply begins like this.
    #[inline]
    pub fn saw(&mut self, reply: &[u8]) {
        if let Some(traced) = &mut self.traced {
            traced.saw(reply);
        }
    }

    /// They have been answered.
    #[inline]
    pub fn end_trace(&mut self) {
        if let Some(traced) = self.traced.take() {
            traced.answered();
        }
    }
}

/// How many of which.
#[derive(Debug, Default)]
pub enum Under {
    /// None that is timed.
    #[default]
    Nothing,
    /// Of one route and family.
    One(u8, u32),
    /// Of several.
    Several(Box<[(u8, u32)]>),
}

impl Under {
    /// How many commands.
    #[must_use]
    pub fn count(&self) -> u32 {
        match self {
            Self::Nothing => 0,
            Self::One(_, n) => *n,
            Self::Several(several) => several.iter().map(|(_, n)| n).sum(),
        }
    }

    /// These have been under way since then.
    #[must_use]
    pub const fn since(self, begun: Moment) -> UnderWay {
        UnderWay { begun, under: self, traced: None }
    }
}

/// What one thread counts while it takes one client's requests: most of them are like the one before.
#[derive(Debug)]
pub struct Timing {
    /// What is counted now, and how often it was in a row.
    now: Cell<u8>,
    run: Cell<u32>,
    counts: [Cell<u32>; PLACES],
    /// Those that are not zero.
    used: RefCell<Vec<u8>>,
}

impl Default for Timing {
    fn default() -> Self {
        let counts = [const { Cell::new(0) }; PLACES];
        Self { now: Cell::new(0), run: Cell::new(0), counts, used: RefCell::default() }
    }
}

impl Timing {
    /// From now on commands of this route and family are counted.
    #[cold]
    pub fn turn_to(&self, route: RouteLabel, family: CommandFamily) {
        self.end_run();
        self.now.set(place(route, family) as u8);
    }

    /// Counts `n` commands that are answered together.
    #[inline]
    pub fn add(&self, n: u32) {
        self.run.set(self.run.get() + n);
    }

    /// Something has been counted since it was last taken.
    pub fn is_counting(&self) -> bool {
        self.run.get() > 0 || !self.used.borrow().is_empty()
    }

    /// One command, of those that are counted now.
    #[must_use]
    pub const fn one(&self) -> Under {
        Under::One(self.now.get(), 1)
    }

    fn end_run(&self) {
        let (now, n) = (self.now.get(), self.run.take());
        if n > 0 {
            let count = &self.counts[usize::from(now)];
            if count.get() == 0 {
                self.used.borrow_mut().push(now);
            }
            count.set(count.get() + n);
        }
    }

    /// All of them, and begins at zero again.
    pub fn take(&self) -> Under {
        if self.used.borrow().is_empty() {
            return match self.run.take() {
                0 => Under::Nothing,
                n => Under::One(self.now.get(), n),
            };
        }
        self.end_run();
        let counted = |place: u8| (place, self.counts[usize::from(place)].take());
        Under::Several(self.used.borrow_mut().drain(..).map(counted).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Format, Metrics};
    use super::{CommandFamily, PLACES, RouteLabel, Timing};
    use crate::telemetry::clock::Moment;

    #[test]
    fn what_is_taken_together_is_counted_together() {
        assert!(PLACES <= usize::from(u8::MAX));
        let (metrics, timing, begun) = (Metrics::default(), Timing::default(), Moment::now());
        let times = &metrics.clients.times;
        times.ended(&timing.take().since(begun));
        timing.turn_to(RouteLabel::Cache, CommandFamily::Hash);
        timing.add(1);
        timing.add(2);
        times.ended(&timing.take().since(begun));
        timing.turn_to(RouteLabel::Passthrough, CommandFamily::String);
        timing.add(4);
        timing.turn_to(RouteLabel::Passthrough, CommandFamily::List);
        timing.add(3);
        timing.turn_to(RouteLabel::Passthrough, CommandFamily::String);
        timing.turn_to(RouteLabel::Passthrough, CommandFamily::List);
        timing.add(2);
        times.ended(&timing.take().since(begun));
        timing.turn_to(RouteLabel::Local, CommandFamily::Connection);
        timing.add(6);
        times.ended(&timing.take().since(begun));
        times.ended(&timing.take().since(begun));
        times.ended(&timing.one().since(begun));
        let text = metrics.render(Format::Prometheus);
        for (route, family, count) in
            [("cache", "hash", 3), ("passthrough", "string", 4), ("passthrough", "list", 5), ("local", "connection", 7)]
        {
            let line = format!("hearthside_command_seconds_count{{route=\"{route}\",family=\"{family}\"}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}
