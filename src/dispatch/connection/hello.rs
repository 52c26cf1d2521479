//! HELLO and AUTH: who the client is, and which protocol it speaks.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::client;
use crate::access::DEFAULT_USER;
use crate::command::Request;
use crate::config::AuthMode;
use crate::dispatch::{Exclusive, Flow, Move, Services};
use crate::errors::as_redis;
use crate::resp::number::parse_i64;
use crate::resp::{Proto, encode};
use crate::session::Session;
use crate::telemetry::refusals::{Who, shown};
use crate::upstream::{Credentials, Group, Login};

/// `AUTH password` or `AUTH user password`.
pub(crate) fn auth(services: &Services, session: &mut Session, request: &Request<'_>, out: &mut BytesMut) -> Flow {
    let (user, password) = match request.len() {
        2 => (None, request.arg(1)),
        3 => (Some(request.arg(1)), request.arg(2)),
        _ => {
            encode::error(out, as_redis::SYNTAX);
            return Flow::Answered;
        }
    };
    match login(services, session, user, password) {
        Err(text) => encode::error(out, &text),
        Ok(None) => encode::simple(out, "OK"),
        Ok(Some(login)) => {
            let group = Group { login, ..session.group.clone() };
            let reply = Bytes::from_static(b"+OK\r\n");
            return Flow::Exclusive(Exclusive::Move(Move { group, name: None, reply, is_judged: true }));
        }
    }
    Flow::Answered
}

/// True for a request that needs no login: one that logs in, or leaves.
pub fn logs_in(request: &Request<'_>) -> bool {
    let is = |name| request.is(0, name);
    is("AUTH") || is("QUIT") || is("RESET") || is("HELLO") && (2..request.len()).any(|i| request.is(i, "AUTH"))
}

/// Takes a user's credentials; a login when the upstream must judge them. One that is refused is counted.
fn login(
    services: &Services,
    session: &mut Session,
    user: Option<&[u8]>,
    password: &[u8],
) -> Result<Option<Login>, String> {
    let judged = judge(services, session, user, password);
    if judged.is_err() {
        let user = shown(user.unwrap_or(DEFAULT_USER.as_bytes()));
        services.metrics.clients.refusals.login("password", || Who { user, ..session.who() });
    }
    judged
}

fn judge(
    services: &Services,
    session: &mut Session,
    user: Option<&[u8]>,
    password: &[u8],
) -> Result<Option<Login>, String> {
    let name = user.unwrap_or(DEFAULT_USER.as_bytes());
    match services.access.mode {
        AuthMode::None if user.is_none() => Err(as_redis::NO_PASSWORD.into()),
        AuthMode::None if name == DEFAULT_USER.as_bytes() => Ok(None),
        AuthMode::None => Err(as_redis::WRONG_PASSWORD.into()),
        AuthMode::Users => {
            let user = services.access.login(name, password).ok_or(as_redis::WRONG_PASSWORD)?;
            session.peer.update(|state| state.user.clone_from(&user.name));
            session.user = Some(user);
            Ok(None)
        }
        AuthMode::Upstream => {
            let credentials = Credentials { user: user.map(<[u8]>::to_vec), password: password.to_vec() };
            Ok(Some(Login::Client(Arc::new(credentials))))
        }
    }
}

/// What HELLO asks for.
#[derive(Default)]
struct Wish<'a> {
    proto: Option<Proto>,
    name: Option<Bytes>,
    credentials: Option<(&'a [u8], &'a [u8])>,
}

pub(crate) fn hello(services: &Services, session: &mut Session, request: &Request<'_>, out: &mut BytesMut) -> Flow {
    match greeted(services, session, request) {
        Err(text) => encode::error(out, &text),
        Ok(moved) if moved.group == session.group && !moved.is_judged => {
            session.rename(moved.name);
            out.extend_from_slice(&moved.reply);
        }
        // On other lanes its next request could overtake the last on these (hazard 15).
        Ok(moved) => return Flow::Exclusive(Exclusive::Move(moved)),
    }
    Flow::Answered
}

/// Where HELLO moves the client, and what it is answered then.
///
/// # Errors
/// Redis's words for what is wrong with the request.
pub fn greeted(services: &Services, session: &mut Session, request: &Request<'_>) -> Result<Move, String> {
    let wish = wish(request)?;
    let login = match wish.credentials {
        Some((user, password)) => login(services, session, Some(user), password)?,
        None if services.access.mode == AuthMode::Users && session.user.is_none() => {
            return Err(as_redis::NO_AUTH_HELLO.into());
        }
        None => None,
    };
    let is_judged = login.is_some();
    let login = login.unwrap_or_else(|| session.group.login.clone());
    let group = Group { proto: wish.proto.unwrap_or(session.proto()), db: session.group.db, login };
    let reply = greeting(services, session, group.proto);
    Ok(Move { group, name: wish.name, reply, is_judged })
}

fn wish<'a>(request: &Request<'a>) -> Result<Wish<'a>, String> {
    let mut wish = Wish::default();
    if request.len() == 1 {
        return Ok(wish);
    }
    let version = parse_i64(request.arg(1)).ok_or(as_redis::NO_VERSION)?;
    wish.proto = Some(match version {
        2 => Proto::Resp2,
        3 => Proto::Resp3,
        _ => return Err(as_redis::UNKNOWN_VERSION.into()),
    });
    let mut at = 2;
    while at < request.len() {
        let more = request.len() - 1 - at;
        if request.is(at, "AUTH") && more >= 2 {
            wish.credentials = Some((request.arg(at + 1), request.arg(at + 2)));
            at += 3;
        } else if request.is(at, "SETNAME") && more >= 1 {
            wish.name = Some(client::checked_name(request.arg(at + 1))?);
            at += 2;
        } else {
            return Err(as_redis::hello_option(request.arg(at)));
        }
    }
    Ok(wish)
}

fn greeting(services: &Services, session: &Session, proto: Proto) -> Bytes {
    let mut out = BytesMut::new();
    encode::map(&mut out, proto, 7);
    let text = |out: &mut BytesMut, name: &str, value: &str| {
        encode::bulk(out, name.as_bytes());
        encode::bulk(out, value.as_bytes());
    };
    let identity = services.upstream.endpoint().version.get();
    text(&mut out, "server", &identity.server);
    text(&mut out, "version", &identity.version);
    encode::bulk(&mut out, b"proto");
    encode::int(&mut out, proto.number());
    encode::bulk(&mut out, b"id");
    encode::int(&mut out, session.peer.id as i64);
    text(&mut out, "mode", "standalone");
    text(&mut out, "role", "master");
    encode::bulk(&mut out, b"modules");
    out.extend_from_slice(identity.modules(proto));
    out.freeze()
}
