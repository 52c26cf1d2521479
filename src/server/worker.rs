//! Worker threads: each has a runtime of its own, its own lanes and its own clients. Nothing of a client moves between
//! threads.
//!
//! Shutdown: 1. listeners stop; 2. `drain` tells every client, which answers what it owes and closes; 3. what is
//! not gone by the deadline is dropped with its runtime.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Barrier, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::admission::{Admission, Admitted};
use super::broadcast::Broadcast;
use super::client::Client;
use super::client::connection::Connection;
use super::edition::Edition;
use super::reaper::Reaper;
use super::socket::Socket;
use crate::access::DEFAULT_USER;
use crate::cache::Together;
use crate::clients::{Listed, Registry, State};
use crate::config::AuthMode;
use crate::dispatch::{Newest, Services, Timed};
use crate::near::Front;
use crate::session::Session;
use crate::telemetry::clock::{Tick, millis};
use crate::telemetry::metrics::ClientMetrics;
use crate::telemetry::traces::Sampler;
use crate::telemetry::{LastingPart, Metrics, lasting};
use crate::upstream::{Endpoint, Group, Hub, Login, Upstream};

/// An order to a worker.
enum Order {
    /// Serve a client that has been let in.
    Serve(Socket, Admitted),
    /// Go over to another edition, and say when.
    Adopt(Arc<Edition>, oneshot::Sender<()>),
}

/// What every worker serves with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What the configuration says, until a reload.
    pub edition: Arc<Edition>,
    /// The upstream server.
    pub upstream: Arc<Endpoint>,
    /// Everybody's subscriptions, with `pubsub.mode = "shared"`.
    pub hub: Option<Arc<Hub>>,
    /// The metrics of all parts: what serves clients is given its own, INFO shows those of the others.
    pub metrics: Arc<Metrics>,
}

/// The worker threads.
#[derive(Debug)]
pub struct Workers {
    inboxes: Vec<UnboundedSender<Order>>,
    threads: Vec<JoinHandle<()>>,
    next: AtomicU64,
    stop: CancellationToken,
    admission: Arc<Admission>,
    /// Every client of the process.
    pub registry: Arc<Registry>,
}

/// How far a worker's stack may grow, in bytes: as far as a process's first one. Only what is used takes memory, and a
/// build without optimisations uses a megabyte and more.
const STACK: usize = 8 << 20;
/// How long a client that does not stop asking is answered after a shutdown began.
const LAST: Duration = Duration::from_secs(1);
/// How long a client may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

impl Workers {
    /// Starts `count` threads (0: one per core); at shutdown clients have `patience` to end.
    ///
    /// # Errors
    /// A thread or its runtime cannot be made.
    pub fn start(count: usize, setup: &Setup, patience: Duration) -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let registry = Arc::new(Registry::new(setup.metrics.clients.buffers.clone()));
        let mut workers = Self {
            registry: registry.clone(),
            inboxes: Vec::new(),
            threads: Vec::new(),
            next: AtomicU64::new(0),
            stop: CancellationToken::new(),
            admission: Arc::new(Admission::new(setup.edition.policy.limits.clone(), setup.metrics.clients.clone())),
        };
        let (admission, metrics) = (workers.admission.clone(), setup.metrics.clients.clone());
        let reaper = Reaper { registry: registry.clone(), admission, metrics };
        let reaping = lasting(LastingPart::Reaper, setup.metrics.panics.clone(), async move || reaper.run().await);
        tokio::spawn(workers.stop.clone().run_until_cancelled_owned(reaping));
        let count = if count == 0 { cores } else { count };
        let all_done = Arc::new(Barrier::new(count));
        for i in 0..count {
            let (inbox, mut orders) = unbounded_channel();
            let (setup, registry, stop) = (setup.clone(), registry.clone(), workers.stop.clone());
            let all_done = all_done.clone();
            let (begun, begins) = sync_channel(1);
            let builder = std::thread::Builder::new().name(format!("worker-{i}")).stack_size(STACK);
            let thread = builder.spawn(move || {
                // It cannot be moved to another thread, and therefore serves tasks that cannot be moved either.
                let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(begun.send(Err(error))),
                };
                let _awaited = begun.send(Ok(()));
                let panics = setup.metrics.panics.clone();
                let mut worker = Worker::new(i, setup, registry);
                runtime.block_on(async {
                    tokio::task::spawn_local(worker.tend());
                    let work = async || worker.work(&mut orders, &stop, patience).await;
                    lasting(LastingPart::Worker, panics, work).await;
                });
                // A load runs on the worker whose client asked first: clients of the others may still wait for it.
                let _late = runtime.block_on(async { tokio::time::timeout(patience, all_done.wait()).await });
                // Nobody waits for name look-ups that are still under way.
                runtime.shutdown_background();
            })?;
            begins.recv().map_err(io::Error::other)??;
            workers.inboxes.push(inbox);
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// Gives a connection to the next worker in turn, if it may come in.
    pub(super) fn serve(&self, socket: Socket) {
        let admitted = match self.admission.admit(socket.address()) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                self.admission.log(refusal, socket.peer());
                return socket.refuse();
            }
        };
        let turn = self.next.fetch_add(1, Relaxed) as usize % self.inboxes.len();
        // A worker that has ended is one that is shutting down: the connection is closed.
        let _ = self.inboxes[turn].send(Order::Serve(socket, admitted));
    }

    /// Takes every client over to another edition. When this returns, no client takes a request by the old one, and no
    /// write queues in its cache: an EXEC that has been taken and waits is looked at again before its writes queue.
    pub async fn adopt(&self, edition: &Arc<Edition>) {
        self.admission.change(edition.policy.limits.clone());
        for inbox in &self.inboxes {
            let (done, told) = oneshot::channel();
            // A worker that has ended serves nobody.
            if inbox.send(Order::Adopt(edition.clone(), done)).is_ok() {
                let _ended = told.await;
            }
        }
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

/// One worker thread.
struct Worker {
    setup: Setup,
    newest: Rc<Newest>,
    services: Rc<Services>,
    broadcast: Rc<Broadcast>,
}

impl Worker {
    fn new(number: usize, setup: Setup, registry: Arc<Registry>) -> Self {
        let upstream = Rc::new(Upstream::new(setup.upstream.clone()));
        let newest = Rc::default();
        let services = services(&newest, &setup, number, registry, upstream);
        Self { services, newest, setup, broadcast: Rc::default() }
    }

    /// Closes what is idle, for ever.
    fn tend(&self) -> impl Future<Output = ()> + 'static + use<> {
        let (upstream, panics) = (self.services.upstream.clone(), self.setup.metrics.panics.clone());
        lasting(LastingPart::IdleConnections, panics, async move || upstream.tend().await)
    }

    async fn work(&mut self, orders: &mut UnboundedReceiver<Order>, stop: &CancellationToken, patience: Duration) {
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = clients.join_next() => report(ended, &self.setup.metrics.clients),
                Some(order) = orders.recv() => match order {
                    Order::Serve(socket, admitted) => drop(clients.spawn_local(self.welcome(socket, admitted))),
                    Order::Adopt(edition, done) => {
                        self.adopt(edition);
                        // The one who asked may have gone.
                        let _ = done.send(());
                    }
                },
            }
        }
        // Those who came last are answered, too.
        while let Ok(order) = orders.try_recv() {
            if let Order::Serve(socket, admitted) = order {
                clients.spawn_local(self.welcome(socket, admitted));
            }
        }
        self.broadcast.drain(Tick::now().plus(millis(LAST.min(patience / 2))));
        let all_gone = async {
            while let Some(ended) = clients.join_next().await {
                report(ended, &self.setup.metrics.clients)
            }
        };
        if tokio::time::timeout(patience, all_gone).await.is_err() {
            tracing::warn!(clients = clients.len(), "some clients did not end in time and are cut");
        }
    }

    fn welcome(&self, socket: Socket, admitted: Admitted) -> impl Future<Output = ()> + 'static + use<> {
        let (setup, services) = (self.setup.clone(), self.services.clone());
        welcome(socket, admitted, setup, services, self.broadcast.clone())
    }

    /// Every client goes over before its next request.
    fn adopt(&mut self, edition: Arc<Edition>) {
        self.setup.edition = edition;
        let (clients, upstream) = (self.services.clients.clone(), self.services.upstream.clone());
        self.services = services(&self.newest, &self.setup, self.services.worker, clients, upstream);
        self.broadcast.announce();
    }
}

/// What the clients of the worker of this number are answered with from now on.
fn services(
    newest: &Rc<Newest>,
    setup: &Setup,
    worker: usize,
    clients: Arc<Registry>,
    upstream: Rc<Upstream>,
) -> Rc<Services> {
    let Edition { router, owned, near, access, about, modes, policy, .. } = &*setup.edition;
    newest.succeed(|edition| Services {
        router: router.clone(),
        owned: owned.clone(),
        near: near.clone(),
        near_front: RefCell::new(Front::new(near.as_ref())),
        access: access.clone(),
        about: about.clone(),
        modes: modes.clone(),
        policy: policy.clone(),
        edition,
        worker,
        clients,
        upstream,
        hub: setup.hub.clone(),
        metrics: setup.metrics.clone(),
        timed: Timed::default(),
        sampler: Sampler::new(policy.sample),
        front: RefCell::new(owned.cache.thread_cache()),
        together: Together::default(),
    })
}

/// A panic ends one client, not its worker.
fn report(ended: Result<(), tokio::task::JoinError>, metrics: &ClientMetrics) {
    if let Err(error) = ended
        && error.is_panic()
    {
        metrics.panics.inc();
        tracing::error!(%error, "a client's task ended in a panic; this is a bug");
    }
}

/// Serves a client until it leaves; it counts as connected for as long as this runs.
async fn welcome(socket: Socket, _in: Admitted, setup: Setup, services: Rc<Services>, broadcast: Rc<Broadcast>) {
    match socket {
        Socket::Tcp(stream, addresses) => {
            let listed = list(&services, addresses, stream.as_raw_fd());
            let Ok(stream) = TcpStream::from_std(stream) else { return };
            client(stream, &listed, setup, services, broadcast).serve().await;
        }
        Socket::Unix(stream, addresses) => {
            let listed = list(&services, addresses, stream.as_raw_fd());
            let Ok(stream) = UnixStream::from_std(stream) else { return };
            client(stream, &listed, setup, services, broadcast).serve().await;
        }
        // A separate allocation, so that the tasks of other clients do not become as large as TLS needs.
        Socket::Tls(stream, addresses) => Box::pin(welcome_tls(stream, addresses, setup, services, broadcast)).await,
    }
}

async fn welcome_tls(
    stream: std::net::TcpStream,
    addresses: (String, String),
    setup: Setup,
    services: Rc<Services>,
    broadcast: Rc<Broadcast>,
) {
    let listed = list(&services, addresses, stream.as_raw_fd());
    let (Ok(stream), Some(tls)) = (TcpStream::from_std(stream), setup.edition.tls.clone()) else { return };
    match tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => client(stream, &listed, setup, services, broadcast).serve().await,
        Ok(Err(error)) => {
            setup.metrics.clients.tls_failures.inc();
            let address = &listed.peer.addresses.0;
            tracing::debug!(client = listed.peer.id, address, %error, "a client did not get through the TLS handshake");
        }
        Err(_) => drop(setup.metrics.clients.tls_failures.inc()),
    }
}

fn list(services: &Services, addresses: (String, String), fd: i32) -> Listed {
    let state = State { user: DEFAULT_USER.into(), resp: 2, ..State::default() };
    services.clients.list(addresses, fd, services.worker, state)
}

/// A separate function, so that what is moved into a client takes no second place in the task's memory.
fn client<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    listed: &Listed,
    setup: Setup,
    services: Rc<Services>,
    broadcast: Rc<Broadcast>,
) -> Client<S> {
    let login = if services.access.mode == AuthMode::Upstream { Login::Nobody } else { Login::Service };
    let db = setup.upstream.first_database();
    let session =
        Session::new(listed.peer.clone(), Group { db, login, ..Group::default() }, services.access.first_user());
    let connection =
        Connection::new(&session, stream, services.policy.limits.clone(), setup.metrics.clients.clone(), broadcast);
    Client::new(connection, session, services)
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::report;
    use crate::telemetry::Metrics;

    #[tokio::test]
    async fn a_panic_ends_one_task_and_is_counted() {
        let metrics = Metrics::default().clients;
        let mut tasks = JoinSet::new();
        tasks.spawn(async { assert_eq!(1, 2, "a bug") });
        tasks.spawn(async {});
        while let Some(ended) = tasks.join_next().await {
            report(ended, &metrics);
        }
        assert_eq!(metrics.panics.get(), 1);
    }
}
