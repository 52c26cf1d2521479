//! What is asked of the loads in flight, and what they answer.

use std::sync::Arc;

use super::waiting::Waiter;
use crate::cache::entry::{Entry, Use};
use crate::telemetry::Traces;
use crate::telemetry::traces::{CommandTrace, LoadTrace};

/// A reader's part in a load.
pub(super) enum Begun {
    /// It was loaded in the meantime.
    There(Arc<Entry>),
    /// It is being loaded.
    Joined(Waiter),
}

/// Who wants a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Somebody waits for it.
    Asked,
    /// Nobody has asked for it; the key was used last at this moment.
    Background(Use),
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    /// The epoch of the key's mapping.
    pub(super) epoch: u64,
    pub(super) wish: Wish,
    /// Its command, and where traces of others go.
    pub(super) traced: Traced<'a>,
}

/// What of a load may be traced.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traced<'a> {
    pub(super) command: Option<&'a Arc<CommandTrace>>,
    pub(super) traces: Option<&'a Arc<Traces>>,
}

impl Traced<'_> {
    /// That of a load that begins.
    pub(super) fn begins(self) -> Option<LoadTrace> {
        match self.command {
            Some(command) => Some(LoadTrace::of(command.clone())),
            None => self.traces.and_then(LoadTrace::alone),
        }
    }
}
