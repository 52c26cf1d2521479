//! What is traced of the command that a client's task takes now. Most commands are answered at once and are not
//! sampled: for them nothing is made.

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use super::command_trace::{CommandTrace, Root, TraceEnd};
use super::{Traces, UpstreamPart};
use crate::telemetry::clock::Moment;

/// A command that begins.
#[derive(Clone, Debug)]
pub struct Opening {
    /// What is known of it.
    pub root: Root,
    /// When it began.
    pub begun: Moment,
    /// It is traced in any case.
    pub is_sampled: bool,
}

/// That of one client.
#[derive(Debug, Default)]
pub struct CurrentTrace {
    traces: OnceCell<Arc<Traces>>,
    now: RefCell<Now>,
}

#[derive(Debug, Default)]
enum Now {
    /// No command that may be traced is taken.
    #[default]
    Nothing,
    /// One that nobody has worked for yet.
    Opened(Opening),
    Begun(Arc<CommandTrace>),
    /// Somebody else says when it has ended.
    Lent(Arc<CommandTrace>),
    /// Something of a command that was taken before is sent again.
    Again(Arc<CommandTrace>),
}

impl CurrentTrace {
    /// From now on this command is taken.
    pub fn open(&self, traces: &Arc<Traces>, opening: Opening) {
        self.traces.get_or_init(|| traces.clone());
        self.now.replace(Now::Opened(opening));
    }

    /// What is begun from now on is of no command.
    pub fn close(&self) {
        self.now.replace(Now::Nothing);
    }

    /// True while no command that is traced is taken.
    #[must_use]
    pub fn is_free(&self) -> bool {
        matches!(*self.now.borrow(), Now::Nothing)
    }

    /// True of a command that has begun, of which nobody has the duty to say when it ends.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        matches!(*self.now.borrow(), Now::Begun(_))
    }

    /// True while somebody has the duty to say when the command has ended that is taken now.
    #[must_use]
    pub fn is_lent(&self) -> bool {
        matches!(*self.now.borrow(), Now::Lent(_))
    }

    /// Whether the command that is taken now is traced in any case; none where no command is.
    #[must_use]
    pub fn is_sampled(&self) -> Option<bool> {
        match &*self.now.borrow() {
            Now::Nothing => None,
            Now::Opened(opening) => Some(opening.is_sampled),
            Now::Begun(trace) | Now::Lent(trace) | Now::Again(trace) => Some(trace.is_certain()),
        }
    }

    /// The command has been answered with this.
    pub fn settle_with(&self, reply: &[u8]) {
        if let Now::Begun(trace) = &*self.now.borrow() {
            trace.saw(reply);
        }
        self.settle();
    }

    /// The command has been answered, unless somebody has the duty to say so.
    pub fn settle(&self) {
        if matches!(*self.now.borrow(), Now::Begun(_)) {
            self.take().into_iter().for_each(TraceEnd::answered);
        }
        self.close();
    }

    /// The command's trace; none where it is not to be traced.
    #[inline]
    pub fn get(&self) -> Option<Arc<CommandTrace>> {
        if matches!(*self.now.borrow(), Now::Nothing) {
            return None;
        }
        self.begun()
    }

    #[cold]
    fn begun(&self) -> Option<Arc<CommandTrace>> {
        let mut now = self.now.borrow_mut();
        match &*now {
            Now::Nothing => None,
            Now::Begun(trace) | Now::Lent(trace) | Now::Again(trace) => Some(trace.clone()),
            Now::Opened(Opening { root, begun, is_sampled }) => {
                let trace = CommandTrace::begin(self.traces.get()?, root.clone(), *begun, *is_sampled);
                *now = Now::Begun(trace.clone());
                Some(trace)
            }
        }
    }

    /// The duty to say when the command ends, which nobody has yet; what is begun from now on is of no command.
    #[inline]
    pub fn take(&self) -> Option<TraceEnd> {
        if matches!(*self.now.borrow(), Now::Nothing | Now::Lent(_) | Now::Again(_)) {
            return None;
        }
        let trace = self.begun();
        self.close();
        trace.map(TraceEnd::of)
    }

    /// The same; what is begun from now on is still of this command, until it is closed.
    pub fn lend(&self) -> Option<TraceEnd> {
        let end = self.take()?;
        self.now.replace(Now::Lent(end.trace().clone()));
        Some(end)
    }

    /// Sends something of a command again, whatever is taken meanwhile.
    pub fn again<T>(&self, trace: Option<Arc<CommandTrace>>, send: impl FnOnce() -> T) -> T {
        let meanwhile = self.now.replace(trace.map_or(Now::Nothing, Now::Again));
        let sent = send();
        self.now.replace(meanwhile);
        sent
    }

    /// What is sent to the upstream now.
    #[inline]
    pub fn upstream_part(&self) -> Option<Box<UpstreamPart>> {
        let trace = self.get()?;
        let is_again = matches!(*self.now.borrow(), Now::Again(_));
        Some(Box::new(UpstreamPart::of(trace, is_again)))
    }
}
