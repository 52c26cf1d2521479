//! Opens a connection and greets the upstream: who we are, which protocol, which database.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Endpoint;
use super::circuit::Turn;
use super::error::{ConnectError, is_forbidden, is_unready};
use super::group::{Group, Login};
use super::stream::Stream;
use super::target::Target;
use crate::errors;
use crate::resp::reply::{ReplyScanner, parts};
use crate::resp::{Proto, decode, encode};
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
}

/// Connects when it is its turn, within `connect_timeout`, and says hello.
pub(crate) async fn connect(endpoint: &Endpoint, group: &Group) -> Result<Connected, ConnectError> {
    connect_in(endpoint.circuit.turn().await, endpoint, group).await
}

/// The same, when it is its turn.
pub(crate) async fn connect_in(turn: Turn<'_>, endpoint: &Endpoint, group: &Group) -> Result<Connected, ConnectError> {
    let connected = connect_now(endpoint, group).await;
    if let Err(ConnectError::Refused(text)) = &connected {
        endpoint.logins.refused(&group.login, text);
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
                connected = connect_to((&target, generation), endpoint, group, patience) => return connected,
                () = lookout.moved() => {}
            },
            Err(absent @ ConnectError::Absent(_)) => return Err(absent),
            Err(_) => {
                let moved = tokio::time::timeout(endpoint.settings.connect_timeout, lookout.moved()).await;
                if moved.is_err() {
                    endpoint.location.target()?;
                }
            }
        }
    }
}

/// To the server that the location of this number leads to.
async fn connect_to(
    (target, generation): (&Target, u64),
    endpoint: &Endpoint,
    group: &Group,
    patience: Duration,
) -> Result<Connected, ConnectError> {
    let unreachable = |why: String| ConnectError::Unreachable(target.name(), why);
    let greeted = async {
        let most = endpoint.settings.connect_timeout;
        let opened = tokio::time::timeout(most, Stream::open(target, most)).await;
        let mut stream = opened.map_err(|_| unreachable(LATE.into()))?.map_err(|error| {
            let is_ours = out_of_files::is_cause_of(&error) || out_of_files::is_so_now();
            if is_ours { ConnectError::NoFiles } else { unreachable(error.to_string()) }
        })?;
        let hello = Hello::to(target, group);
        let greeted = hello.say(&mut stream, target).await.map_err(|error| unreachable(error.to_string()))??;
        if group.login == Login::Service {
            endpoint.metrics.forbidden.note(NAMING, greeted.is_nameless);
        }
        Ok(Connected { stream, id: greeted.id, generation, is_incomplete: greeted.is_incomplete })
    };
    match tokio::time::timeout(patience, greeted).await {
        Ok(result) => result,
        Err(_) => Err(unreachable(LATE.into())),
    }
}

/// The AUTH request of a connection, if it needs one.
fn auth<'a>(target: &'a Target, login: &'a Login) -> Option<Vec<&'a [u8]>> {
    match login {
        Login::Nobody => None,
        Login::Client(credentials) => Some(credentials.auth()),
        Login::Service => {
            let login = &target.access.login;
            let (user, password) = (login.username().map(str::as_bytes), login.password()?.as_bytes());
            Some([Some(&b"AUTH"[..]), user, Some(password)].into_iter().flatten().collect())
        }
    }
}

/// Why there is none, where nothing says more.
const LATE: &str = "no connection in time";

/// A time that no greeting takes.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What the connection's name is set with.
const NAMING: &str = "CLIENT SETNAME";

/// Longest reply to a request of the greeting.
const MOST_GREETING: usize = 1 << 20;

/// What one request of the greeting is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Without it the connection is not the group's.
    Needed,
    /// Its name, for whoever looks at the upstream's clients: some users may not, and a busy upstream does not take it.
    Naming,
    /// Whether it is a master (ROLE), where it must be one; a server that does not let its user ask is believed.
    Master,
    /// Whether commands are taken already (PING): whether it may ask is its own business.
    Ready,
}

/// The first requests of a connection; CLIENT ID comes last, and may fail.
struct Hello {
    bytes: BytesMut,
    steps: Vec<Step>,
}

/// What came of it.
#[derive(Debug, Default)]
struct Greeted {
    /// The upstream's id of the connection.
    id: Option<i64>,
    is_incomplete: bool,
    is_nameless: bool,
}

impl Hello {
    fn to(target: &Target, group: &Group) -> Self {
        let mut hello = Self { bytes: BytesMut::new(), steps: Vec::new() };
        let mut add = |step: Step, words: &[&[u8]]| {
            encode::request(&mut hello.bytes, words);
            hello.steps.push(step);
        };
        if let Some(auth) = auth(target, &group.login) {
            add(Step::Needed, &auth);
        }
        if group.proto == Proto::Resp3 {
            add(Step::Needed, &[b"HELLO", b"3"]);
        }
        add(Step::Naming, &[b"CLIENT", b"SETNAME", b"hearthside"]);
        if group.db != 0 {
            add(Step::Needed, &[b"SELECT", group.db.to_string().as_bytes()]);
        }
        if target.must_be_master {
            add(Step::Master, &[b"ROLE"]);
        }
        add(Step::Ready, &[b"PING"]);
        encode::request(&mut hello.bytes, &["CLIENT", "ID"]);
        hello
    }

    /// Says it, and learns the upstream's id of the connection.
    async fn say(self, stream: &mut Stream, target: &Target) -> io::Result<Result<Greeted, ConnectError>> {
        stream.write_all(&self.bytes).await?;
        let (mut buffer, mut scanner) = (BytesMut::new(), ReplyScanner::default());
        let (mut greeted, mut refused) = (Greeted::default(), None);
        for step in self.steps {
            let reply = match (read_reply(stream, &mut buffer, &mut scanner, MOST_GREETING).await, refused.take()) {
                (Ok(reply), before) => {
                    refused = before;
                    reply
                }
                // It said why and closed.
                (Err(_), Some(text)) => return Ok(Err(ConnectError::Refused(text))),
                (Err(error), None) => return Err(error),
            };
            if step == Step::Master && is_no_master(&reply) {
                return Ok(Err(ConnectError::Unreachable(target.name(), "it is no master any more".into())));
            }
            let Some(text) = decode::error(&reply) else { continue };
            if text.starts_with(errors::as_redis::MAX_CLIENTS) {
                return Ok(Err(ConnectError::Full(target.name())));
            }
            if is_unready(text.as_bytes()) {
                return Ok(Err(ConnectError::Unreachable(target.name(), text)));
            }
            match step {
                // A server may have no such command: it was renamed, or taken away from everybody.
                Step::Naming if is_forbidden(&text) => greeted.is_nameless = true,
                Step::Naming if text.starts_with("BUSY ") => greeted.is_incomplete = true,
                Step::Needed | Step::Naming => refused = refused.or(Some(text)),
                Step::Master | Step::Ready => {}
            }
        }
        greeted.id = decode::integer(&read_reply(stream, &mut buffer, &mut scanner, MOST_GREETING).await?);
        Ok(refused.map_or(Ok(greeted), |text| Err(ConnectError::Refused(text))))
    }
}

/// True if an answer to ROLE says that it is something else.
fn is_no_master(role: &[u8]) -> bool {
    let said = parts(role).and_then(|parts| decode::bulk(parts.first()?));
    said.is_some_and(|role| role != b"master")
}

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
