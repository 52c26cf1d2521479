//! Opens a connection and greets the upstream: who we are, which protocol, which database.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::circuit::Turn;
use super::stream::Stream;
use super::target::Target;
use crate::resp::reply::ReplyScanner;
use crate::resp::{Proto, decode, encode};
use crate::telemetry::lack::{self, NO_FILES};
use crate::upstream::Common;
use crate::upstream::group::{Group, Login};

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No upstream is configured, and none could be started.
    #[error("ERR hearthside: {0}")]
    Absent(String),
    /// It cannot be reached; trying again later is safe, which is what client libraries understand by LOADING.
    #[error("LOADING hearthside: the upstream {0} does not answer: {1}; the command was not sent")]
    Unreachable(String, String),
    /// Own lack: it is not the upstream's fault.
    #[error("LOADING hearthside: no connection to the upstream can be opened: {NO_FILES}; the command was not sent")]
    NoFiles,
    /// It has as many clients as it may have.
    #[error(
        "LOADING hearthside: the upstream {0} has reached its own maxclients; raise it there, or lower upstream.pinned_max or \
         upstream.lanes here; the command was not sent"
    )]
    Full(String),
    /// The client, or the sidecar, is being closed.
    #[error("LOADING hearthside: the connection is being closed; the command was not sent")]
    Closing,
    /// It answered the greeting with this error.
    #[error("{0}")]
    Refused(String),
    /// Every connection that may be lent to one client alone is lent.
    #[error(
        "ERR hearthside: all {0} pinned connections are in use (upstream.pinned_max) and none came free within \
         upstream.pinned_timeout; the command was not sent"
    )]
    Busy(usize),
}

impl ConnectError {
    /// What happened, for logs: without what only a client must know.
    pub(crate) fn reason(&self) -> String {
        let told = self.to_string();
        let told = ["LOADING hearthside: ", "ERR hearthside: "]
            .iter()
            .find_map(|code| told.strip_prefix(code))
            .unwrap_or(&told);
        told.trim_end_matches("; the command was not sent").to_owned()
    }

    /// True for a lack of something that may be there in a moment, and says nothing of whether the upstream answers.
    pub(crate) const fn may_pass(&self) -> bool {
        matches!(self, Self::NoFiles | Self::Full(_))
    }
}

/// An open connection that has been greeted.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) stream: Stream,
    /// The upstream's id of it, if the upstream tells (CLIENT ID).
    pub(crate) id: Option<i64>,
    /// The number of the place it leads to.
    pub(crate) generation: u64,
    /// A busy upstream (a script that runs for long) did not take all of the greeting.
    pub(crate) is_incomplete: bool,
}

/// Connects when it is its turn, within `connect_timeout`, and says hello.
pub(crate) async fn connect(common: &Common, group: &Group) -> Result<Connected, ConnectError> {
    connect_in(common.circuit.turn().await, common, group).await
}

/// The same, when it is its turn.
pub(crate) async fn connect_in(turn: Turn<'_>, common: &Common, group: &Group) -> Result<Connected, ConnectError> {
    let connected = connect_now(common, group).await;
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
pub(crate) async fn connect_quietly(common: &Common, group: &Group) -> Option<Connected> {
    if common.circuit.attempts() > 0 {
        return None;
    }
    connect_now(common, group).await.ok()
}

async fn connect_now(common: &Common, group: &Group) -> Result<Connected, ConnectError> {
    let (target, generation) = common.place.numbered();
    let target = &target.map_err(ConnectError::Absent)?;
    let unreachable = |why: String| ConnectError::Unreachable(target.name(), why);
    let greeted = async {
        let patience = common.settings.connect_timeout;
        let mut stream = Stream::open(target, patience).await.map_err(|error| {
            let is_ours = lack::is_of_files(&error) || lack::of_files_now();
            if is_ours { ConnectError::NoFiles } else { unreachable(error.to_string()) }
        })?;
        let hello = Hello::to(target, group);
        let greeted = hello.say(&mut stream, target).await.map_err(|error| unreachable(error.to_string()))??;
        if group.login == Login::Service {
            common.metrics.unasked.note(NAMING, greeted.is_nameless);
        }
        Ok(Connected { stream, id: greeted.id, generation, is_incomplete: greeted.is_incomplete })
    };
    match tokio::time::timeout(common.settings.connect_timeout, greeted).await {
        Ok(result) => result,
        Err(_) => Err(unreachable("no connection in time".into())),
    }
}

/// The AUTH request of a connection, if it needs one.
fn auth<'a>(target: &'a Target, login: &'a Login) -> Option<Vec<&'a [u8]>> {
    match login {
        Login::Nobody => None,
        Login::Client(credentials) => Some(credentials.auth()),
        Login::Service => {
            let password = target.password.as_deref()?.as_bytes();
            let user = target.username.as_deref().map(str::as_bytes);
            Some([Some(&b"AUTH"[..]), user, Some(password)].into_iter().flatten().collect())
        }
    }
}

/// What the connection's name is set with.
const NAMING: &str = "CLIENT SETNAME";

/// What one request of the greeting is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Without it the connection is not the group's.
    Needed,
    /// Its name, for whoever looks at the upstream's clients: some users may not, and a busy upstream does not take it.
    Naming,
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
            let reply = match (read_reply(stream, &mut buffer, &mut scanner).await, refused.take()) {
                (Ok(reply), before) => {
                    refused = before;
                    reply
                }
                // It said why and closed.
                (Err(_), Some(text)) => return Ok(Err(ConnectError::Refused(text))),
                (Err(error), None) => return Err(error),
            };
            let Some(text) = decode::error(&reply) else { continue };
            if text.starts_with("ERR max number of clients reached") {
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
                Step::Ready => {}
            }
        }
        greeted.id = decode::integer(&read_reply(stream, &mut buffer, &mut scanner).await?);
        Ok(refused.map_or(Ok(greeted), |text| Err(ConnectError::Refused(text))))
    }
}

/// True for errors of a server that does not let its user run a command, or does not have it.
fn is_forbidden(error: &str) -> bool {
    error.starts_with("NOPERM ") || error.starts_with("ERR unknown command")
}

/// True for errors of a server that is no master now, and may soon be one or have a successor: it loads its data, lost its
/// master, or has become a replica. Another connection may lead to one that takes commands.
pub(crate) fn is_unready(error: &[u8]) -> bool {
    [&b"LOADING "[..], b"MASTERDOWN ", b"READONLY "].iter().any(|code| error.starts_with(code))
}

/// Reads one whole reply; what follows it stays in `buffer`.
async fn read_reply(stream: &mut Stream, buffer: &mut BytesMut, scanner: &mut ReplyScanner) -> io::Result<Bytes> {
    let mut scanned = 0;
    loop {
        let step = scanner.scan(&buffer[scanned..]).map_err(io::Error::other)?;
        scanned += step.used;
        if step.end.is_some() {
            return Ok(buffer.split_to(scanned).freeze());
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
