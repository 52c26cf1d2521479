//! The connections of the admin port. Anybody may open some, so that they are few, and one that asks for nothing is not
//! waited for: probes come through, and the descriptors are there for clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use crate::telemetry::metrics::AdminMetrics;

/// So many connections are open at once.
const MOST: usize = 64;

/// How long the head of a request may take, and a connection may be idle.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long no connection is accepted after one could not be.
const PAUSE: Duration = Duration::from_secs(1);

/// A connection that is open.
struct Visit {
    task: AbortHandle,
    /// How many requests of it are being answered.
    busy: Arc<AtomicUsize>,
}

/// A request is being answered for as long as this is there.
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn begin(busy: &Arc<AtomicUsize>) -> Self {
        busy.fetch_add(1, Relaxed);
        Self(busy.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Serves for ever. Dropping the future stops it.
pub(super) async fn serve(listener: TcpListener, routes: Router, metrics: &AdminMetrics) {
    // The one that has been open for longest stands first.
    let mut visits: Vec<Visit> = Vec::new();
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // The port for clients, to which the same happens, says it to the operator.
                tracing::debug!(%error, "the admin port cannot accept a connection; it tries again in a second");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        visits.retain(|visit| !visit.task.is_finished());
        if visits.len() >= MOST {
            metrics.refused("connections");
            let Some(idle) = visits.iter().position(|visit| visit.busy.load(Relaxed) == 0) else { continue };
            visits.remove(idle).task.abort();
        }
        let busy = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(visit(stream, address, routes.clone(), busy.clone()));
        visits.push(Visit { task: task.abort_handle(), busy });
    }
}

/// Answers the requests of one connection.
async fn visit(stream: TcpStream, address: SocketAddr, routes: Router, busy: Arc<AtomicUsize>) {
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(address));
        let (busy, answer) = (Busy::begin(&busy), routes.call(request));
        async move {
            let _busy = busy;
            answer.await
        }
    });
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    // A connection that ends in the middle is the visitor's own affair.
    let _ended = protocol.serve_connection(TokioIo::new(stream), service).await;
}
