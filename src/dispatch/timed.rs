//! What kind of commands one thread answers and passes on: route and family are looked up only where a command is
//! another one than the one before, so that measuring costs a hit next to nothing.

use std::cell::Cell;
use std::mem::{Discriminant, discriminant};

use crate::command::Spec;
use crate::route::Route;
use crate::telemetry::metrics::{CommandFamily, RouteLabel, Timing};

/// What a client asked last: the command's row, and what became of it.
type Kind = (Option<&'static Spec>, Option<Discriminant<Route>>);

/// Counts the requests that one thread takes.
#[derive(Debug, Default)]
pub struct Timed {
    /// Those that are answered at once.
    pub answered: Timing,
    /// Those that are passed on.
    pub passed: Timing,
    last_answered: Cell<Kind>,
    last_passed: Cell<Option<&'static Spec>>,
    /// Those that are counted now are not all the same.
    is_mixed: Cell<bool>,
}

/// What commands that were passed on together are.
#[derive(Clone, Copy, Debug)]
pub struct PassedKind {
    /// The last one's row.
    pub spec: Option<&'static Spec>,
    /// They are not all the same.
    pub is_mixed: bool,
}

fn is_same(a: Option<&'static Spec>, b: Option<&'static Spec>) -> bool {
    a.map(std::ptr::from_ref) == b.map(std::ptr::from_ref)
}

fn family(spec: Option<&'static Spec>) -> CommandFamily {
    spec.map_or(CommandFamily::Other, |spec| spec.family)
}

impl Timed {
    /// A command is about to be answered.
    #[inline]
    pub fn answers(&self, spec: Option<&'static Spec>, route: &Route) {
        let (last, kind) = (self.last_answered.get(), Some(discriminant(route)));
        if !is_same(last.0, spec) || last.1 != kind {
            self.last_answered.set((spec, kind));
            self.answered.turn_to(route.label(), family(spec));
        }
    }

    /// A command is passed on.
    #[inline]
    pub fn passes(&self, spec: Option<&'static Spec>) {
        // At the beginning nothing is counted yet, and no command has this row.
        if spec.is_none() || !is_same(self.last_passed.get(), spec) {
            self.last_passed.set(spec);
            self.is_mixed.set(self.is_mixed.get() || self.passed.is_counting());
            self.passed.turn_to(RouteLabel::Passthrough, family(spec));
        }
        self.passed.add(1);
    }

    /// What has been passed on since this was last called.
    pub fn passed_kind(&self) -> PassedKind {
        PassedKind { spec: self.last_passed.get(), is_mixed: self.is_mixed.take() }
    }
}
