//! Opens a connection, which is greeted (`greeting.rs`) before it is anybody's.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::Endpoint;
use super::circuit::Turn;
use super::error::ConnectError;
use super::greeting::{Greeted, NAMING, greet};
use super::group::{Group, Login};
use super::stream::Stream;
use super::target::Target;
use crate::resp::reply::ReplyScanner;
use crate::telemetry::out_of_files;

/// An open connection that has been greeted.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) stream: Stream,
    /// The upstream's id of it, if the upstream tells (CLIENT ID).
    pub(crate) id: Option<i64>,
    /// The number of the location that it leads to.
    pub(crate) generation: u64,
    /// A busy upstream (a script that runs for long) did not take all of the greeting.
    pub(crate) is_incomplete: bool,
    /// The server may name its primary instead of an answer, if it is asked to.
    pub(crate) may_redirect: bool,
}

/// Connects when it is its turn, within `connect_timeout`, and says hello.
pub(crate) async fn connect(endpoint: &Endpoint, group: &Group) -> Result<Connected, ConnectError> {
    connect_in(endpoint.circuit.turn().await, endpoint, group).await
}

/// The same, when it is its turn.
pub(crate) async fn connect_in(turn: Turn<'_>, endpoint: &Endpoint, group: &Group) -> Result<Connected, ConnectError> {
    let connected = connect_now(endpoint, group).await;
    if let Err(ConnectError::Refused(text)) = &connected {
        match &endpoint.node {
            Some(node) => endpoint.logins.refused_by_node(&group.login, text, node.to_string()),
            None => endpoint.logins.refused(&group.login, text),
        }
    }
    match &connected {
        Err(error @ ConnectError::Unreachable(..)) => {
            let attempt = turn.failed(error);
            if attempt == 1 || attempt.is_multiple_of(20) {
                tracing::warn!(error = error.reason(), attempt, "a lane or pinned connection cannot be opened");
            }
        }
        Err(error) if error.may_pass() => {
            if turn.excused(error) {
                tracing::warn!(error = error.reason(), "a lane or pinned connection cannot be opened");
            }
        }
        _ => turn.succeeded(),
    }
    connected
}

/// One attempt that nothing waits for: whether it succeeds says nothing of the upstream to others.
pub(crate) async fn connect_quietly(endpoint: &Endpoint, group: &Group) -> Option<Connected> {
    if endpoint.circuit.attempts() > 0 {
        return None;
    }
    connect_now(endpoint, group).await.ok()
}

/// One attempt to reach an upstream that is there and may take its time: the greeting is answered when what keeps it
/// busy pauses. It says nothing of the upstream to others.
pub(crate) async fn connect_patiently(endpoint: &Endpoint, group: &Group) -> Result<Connected, ConnectError> {
    let settings = &endpoint.settings;
    let patience = if settings.command_timeout.is_zero() { FOREVER } else { settings.command_timeout };
    connect_within(endpoint, group, patience.max(settings.connect_timeout)).await
}

pub(super) async fn connect_now(endpoint: &Endpoint, group: &Group) -> Result<Connected, ConnectError> {
    connect_within(endpoint, group, endpoint.settings.connect_timeout).await
}

/// A connection within `connect_timeout`, and its greeting within `patience`; if the upstream moves meanwhile, another
/// one there. Where it is not known, that may take as long as an attempt.
async fn connect_within(endpoint: &Endpoint, group: &Group, patience: Duration) -> Result<Connected, ConnectError> {
    loop {
        let (target, generation) = endpoint.location.numbered();
        let mut lookout = endpoint.location.lookout(generation);
        match target {
            Ok(target) => tokio::select! {
                // Boxed, because whoever may need a connection would hold the room for all of this.
                greeted = Box::pin(connect_to(&target, endpoint, group, patience)) => {
                    return greeted.map(|(stream, Greeted { id, is_incomplete, may_redirect, .. })| {
                        Connected { stream, id, generation, is_incomplete, may_redirect }
                    });
                }
                () = lookout.moved() => {}
            },
            Err(absent @ (ConnectError::Absent(_) | ConnectError::Retired)) => return Err(absent),
            Err(_) => {
                let moved = tokio::time::timeout(endpoint.settings.connect_timeout, lookout.moved()).await;
                if moved.is_err() {
                    endpoint.location.target()?;
                }
            }
        }
    }
}

/// To this server.
async fn connect_to(
    target: &Target,
    endpoint: &Endpoint,
    group: &Group,
    patience: Duration,
) -> Result<(Stream, Greeted), ConnectError> {
    let unreachable = |why: String| ConnectError::Unreachable(target.name(), why);
    let greeted = async {
        let most = endpoint.settings.connect_timeout;
        let opened = tokio::time::timeout(most, Stream::open(target, most)).await;
        let mut stream = opened.map_err(|_| unreachable(LATE.into()))?.map_err(|error| {
            let is_ours = out_of_files::is_cause_of(&error) || out_of_files::is_so_now();
            if is_ours { ConnectError::NoFiles } else { unreachable(error.to_string()) }
        })?;
        let greeted = greet(endpoint, &mut stream, target, group).await;
        let greeted = greeted.map_err(|error| unreachable(error.to_string()))??;
        if group.login == Login::Service {
            endpoint.metrics.forbidden.note(NAMING, greeted.is_nameless);
        }
        Ok((stream, greeted))
    };
    match tokio::time::timeout(patience, greeted).await {
        Ok(result) => result,
        Err(_) => Err(unreachable(LATE.into())),
    }
}

/// Why there is none, where nothing says more.
pub(super) const LATE: &str = "no connection in time";

/// A time that no greeting takes.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Reads one whole reply of at most so many bytes; what follows it stays in `buffer`.
pub(super) async fn read_reply(
    stream: &mut Stream,
    buffer: &mut BytesMut,
    scanner: &mut ReplyScanner,
    most: usize,
) -> io::Result<Bytes> {
    let mut scanned = 0;
    loop {
        let step =
            scanner.scan(&buffer[scanned..]).map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
        scanned += step.used;
        if step.end.is_some() {
            return Ok(buffer.split_to(scanned).freeze());
        }
        if scanned > most {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {most} bytes")));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
