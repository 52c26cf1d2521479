//! The idle pinned connections of one worker thread to one server: clean ones, kept for the next client of their group.
//!
//! Invariants:
//! - their number is bounded by group here (`upstream.pinned_idle`) and in the whole process
//!   (`upstream.pinned_idle_total`), and none stays for longer than `upstream.pinned_idle_time`;
//! - one that speaks with a client's own credentials goes with the last client who has shown them: whoever tries names
//!   and passwords leaves nothing behind.

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use crate::telemetry::metrics::PinnedMetrics;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::connect::Connected;
use crate::upstream::endpoint::group::{Group, Login};

/// An open connection, counted.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) connected: Option<Connected>,
    pub(super) endpoint: Arc<Endpoint>,
    /// The name that it has at the upstream; empty: that of the sidecar.
    pub(super) name: Rc<RefCell<Bytes>>,
}

impl Line {
    pub(super) fn new(connected: Connected, endpoint: Arc<Endpoint>) -> Self {
        endpoint.metrics.pinned.open.inc();
        Self { connected: Some(connected), endpoint, name: Rc::default() }
    }

    /// True when an idle connection is open and has nothing to say.
    pub(super) async fn is_quiet(&mut self) -> bool {
        let Some(connected) = &mut self.connected else { return false };
        if !self.endpoint.location.is_at(connected.generation) {
            return false;
        }
        let mut said = BytesMut::new();
        let read = std::future::poll_fn(|cx| {
            let read = tokio_util::io::poll_read_buf(Pin::new(&mut connected.stream), cx, &mut said);
            Poll::Ready(read)
        });
        read.await.is_pending()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.endpoint.metrics.pinned.open.dec();
    }
}

/// One that lies idle, counted too.
#[derive(Debug)]
struct Idle {
    /// There until it is taken.
    line: Option<Line>,
    metrics: Arc<PinnedMetrics>,
    since: Instant,
    /// One of those of the whole process.
    _place: OwnedSemaphorePermit,
}

impl Idle {
    fn new(line: Line, place: OwnedSemaphorePermit) -> Self {
        let metrics = line.endpoint.metrics.pinned.clone();
        metrics.idle.inc();
        Self { line: Some(line), metrics, since: Instant::now(), _place: place }
    }

    fn take(mut self) -> Option<Line> {
        self.line.take()
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.metrics.idle.dec();
    }
}

/// Where idle connections lie.
#[derive(Debug)]
pub(super) struct Shelf {
    endpoint: Arc<Endpoint>,
    idle: RefCell<HashMap<Group, Vec<Idle>>>,
}

impl Shelf {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Rc<Self> {
        Rc::new(Self { endpoint, idle: RefCell::default() })
    }

    /// Keeps a connection that is clean, if there is a place for it.
    pub(super) fn keep(&self, group: Group, line: Line) {
        let settings = &self.endpoint.settings;
        if settings.pinned_idle_time.is_zero() || !self.is_wanted(&group.login) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.get(&group).is_some_and(|lines| lines.len() >= settings.pinned_idle) || settings.pinned_idle == 0 {
            return;
        }
        let place = self.endpoint.permits.keep().or_else(|| {
            // The oldest one here makes room.
            close_oldest(&mut idle);
            self.endpoint.permits.keep()
        });
        if let Some(place) = place {
            idle.entry(group).or_default().push(Idle::new(line, place));
        }
    }

    fn is_wanted(&self, login: &Login) -> bool {
        match login {
            Login::Client(credentials) => self.endpoint.logins.are_in(credentials),
            Login::Service | Login::Nobody => true,
        }
    }

    /// Takes one of the group's, if there is one.
    pub(super) fn take(&self, group: &Group) -> Option<Line> {
        let mut idle = self.idle.borrow_mut();
        let lines = idle.get_mut(group)?;
        let line = lines.pop().and_then(Idle::take);
        if lines.is_empty() {
            idle.remove(group);
        }
        line
    }

    /// Closes those that have been idle for too long, or that nobody may want any more.
    pub(super) fn tend(&self) {
        let most = self.endpoint.settings.pinned_idle_time;
        self.close(|group, idle| idle.since.elapsed() >= most || !self.is_wanted(&group.login));
    }

    /// Closes those that `is_over`.
    fn close(&self, is_over: impl Fn(&Group, &Idle) -> bool) {
        self.idle.borrow_mut().retain(|group, lines| {
            lines.retain(|idle| !is_over(group, idle));
            !lines.is_empty()
        });
    }
}

fn close_oldest(idle: &mut HashMap<Group, Vec<Idle>>) {
    let since = |lines: &Vec<Idle>| lines.first().map(|oldest| oldest.since);
    let oldest = idle.iter().filter(|(_, lines)| !lines.is_empty()).min_by_key(|(_, lines)| since(lines));
    let Some(group) = oldest.map(|(group, _)| group.clone()) else { return };
    if let Some(lines) = idle.get_mut(&group) {
        lines.remove(0);
        if lines.is_empty() {
            idle.remove(&group);
        }
    }
}
