//! Shows somebody who waits how far something has come: a bar where standard error is a terminal. Elsewhere a line in
//! the log every few seconds, of what takes so long that an operator would ask.

use std::io::IsTerminal;
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// A line of the log comes so often.
const EVERY: Duration = Duration::from_secs(5);

/// How often the bar is drawn while nothing happens.
const DRAWN: Duration = Duration::from_millis(200);

const STYLE: &str = "{prefix} [{bar:24}] {human_pos}/{human_len} {per_sec} {elapsed} {wide_msg}";

const STYLE_OF_UNKNOWN: &str = "{prefix} {spinner} {human_pos} {per_sec} {elapsed} {wide_msg}";

/// What ends sooner has no bar.
const SOON: Duration = Duration::from_millis(500);

/// Those that are shown now, one below the other.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// How far something has come.
#[derive(Debug)]
pub struct Progress {
    what: String,
    is_on_terminal: bool,
    bar: OnceLock<ProgressBar>,
    begun: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the log had a line, or this began.
    told: Instant,
    done: u64,
    expected: u64,
}

impl State {
    /// What is shown as done: what was expected is an estimate.
    fn shown(&self) -> u64 {
        if self.expected > 0 { self.done.min(self.expected) } else { self.done }
    }
}

impl Progress {
    /// Begins now.
    #[must_use]
    pub fn begin(what: &str) -> Self {
        let begun = Instant::now();
        let state = Mutex::new(State { told: begun, done: 0, expected: 0 });
        let (is_on_terminal, bar) = (std::io::stderr().is_terminal(), OnceLock::new());
        Self { what: what.to_owned(), is_on_terminal, bar, begun, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bar, if there is to be one.
    fn bar(&self) -> Option<&ProgressBar> {
        let is_shown = self.is_on_terminal && self.begun.elapsed() >= SOON;
        is_shown.then(|| {
            self.bar.get_or_init(|| {
                let bar = BARS.add(ProgressBar::no_length()).with_prefix(self.what.clone());
                let bar = bar.with_elapsed(self.begun.elapsed());
                bar.enable_steady_tick(DRAWN);
                bar
            })
        })
    }

    /// It begins at nothing, and goes on to about this many; 0: that is not known.
    pub fn expect(&self, all: u64) {
        let mut state = self.state();
        (state.done, state.expected) = (0, all);
    }

    /// So many more are done, of what this is about; the words say more.
    pub fn advance(&self, more: u64, words: impl FnOnce() -> String) {
        let mut state = self.state();
        state.done += more;
        if let Some(bar) = self.bar() {
            bar.set_style(style(if state.expected > 0 { STYLE } else { STYLE_OF_UNKNOWN }));
            bar.set_length(state.expected);
            bar.set_position(state.shown());
            return bar.set_message(words());
        }
        if !self.is_on_terminal && state.told.elapsed() >= EVERY {
            state.told = Instant::now();
            let (done, expected, seconds) = (state.shown(), state.expected, self.begun.elapsed().as_secs());
            let per_second = state.done / seconds.max(1);
            tracing::info!(of = self.what, done, expected, per_second, seconds, "{}", words());
        }
    }

    /// It has ended: the bar goes.
    pub fn end(&self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

/// A bar is only looks: where the text of a style is faulty, it has the library's.
fn style(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}
