//! The first requests of a connection: who we are, which protocol, which database, and whether commands are taken.
//!
//! HELLO says most of it at once, needs no permission, and tells the upstream's id of the connection. A server that
//! does not know it is greeted in more words. What is said here is left out of what monitors are shown
//! (`upstream/pipeline/monitor_lines.rs`), which goes by the name and by [`PING`].

use std::io;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;

use super::Endpoint;
use super::connect::read_reply;
use super::error::{ConnectError, is_forbidden, is_unready};
use super::group::{Group, Login};
use super::stream::Stream;
use super::target::Target;
use super::version::told_by_hello;
use crate::errors;
use crate::errors::as_redis;
use crate::resp::reply::{ReplyScanner, parts};
use crate::resp::{Proto, decode, encode};

/// The name of a connection that is no client's own.
pub(crate) const NAME: &str = "hearthside";

/// How the upstream is asked whether it is there.
pub const PING: [&str; 2] = ["PING", NAME];

/// Why a server is not taken that must be a master.
pub(super) const NO_MASTER: &str = "it is no master any more";

/// Why a replica is not read that has been started again, or follows another server.
const BEHIND: &str = "it is no replica any more that has all it had before";

/// What the connection's name is set with where there is no HELLO.
pub(super) const NAMING: &str = "CLIENT SETNAME";

/// Longest reply to a request of the greeting.
const MOST: usize = 1 << 20;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Greeted {
    /// The upstream's id of the connection.
    pub(super) id: Option<i64>,
    pub(super) is_incomplete: bool,
    pub(super) is_nameless: bool,
    /// It may name its primary instead of an answer, if it is asked to.
    pub(super) may_redirect: bool,
}

/// Greets the upstream as the `group` needs it.
pub(super) async fn greet(
    endpoint: &Endpoint,
    stream: &mut Stream,
    target: &Target,
    group: &Group,
) -> io::Result<Result<Greeted, ConnectError>> {
    let login = Shown::to(target, &group.login);
    if endpoint.version.has_hello() {
        match Greeting::short(&login, group, target).say(stream, target).await? {
            Err(Failed::NoHello) if group.proto == Proto::Resp2 => endpoint.version.lacks_hello(),
            Err(Failed::NoHello) => return Ok(Err(ConnectError::Refused(as_redis::UNKNOWN_VERSION.to_owned()))),
            Err(Failed::For(error)) => return Ok(Err(error)),
            Ok(greeted) => return Ok(Ok(greeted)),
        }
    }
    Ok(match Greeting::long(&login, group, target).say(stream, target).await? {
        Ok(greeted) => Ok(greeted),
        Err(Failed::For(error)) => Err(error),
        // It is not said.
        Err(Failed::NoHello) => Err(ConnectError::Refused(as_redis::UNKNOWN_VERSION.to_owned())),
    })
}

/// The credentials that a connection shows, if it shows some.
struct Shown<'a>(Option<(Option<&'a [u8]>, &'a [u8])>);

impl<'a> Shown<'a> {
    fn to(target: &'a Target, login: &'a Login) -> Self {
        Self(match login {
            Login::Nobody => None,
            Login::Client(credentials) => Some((credentials.user.as_deref(), &credentials.password)),
            Login::Service => {
                let login = &target.access.login;
                login.password().map(|password| (login.username().map(str::as_bytes), password.as_bytes()))
            }
        })
    }
}

/// What one request of the greeting is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is most of the greeting, and its answer tells the connection's id.
    Hello,
    /// Without it the connection is not the group's.
    Needed,
    /// Its name, for whoever looks at the upstream's clients: some users may not, and a busy upstream does not take it.
    Naming,
    /// Its id, which it may not tell.
    Id,
    /// Whether it is a master, or a replica that is up to date, where it must be one (ROLE); a server that does not let
    /// its user ask is believed.
    Role,
    /// Whether commands are taken already (PING): whether it may ask is its own business.
    Ready,
}

/// Why a connection is not greeted.
enum Failed {
    /// The server does not know the command.
    NoHello,
    For(ConnectError),
}

/// The first requests of a connection.
struct Greeting {
    bytes: BytesMut,
    steps: Vec<Step>,
}

impl Greeting {
    /// That of every server since Redis 6.
    fn short(login: &Shown<'_>, group: &Group, target: &Target) -> Self {
        let mut greeting = Self { bytes: BytesMut::new(), steps: Vec::new() };
        let version = group.proto.number().to_string();
        let mut hello: Vec<&[u8]> = vec![b"HELLO", version.as_bytes()];
        if let Some((user, password)) = login.0 {
            hello.extend([b"AUTH", user.unwrap_or(b"default"), password]);
        }
        hello.extend([&b"SETNAME"[..], NAME.as_bytes()]);
        greeting.add(Step::Hello, &hello);
        greeting.end(group, target)
    }

    /// That of a server without HELLO.
    fn long(login: &Shown<'_>, group: &Group, target: &Target) -> Self {
        let mut greeting = Self { bytes: BytesMut::new(), steps: Vec::new() };
        if let Some((user, password)) = login.0 {
            let auth: Vec<&[u8]> = [Some(&b"AUTH"[..]), user, Some(password)].into_iter().flatten().collect();
            greeting.add(Step::Needed, &auth);
        }
        greeting.add(Step::Naming, &[b"CLIENT", b"SETNAME", NAME.as_bytes()]);
        greeting.add(Step::Id, &[b"CLIENT", b"ID"]);
        if group.proto == Proto::Resp3 {
            greeting.add(Step::Needed, &[b"HELLO", b"3"]);
        }
        if target.must_be_master {
            greeting.add(Step::Role, &[b"ROLE"]);
        }
        greeting.end(group, target)
    }

    fn add(&mut self, step: Step, words: &[&[u8]]) {
        encode::request(&mut self.bytes, words);
        self.steps.push(step);
    }

    fn end(mut self, group: &Group, target: &Target) -> Self {
        if target.floor.is_some() {
            self.add(Step::Role, &[b"ROLE"]);
        }
        if target.is_reader {
            self.add(Step::Needed, &[b"READONLY"]);
        }
        if group.db != 0 {
            self.add(Step::Needed, &[b"SELECT", group.db.to_string().as_bytes()]);
        }
        self.add(Step::Ready, &PING.map(str::as_bytes));
        self
    }

    /// Says it, and learns the upstream's id of the connection.
    async fn say(self, stream: &mut Stream, target: &Target) -> io::Result<Result<Greeted, Failed>> {
        stream.write_all(&self.bytes).await?;
        let (mut buffer, mut scanner) = (BytesMut::new(), ReplyScanner::default());
        let (mut greeted, mut refused, mut has_hello) = (Greeted::default(), None, true);
        for step in self.steps {
            let reply = match (read_reply(stream, &mut buffer, &mut scanner, MOST).await, refused.take()) {
                (Ok(reply), before) => {
                    refused = before;
                    reply
                }
                // It said why and closed.
                (Err(_), Some(text)) => return Ok(Err(Failed::For(ConnectError::Refused(text)))),
                (Err(error), None) => return Err(error),
            };
            if target.must_be_master && is_no_master(step, &reply) {
                return Ok(Err(Failed::For(ConnectError::Unreachable(target.name(), NO_MASTER.to_owned()))));
            }
            if let Some(floor) = &target.floor
                && is_behind(step, &reply, floor.load(Ordering::Acquire))
            {
                return Ok(Err(Failed::For(ConnectError::Unreachable(target.name(), BEHIND.to_owned()))));
            }
            let Some(text) = decode::error(&reply) else {
                greeted.id = greeted.id.or_else(|| id(step, &reply));
                greeted.may_redirect |= step == Step::Hello && is_valkey(&reply);
                continue;
            };
            if text.starts_with(errors::as_redis::MAX_CLIENTS) {
                return Ok(Err(Failed::For(ConnectError::Full(target.name()))));
            }
            if is_unready(text.as_bytes()) {
                return Ok(Err(Failed::For(ConnectError::Unreachable(target.name(), text))));
            }
            match step {
                Step::Hello if text.starts_with(as_redis::UNKNOWN_COMMAND) => has_hello = false,
                // It has words of its own for who has not logged in.
                Step::Hello if text.starts_with(as_redis::NO_AUTH_CODE) => refused = Some(as_redis::NO_AUTH.to_owned()),
                // A server may have no such command: it was renamed, or taken away from everybody.
                Step::Naming if is_forbidden(&text) => greeted.is_nameless = true,
                Step::Naming if text.starts_with("BUSY ") => greeted.is_incomplete = true,
                Step::Hello | Step::Needed | Step::Naming => refused = refused.or(Some(text)),
                Step::Id | Step::Role | Step::Ready => {}
            }
        }
        Ok(match refused {
            _ if !has_hello => Err(Failed::NoHello),
            Some(text) => Err(Failed::For(ConnectError::Refused(text))),
            None => Ok(greeted),
        })
    }
}

/// True if the reply to this request says that the server is no master.
fn is_no_master(step: Step, reply: &Bytes) -> bool {
    let role = match step {
        Step::Hello => told_by_hello(reply, "role"),
        Step::Role => parts(reply).and_then(|said| said.first().copied()),
        _ => None,
    };
    role.and_then(decode::bulk).is_some_and(|role| role != b"master")
}

/// True if the reply to this request says that the server is no replica that has got so many bytes.
fn is_behind(step: Step, reply: &Bytes, floor: u64) -> bool {
    let (Step::Role, Some(said)) = (step, parts(reply)) else { return false };
    let word = |at: usize| said.get(at).copied().and_then(decode::bulk).unwrap_or_default();
    let offset = said.get(4).and_then(|offset| decode::integer(offset)).and_then(|offset| u64::try_from(offset).ok());
    word(0) != b"slave" || word(3) != b"connected" || offset.is_none_or(|offset| offset < floor)
}

/// True if this answer to HELLO is a Valkey's.
fn is_valkey(reply: &Bytes) -> bool {
    told_by_hello(reply, "server").and_then(decode::bulk).is_some_and(|server| server == b"valkey")
}

/// The connection's id, if the reply to this request tells it.
fn id(step: Step, reply: &Bytes) -> Option<i64> {
    match step {
        Step::Id => decode::integer(reply),
        Step::Hello => decode::integer(told_by_hello(reply, "id")?),
        _ => None,
    }
}
