//! Copies the keys of the upstream that a mapping matches into the store, once each, while the application goes on:
//! `walk` goes over the upstream, `copying` takes what the store has no row for, `settling` compares behind it and
//! takes back what the application has deleted meanwhile, `report` counts. `hidden` only counts. Knows no client and
//! no cache.
//!
//! What is done is known by the store alone: a key that it has a row for is passed over. So it can be ended at any
//! moment and begun again.

mod copying;
mod hidden;
mod report;
mod settling;
mod side;
mod walk;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

pub use hidden::{Hidden, elsewhere, hidden};
pub use report::Report;

use crate::config::{Shape, Upstream};
use crate::keys::Keyspace;
use crate::mapping::Mapping;
use crate::store::{Plan, Store, StoreError};
use crate::telemetry::Progress;
use crate::upstream::{NotTold, Topology};
use settling::Unsettled;

/// For so long it goes on trying while the upstream or the store does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause before it tries again.
const PAUSE: Duration = Duration::from_millis(500);

/// So many times all keys are listed, where that is for keys that may be refused or vanish again and again.
const PASSES: u32 = 4;

/// What comes back with the notices of what it writes.
const ORIGIN: &str = "import";

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// So many keys are read and written at once.
    pub batch: usize,
    /// So many keys are copied in a second, at most.
    pub rate: Option<u32>,
    /// Nothing is written.
    pub is_dry: bool,
    /// Keys that both sides have already are compared, too.
    pub compares_all: bool,
    /// Keys that end are copied although the mapping has no column for that.
    pub forgets_ends: bool,
}

/// Why it cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The upstream does not tell.
    #[error("the upstream: {0}")]
    Upstream(#[from] NotTold),
    /// The store does not take it.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Keys are on their way between servers of the upstream, and do not arrive.
    #[error(
        "the upstream: some keys belong to slots that move from node to node and do not arrive; end the moves \
         (redis-cli --cluster check, --cluster fix)"
    )]
    Restless,
}

impl Trouble {
    /// True when it may go well at another time.
    const fn is_passing(&self) -> bool {
        match self {
            Self::Upstream(NotTold::Forbidden(_)) => false,
            Self::Upstream(NotTold::Silent(_)) | Self::Restless => true,
            Self::Store(error) => error.is_of_the_moment() || error.may_have_changed(),
        }
    }
}

/// Where keys come from, and where they go.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'i> {
    /// The upstream.
    pub topology: &'i Topology,
    /// Its settings.
    pub upstream: &'i Upstream,
    /// Which keys are whose.
    pub keyspace: &'i Keyspace,
    /// The store.
    pub store: &'i Store,
    /// How the mapping is written.
    pub plan: &'i Plan,
}

/// One import.
#[derive(Debug)]
struct Import<'i> {
    ends: Ends<'i>,
    wishes: Wishes,
    stop: CancellationToken,
    progress: Progress,
    report: Report,
    /// What was inserted and has not been found to be right yet.
    unsettled: Vec<Unsettled>,
    /// The processes that the keys are read from. One that has begun since may have lost what it had.
    runs: HashSet<String>,
    /// Keys were not where they were listed, or may be there by now: all are listed once more.
    has_missed: bool,
    /// When the rate lets the next batch begin.
    next: Instant,
    /// So many passes have begun, and so many keys had been copied when the last one did.
    passes: u32,
    copied_before: u64,
}

/// Why nothing can be copied for a mapping, and what to do.
#[must_use]
pub fn unable(mapping: &Mapping, plan: &Plan) -> Option<String> {
    let (name, block) = (mapping.pattern.text(), &mapping.config);
    plan.may_adopt().err()?;
    let do_this = match (&block.table, &block.query) {
        (Some(table), _) if mapping.pattern.is_one_key() => {
            format!("it has no {{placeholder}}, and no row is its own: fill the table {table} yourself")
        }
        (Some(table), _) => format!(
            "its write is not \"through\" or \"deferred\", so that nothing of it is written to the table {table}; set \
             write = \"through\", at least until it is imported"
        ),
        (None, Some(_)) if block.shape == Shape::List => {
            "it is a query, and has no statement that writes an element: give it push (and remove), or fill the \
             tables of the query yourself"
                .to_owned()
        }
        (None, Some(_)) => "it is a query, of which nothing is written: fill its tables yourself".to_owned(),
        (None, None) => "it is a file, which is not written".to_owned(),
    };
    Some(format!("'{name}' cannot be imported: {do_this}"))
}

/// Copies all that is to be copied, and compares it.
///
/// # Errors
/// Why it could not go on, with what was done until then.
pub async fn import(ends: Ends<'_>, wishes: Wishes, stop: CancellationToken) -> (Report, Result<(), Trouble>) {
    let now = Instant::now();
    let mut import = Import {
        ends,
        wishes,
        stop,
        progress: Progress::begin(ends.plan.mapping().pattern.text()),
        report: Report::new(wishes),
        unsettled: Vec::new(),
        runs: HashSet::new(),
        has_missed: false,
        next: now,
        passes: 0,
        copied_before: 0,
    };
    let ended = import.run().await;
    import.progress.end();
    // Those that were copied by an earlier pass were met again.
    import.report.there = import.report.there.saturating_sub(import.copied_before);
    import.report.was_stopped = import.stop.is_cancelled();
    import.report.unsettled = import.unsettled.len() as u64;
    (import.report, ended)
}

impl Import<'_> {
    /// Goes over all keys until none was missed. It gives up when nothing has been done for a while.
    async fn run(&mut self) -> Result<(), Trouble> {
        let (mut done, mut failing) = (0, None);
        loop {
            self.begin_pass();
            let trouble = match self.pass().await {
                Ok(true) => return Ok(()),
                Ok(false) => Trouble::Restless,
                Err(trouble) => trouble,
            };
            let now = self.report.done();
            let since = *failing.filter(|_| now == done).get_or_insert_with(Instant::now);
            (done, failing) = (now, Some(since));
            if !trouble.is_passing() || since.elapsed() >= PATIENCE {
                return Err(trouble);
            }
            if !matches!(trouble, Trouble::Restless) {
                tracing::info!(%trouble, "the import waits, and goes on where it was");
            }
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// What a pass meets again is counted again.
    fn begin_pass(&mut self) {
        self.passes += 1;
        self.has_missed = false;
        self.copied_before = self.report.copied;
        self.report.begin_again();
        if self.wishes.compares_all {
            self.unsettled.retain(Unsettled::is_copied);
        }
    }

    /// A key may be copied when it is met once more: all are listed again, some times.
    const fn try_again(&mut self) {
        self.has_missed |= self.passes < PASSES;
    }

    fn mapping(&self) -> &Mapping {
        self.ends.plan.mapping()
    }

    /// So many keys are copied at once: no more than the rate lets be copied in a second.
    fn batch(&self) -> usize {
        let most = self.wishes.rate.map_or(usize::MAX, |rate| rate as usize);
        self.wishes.batch.min(most).max(1)
    }

    /// Waits until the rate lets so many keys be copied, or the import is to end.
    async fn wait_for_turn(&mut self, keys: usize) {
        let Some(rate) = self.wishes.rate else { return };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep_until(self.next.into()) => {}
        }
        self.next = self.next.max(Instant::now()) + Duration::from_secs_f64(keys as f64 / f64::from(rate.max(1)));
    }

    /// Those of these keys that are the mapping's.
    fn chosen(&self, keys: Vec<Bytes>) -> Vec<Bytes> {
        keys.into_iter().filter(|key| self.ends.keyspace.owner(key) == Some(self.mapping().id)).collect()
    }

    /// So many more keys of the upstream, whoever's they are, were looked at.
    fn show(&self, more: u64) {
        self.progress.advance(more, || self.report.in_short());
    }
}
