//! The idle pinned connections of one worker thread: clean ones, kept for the next client of their group.
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

use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::connect::Connected;
use crate::upstream::endpoint::group::{Credentials, Group, Login};
use crate::upstream::endpoint::logins::Close;

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
    line: Line,
    since: Instant,
    /// One of those of the whole process.
    _place: OwnedSemaphorePermit,
}

impl Idle {
    fn new(line: Line, place: OwnedSemaphorePermit) -> Self {
        line.endpoint.metrics.pinned.idle.inc();
        Self { line, since: Instant::now(), _place: place }
    }

    fn take(self) -> Line {
        self.line.endpoint.metrics.pinned.idle.dec();
        self.line
    }
}

/// Where idle connections lie, and who may still want those of a login.
#[derive(Debug)]
pub(super) struct Shelf {
    endpoint: Arc<Endpoint>,
    idle: RefCell<HashMap<Group, Vec<Idle>>>,
    /// Clients by the credentials that they have shown.
    logins: RefCell<HashMap<Arc<Credentials>, usize>>,
}

impl Shelf {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Rc<Self> {
        Rc::new(Self { endpoint, idle: RefCell::default(), logins: RefCell::default() })
    }

    /// Notes that a client has come in with this login.
    pub(super) fn enter(self: &Rc<Self>, login: &Login, close: Close) -> Option<Member> {
        let Login::Client(credentials) = login else { return None };
        *self.logins.borrow_mut().entry(credentials.clone()).or_default() += 1;
        let number = self.endpoint.logins.enter(credentials, close);
        Some(Member { credentials: credentials.clone(), number, shelf: self.clone() })
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
            Login::Client(credentials) => self.logins.borrow().contains_key(credentials),
            Login::Service | Login::Nobody => true,
        }
    }

    /// Takes one of the group's, if there is one.
    pub(super) fn take(&self, group: &Group) -> Option<Line> {
        let mut idle = self.idle.borrow_mut();
        let lines = idle.get_mut(group)?;
        let line = lines.pop().map(Idle::take);
        if lines.is_empty() {
            idle.remove(group);
        }
        line
    }

    /// Closes those that have been idle for too long.
    pub(super) fn tend(&self) {
        let most = self.endpoint.settings.pinned_idle_time;
        self.close(|_, idle| idle.since.elapsed() >= most);
    }

    /// Closes those that `is_over`.
    fn close(&self, is_over: impl Fn(&Group, &Idle) -> bool) {
        self.idle.borrow_mut().retain(|group, lines| {
            let closed = lines.extract_if(.., |idle| is_over(group, idle));
            closed.for_each(|idle| drop(idle.take()));
            !lines.is_empty()
        });
    }
}

fn close_oldest(idle: &mut HashMap<Group, Vec<Idle>>) {
    let since = |lines: &Vec<Idle>| lines.first().map(|oldest| oldest.since);
    let oldest = idle.iter().filter(|(_, lines)| !lines.is_empty()).min_by_key(|(_, lines)| since(lines));
    let Some(group) = oldest.map(|(group, _)| group.clone()) else { return };
    if let Some(lines) = idle.get_mut(&group) {
        drop(lines.remove(0).take());
        if lines.is_empty() {
            idle.remove(&group);
        }
    }
}

/// A client that has shown its credentials to the upstream, for as long as it is one.
#[derive(Debug)]
pub struct Member {
    credentials: Arc<Credentials>,
    /// Its number among those who may be closed.
    number: u64,
    shelf: Rc<Shelf>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.shelf.endpoint.logins.leave(&self.credentials, self.number);
        let mut logins = self.shelf.logins.borrow_mut();
        let Some(clients) = logins.get_mut(&self.credentials) else { return };
        *clients -= 1;
        if *clients == 0 {
            logins.remove(&self.credentials);
            let is_its = |group: &Group| matches!(&group.login, Login::Client(shown) if *shown == self.credentials);
            self.shelf.close(|group, _| is_its(group));
        }
    }
}
