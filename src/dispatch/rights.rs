//! Whether a client's user may run what the sidecar answers itself. With `auth.mode = "upstream"` only the upstream
//! knows, and it would not see the request: it is sent the same command in a form that changes nothing.

use bytes::{Bytes, BytesMut};

use super::Services;
use crate::command::{Request, lookup};
use crate::config::AuthMode;
use crate::errors::as_redis;
use crate::resp::{decode, encode};
use crate::route::{Local, Route, Transaction, Unknown};
use crate::session::Session;

/// How a server answers what a user may not run.
const DENIED: &str = "NOPERM ";

impl Services {
    /// `route`, unless the upstream must be asked first whether the client's user may run the command.
    #[inline]
    pub(super) fn unless_unpermitted(&self, session: &Session, request: &Request<'_>, route: Route) -> Route {
        if self.access.mode == AuthMode::Upstream { unless_unknown(session, request, route) } else { route }
    }

    /// Asks the upstream whether the client's user may run the command that it has just sent.
    pub(super) fn question_of_right(&self, session: &Session, request: &Request<'_>) -> Option<(Bytes, u32)> {
        let route = self.router.route(request, session.spec);
        let words = question(&route)?;
        let mut bytes = BytesMut::new();
        let db = session.group.db.to_string();
        for request in words {
            let words: Vec<&str> = request.iter().map(|word| if *word == DATABASE { &db } else { *word }).collect();
            encode::request(&mut bytes, &words);
        }
        Some((bytes.freeze(), words.len() as u32))
    }

    /// Where the request goes, now that the upstream has answered; if it could not, the client is answered as if it
    /// may: owned keys are served while the upstream is away.
    pub(super) fn by_right(&self, session: &mut Session, request: &Request<'_>, answer: Option<&[u8]>) -> Route {
        if let Some(text) = answer.and_then(|answer| denial(request, answer)) {
            return Route::Refused(text.into());
        }
        let now = session.now;
        session.spec.into_iter().for_each(|spec| session.rights.note(spec.id, now));
        // The answer to MULTI tells of both.
        if let Some(exec) = lookup(b"EXEC", b"").filter(|_| request.is(0, "MULTI"))
            && answer.is_some_and(|answer| end_denial(answer).is_none())
        {
            session.rights.note(exec.id, now);
        }
        self.route(session, request)
    }
}

#[cold]
fn unless_unknown(session: &Session, request: &Request<'_>, route: Route) -> Route {
    let (Route::Local(_, spec) | Route::Transaction(_, spec)) = &route else { return route };
    let is_known = session.rights.has(spec, session.now) || !spec.accepts(request.len());
    if is_known || question(&route).is_none() { route } else { Route::Unknown(Unknown::Right) }
}

/// The upstream's words for what may not be done. EXEC has its own, in which they stand.
fn denial(request: &Request<'_>, answer: &[u8]) -> Option<String> {
    if request.is(0, "EXEC") {
        return end_denial(answer);
    }
    decode::error(answer).filter(|text| text.starts_with(DENIED))
}

/// The same for the EXEC behind a MULTI.
fn end_denial(answer: &[u8]) -> Option<String> {
    let second = memchr::memchr(b'\n', answer).map(|end| &answer[end + 1..])?;
    let text = decode::error(second)?;
    text.strip_prefix(as_redis::DISCARDED_BECAUSE).filter(|why| why.starts_with(DENIED)).map(str::to_owned)
}

/// Stands for the client's database in a question.
const DATABASE: &str = "its database";

/// The same command, or commands, in a form that changes nothing, if the upstream must judge it. What needs no
/// permission (HELLO, AUTH, QUIT, RESET) is no question, nor is what reaches the upstream anyway.
const fn question(route: &Route) -> Option<&'static [&'static [&'static str]]> {
    let words: &[&[&str]] = match route {
        Route::Local(local, _) => match local {
            Local::Ping => &[&["PING"]],
            Local::Echo => &[&["ECHO", ""]],
            Local::Select => &[&["SELECT", DATABASE]],
            Local::ClientSetName => &[&["CLIENT", "SETNAME", "hearthside"]],
            Local::ClientGetName => &[&["CLIENT", "GETNAME"]],
            Local::ClientId => &[&["CLIENT", "ID"]],
            Local::ClientInfo => &[&["CLIENT", "INFO"]],
            Local::ClientSetInfo => &[&["CLIENT", "SETINFO", "LIB-NAME", ""]],
            Local::ClientCapa => &[&["CLIENT", "CAPA", "none"]],
            Local::ClientList => &[&["CLIENT", "LIST", "ID", "0"]],
            Local::ClientKill => &[&["CLIENT", "KILL", "ID", "0"]],
            Local::ClientUnblock => &[&["CLIENT", "UNBLOCK", "0"]],
            Local::ClientReply => &[&["CLIENT", "REPLY", "ON"]],
            _ => return None,
        },
        // Whatever is permitted, the second leaves nothing of the first.
        Route::Transaction(Transaction::Multi | Transaction::Exec, _) => &[&["MULTI"], &["EXEC"]],
        Route::Transaction(Transaction::Discard, _) => &[&["DISCARD"]],
        Route::Transaction(Transaction::Unwatch, _) => &[&["UNWATCH"]],
        _ => return None,
    };
    Some(words)
}
