//! Worker threads: each has a runtime of its own, its own lanes and its own clients. Nothing of a client moves between threads.
//!
//! Shutdown: 1. listeners stop; 2. `drain` tells every client, which answers what it owes and closes; 3. what is
//! not gone by the deadline is dropped with its runtime.

use std::cell::RefCell;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream as StdTcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Barrier;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinSet, LocalSet};
use tokio_util::sync::CancellationToken;

use super::admission::{Admission, Admitted, Refusal};
use super::client::Client;
use super::link::{Drain, Link};
use crate::access::{Access, DEFAULT_USER};
use crate::clients::{Listed, Registry, State};
use crate::config::{AuthMode, Limits};
use crate::dispatch::{Context, Owned, Session};
use crate::route::Router;
use crate::telemetry::Metrics;
use crate::telemetry::clock::{millis, now_ms};
use crate::upstream::{Common, Group, Hub, Login, Upstream, Version};

/// An accepted connection, its peer's address and ours.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(StdTcpStream, (String, String)),
    Unix(StdUnixStream, (String, String)),
}

impl Socket {
    fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(_, (peer, _)) => peer.parse::<SocketAddr>().ok().map(|peer| peer.ip()),
            Self::Unix(..) => None,
        }
    }

    /// Says why, as far as that goes without waiting, and closes.
    fn refuse(self, why: Refusal) {
        let error = format!("-{why}\r\n");
        let _told = match self {
            Self::Tcp(mut stream, _) => stream.write(error.as_bytes()),
            Self::Unix(mut stream, _) => stream.write(error.as_bytes()),
        };
        tracing::debug!(why, "a client was refused");
    }
}

/// A client that has been let in.
type Arrival = (Socket, Admitted);

/// What every worker serves with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Decides where requests go.
    pub router: Arc<Router>,
    /// Definitions and cache.
    pub owned: Arc<Owned>,
    /// Users and what they may do.
    pub access: Arc<Access>,
    /// What lanes have in common.
    pub upstream: Arc<Common>,
    /// Everybody's subscriptions, with `pubsub.mode = "shared"`.
    pub hub: Option<Arc<Hub>>,
    /// The upstream's version.
    pub version: Version,
    /// `[limits]`.
    pub limits: Limits,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// The worker threads.
#[derive(Debug)]
pub struct Workers {
    inboxes: Vec<UnboundedSender<Arrival>>,
    threads: Vec<JoinHandle<()>>,
    next: AtomicU64,
    stop: CancellationToken,
    admission: Arc<Admission>,
}

impl Workers {
    /// Starts `count` threads (0: one per core); at shutdown clients have `patience` to end.
    ///
    /// # Errors
    /// A thread or its runtime cannot be made.
    pub fn start(count: usize, setup: &Setup, patience: Duration) -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut workers = Self {
            inboxes: Vec::new(),
            threads: Vec::new(),
            next: AtomicU64::new(0),
            stop: CancellationToken::new(),
            admission: Arc::new(Admission::new(&setup.limits, setup.metrics.clone())),
        };
        let registry = Arc::new(Registry::default());
        if !setup.limits.idle_timeout.is_zero() {
            let idle = end_idle(registry.clone(), setup.limits.idle_timeout, setup.metrics.clone());
            tokio::spawn(workers.stop.clone().run_until_cancelled_owned(idle));
        }
        let count = if count == 0 { cores } else { count };
        let all_done = Arc::new(Barrier::new(count));
        for i in 0..count {
            let (inbox, arrivals) = unbounded_channel();
            let (setup, registry, stop) = (setup.clone(), registry.clone(), workers.stop.clone());
            let all_done = all_done.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new().name(format!("worker-{i}")).spawn(move || {
                let local = LocalSet::new();
                runtime.block_on(local.run_until(work(setup, arrivals, registry, stop, patience)));
                // A load runs on the worker whose client asked first: clients of the others may still wait for it.
                let _late = runtime.block_on(async { tokio::time::timeout(patience, all_done.wait()).await });
            })?;
            workers.inboxes.push(inbox);
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Gives a connection to the next worker in turn, if it may come in.
    pub(super) fn serve(&self, socket: Socket) {
        let admitted = match self.admission.admit(socket.address()) {
            Ok(admitted) => admitted,
            Err(refusal) => return socket.refuse(refusal),
        };
        let turn = self.next.fetch_add(1, Relaxed) as usize % self.inboxes.len();
        // A worker that has ended is one that is shutting down: the connection is closed.
        let _ = self.inboxes[turn].send((socket, admitted));
    }

    /// Ends every client in turn and waits for the threads.
    pub async fn drain(mut self) {
        self.stop.cancel();
        self.inboxes.clear();
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count()
        });
        if joined.await.unwrap_or(1) > 0 {
            tracing::error!("a worker thread ended in a panic");
        }
    }
}

/// Closes clients that have asked nothing for `timeout`, for ever.
async fn end_idle(registry: Arc<Registry>, timeout: Duration, metrics: Arc<Metrics>) {
    let mut ticker = tokio::time::interval((timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(1)));
    loop {
        ticker.tick().await;
        let then = now_ms().saturating_sub(millis(timeout));
        for peer in registry.matching(|peer| peer.is_idle_since(then) && !peer.is_killed()) {
            tracing::debug!(client = peer.id, "a client asked nothing for limits.idle_timeout and is closed");
            metrics.clients_idle.inc();
            peer.kill();
        }
    }
}

async fn work(
    setup: Setup,
    mut arrivals: UnboundedReceiver<Arrival>,
    registry: Arc<Registry>,
    stop: CancellationToken,
    patience: Duration,
) {
    let context = Rc::new(Context {
        router: setup.router.clone(),
        owned: setup.owned.clone(),
        access: setup.access.clone(),
        clients: registry.clone(),
        upstream: Upstream::new(setup.upstream.clone()),
        hub: setup.hub.clone(),
        version: setup.version.clone(),
        metrics: setup.metrics.clone(),
        front: RefCell::default(),
    });
    let drain = Rc::new(Drain::default());
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = clients.join_next() => report(ended),
            Some(arrival) = arrivals.recv() => {
                clients.spawn_local(welcome(arrival, setup.clone(), context.clone(), drain.clone()));
            }
        }
    }
    drain.begin();
    let all_gone = async { while clients.join_next().await.is_some() {} };
    if tokio::time::timeout(patience, all_gone).await.is_err() {
        tracing::warn!("some clients did not end in time and are cut");
    }
}

/// A panic ends one client, not its worker.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a client's task ended in a panic; this is a bug");
    }
}

async fn welcome((socket, _admitted): Arrival, setup: Setup, context: Rc<Context>, drain: Rc<Drain>) {
    match socket {
        Socket::Tcp(stream, addresses) => {
            let listed = list(&context, addresses, stream.as_raw_fd());
            let Ok(stream) = TcpStream::from_std(stream) else { return };
            serve(stream, &listed, setup, context, drain).await;
        }
        Socket::Unix(stream, addresses) => {
            let listed = list(&context, addresses, stream.as_raw_fd());
            let Ok(stream) = UnixStream::from_std(stream) else { return };
            serve(stream, &listed, setup, context, drain).await;
        }
    }
}

fn list(context: &Context, addresses: (String, String), fd: i32) -> Listed {
    let state = State { user: DEFAULT_USER.into(), resp: 2, ..State::default() };
    context.clients.list(addresses, fd, state)
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    listed: &Listed,
    setup: Setup,
    context: Rc<Context>,
    drain: Rc<Drain>,
) {
    let login = if setup.access.mode == AuthMode::Upstream { Login::Nobody } else { Login::Service };
    let db = setup.upstream.target.as_ref().map_or(0, |target| target.db);
    let session = Session::new(listed.peer.clone(), Group { db, login, ..Group::default() }, setup.access.first_user());
    let max_argument = setup.limits.request_argument.0;
    let link = Link::new(listed.peer.clone(), stream, setup.limits, setup.metrics, drain);
    let mut client = Client::new(link, session, context, max_argument);
    client.serve().await;
}
