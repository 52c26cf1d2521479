//! The pinned connections of one worker thread that are lent to nobody: clean ones, for the next client of their group.
//!
//! Invariants:
//! - their number is bounded by group here (`upstream.pinned_idle`) and in the whole process (`upstream.pinned_idle_total`), and
//!   none stays for longer than `upstream.pinned_idle_time`;
//! - one that speaks with a client's own credentials goes with the last client who has shown them: whoever tries names and
//!   passwords leaves nothing behind.

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::BytesMut;
use tokio::sync::OwnedSemaphorePermit;

use super::{Lender, Pinned};
use crate::upstream::Common;
use crate::upstream::endpoint::circuit::backoff;
use crate::upstream::endpoint::connect::{ConnectError, Connected, connect, connect_in};
use crate::upstream::group::{Credentials, Group, Login};
use crate::upstream::pipeline::account::Account;

/// An open connection, counted.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) connected: Option<Connected>,
    pub(crate) common: Arc<Common>,
}

impl Line {
    fn new(connected: Connected, common: Arc<Common>) -> Self {
        common.metrics.pinned.inc();
        Self { connected: Some(connected), common }
    }

    /// True when an idle connection is open and has nothing to say.
    async fn is_quiet(&mut self) -> bool {
        let Some(connected) = &mut self.connected else { return false };
        if !self.common.place.is_at(connected.generation) {
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
        self.common.metrics.pinned.dec();
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
        line.common.metrics.pinned_idle.inc();
        Self { line, since: Instant::now(), _place: place }
    }

    fn take(self) -> Line {
        self.line.common.metrics.pinned_idle.dec();
        self.line
    }
}

/// Where idle connections lie, and who may still want those of a login.
#[derive(Debug)]
pub(crate) struct Shelf {
    common: Arc<Common>,
    idle: RefCell<HashMap<Group, Vec<Idle>>>,
    /// Clients by the credentials that they have shown.
    logins: RefCell<HashMap<Arc<Credentials>, usize>>,
}

impl Shelf {
    /// Keeps a connection that is clean, if there is a place for it.
    pub(crate) fn keep(&self, group: Group, line: Line) {
        let settings = &self.common.settings;
        if settings.pinned_idle_time.is_zero() || !self.is_wanted(&group.login) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.get(&group).is_some_and(|lines| lines.len() >= settings.pinned_idle) || settings.pinned_idle == 0 {
            return;
        }
        let place = self.common.gate.keep().or_else(|| {
            // The oldest one here makes room.
            close_oldest(&mut idle);
            self.common.gate.keep()
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

    fn take(&self, group: &Group) -> Option<Line> {
        let mut idle = self.idle.borrow_mut();
        let lines = idle.get_mut(group)?;
        let line = lines.pop().map(Idle::take);
        if lines.is_empty() {
            idle.remove(group);
        }
        line
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
    shelf: Rc<Shelf>,
}

impl Drop for Member {
    fn drop(&mut self) {
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

/// Lends pinned connections to the clients of one worker thread.
#[derive(Debug)]
pub(crate) struct Pool {
    common: Arc<Common>,
    shelf: Rc<Shelf>,
}

impl Pool {
    pub(crate) fn new(common: Arc<Common>) -> Self {
        let shelf = Shelf { common: common.clone(), idle: RefCell::default(), logins: RefCell::default() };
        Self { common, shelf: Rc::new(shelf) }
    }

    /// Notes that a client has come in with this login.
    pub(crate) fn enter(&self, login: &Login) -> Option<Member> {
        let Login::Client(credentials) = login else { return None };
        *self.shelf.logins.borrow_mut().entry(credentials.clone()).or_default() += 1;
        Some(Member { credentials: credentials.clone(), shelf: self.shelf.clone() })
    }

    /// Closes what has been idle for too long.
    pub(crate) fn tend(&self) {
        let most = self.common.settings.pinned_idle_time;
        self.shelf.close(|_, idle| idle.since.elapsed() >= most);
    }

    /// An idle connection or a new one, when there may be one more.
    pub(crate) async fn take(&self, group: &Group, account: &Rc<Account>) -> Result<Pinned, ConnectError> {
        let mut place = self.common.place.lookout(0);
        tokio::select! {
            biased;
            () = place.resumed() => {}
            () = self.common.gate.closing() => return Err(ConnectError::Closing),
        }
        let permit = self.common.gate.enter().await?;
        // One that was given back a moment ago is idle when its task has run.
        tokio::task::yield_now().await;
        while let Some(mut line) = self.shelf.take(group) {
            if line.is_quiet().await {
                return Ok(Pinned::lend(line, group, account, Lender { shelf: &self.shelf, permit }));
            }
        }
        let line = Line::new(self.connect(group).await?, self.common.clone());
        Ok(Pinned::lend(line, group, account, Lender { shelf: &self.shelf, permit }))
    }

    /// Waits for an upstream that is away like what waits on a lane does.
    async fn connect(&self, group: &Group) -> Result<Connected, ConnectError> {
        let connect = async {
            let mut attempt = 0;
            loop {
                match connect(&self.common, group).await {
                    Err(ConnectError::Unreachable(..)) if !self.common.circuit.is_open() => {}
                    Err(error) if error.may_pass() => {
                        attempt += 1;
                        tokio::time::sleep(backoff(attempt)).await;
                    }
                    connected => return connected,
                }
            }
        };
        if self.common.circuit.is_open() {
            // Nobody waits, but somebody must try.
            return match self.common.circuit.take() {
                Ok(turn) => connect_in(turn, &self.common, group).await,
                Err(_) => Err(self.common.unreachable()),
            };
        }
        tokio::select! {
            connected = tokio::time::timeout(self.common.settings.queue_timeout, connect) => {
                connected.unwrap_or_else(|_| Err(self.common.unreachable()))
            }
            () = self.common.gate.closed() => Err(ConnectError::Closing),
        }
    }
}
