//! Requests of which the command table does not know enough: the upstream is asked what the command is, or which keys
//! the request touches, before it is sent anywhere. An owned key must not reach the upstream's namesake.

use bytes::{Bytes, BytesMut};

use super::{Services, destination};
use crate::command::{self, OwnedRequest, Request};
use crate::errors;
use crate::resp::reply::parts;
use crate::resp::{decode, encode};
use crate::route::{Refusal, Route, Unknown};
use crate::session::Session;
use crate::upstream::Login;

/// Longest name of a command that the upstream is asked about.
const LONGEST: usize = 64;

impl Services {
    /// What the upstream is to be asked about `request`, and the number of its replies; `None` if there is nothing to
    /// ask.
    pub fn question(&self, session: &Session, request: &OwnedRequest, unknown: Unknown) -> Option<(Bytes, u32)> {
        let (view, mut question) = (request.view(), BytesMut::new());
        match unknown {
            Unknown::Right => return self.question_of_right(session, &view),
            Unknown::Name if is_name(view.arg(0)) => {
                encode::request(&mut question, &[&b"COMMAND"[..], b"INFO", view.arg(0)]);
            }
            Unknown::Keys => {
                let words: Vec<&[u8]> = [&b"COMMAND"[..], b"GETKEYS"].into_iter().chain(view.args_from(0)).collect();
                encode::request(&mut question, &words);
            }
            _ => return None,
        }
        Some((question.freeze(), 1))
    }

    /// `route`, of a request that the upstream must be asked about, unless it is known not to tell.
    #[cold]
    pub(super) fn unless_unaskable(&self, session: &Session, request: &Request<'_>, route: Route) -> Route {
        let is_told_nothing = session.group.login == Login::Service && self.upstream.endpoint().commands.is_secret();
        if is_told_nothing { self.unexplained(request) } else { route }
    }

    /// Where `request` goes after the upstream has been asked about it and has given this answer; it may have to be
    /// asked more.
    pub fn explained(
        &self,
        session: &mut Session,
        request: &OwnedRequest,
        unknown: Unknown,
        answer: Option<Bytes>,
    ) -> Route {
        let view = request.view();
        let is_nowhere = answer.as_ref().is_some_and(|answer| unknown == Unknown::Name && is_no_command(answer));
        let route = self.explained_by(session, &view, unknown, answer);
        if !is_nowhere && !matches!(route, Route::Refused(_)) {
            self.detach(session, &view);
        }
        route
    }

    fn explained_by(
        &self,
        session: &mut Session,
        view: &Request<'_>,
        unknown: Unknown,
        answer: Option<Bytes>,
    ) -> Route {
        if unknown == Unknown::Right {
            return self.by_right(session, view, answer.as_deref());
        }
        let Some(answer) = answer else { return self.unexplained(view) };
        match (decode::error(&answer), unknown) {
            (Some(text), _) if may_not_ask(&text) => self.unexplained(view),
            (Some(text), Unknown::Keys) if text.starts_with("ERR ") => self.by_foreign_keys(session),
            // It is away, or busy with a script: so it would say of the command itself.
            (Some(text), _) => Route::Refused(text.into()),
            (None, Unknown::Keys) => self.by_keys(session, view, &answer),
            (None, _) => self.by_name(session, view, &answer),
        }
    }

    /// The table has learned what the name is, if the upstream has such a command.
    fn by_name(&self, session: &mut Session, request: &Request<'_>, answer: &[u8]) -> Route {
        let name = request.name().to_ascii_lowercase();
        let Ok(described) = command::read(answer) else { return self.unexplained(request) };
        // A server before Redis 7 says of a command that it is there, and nothing of its subcommands.
        let (is_there, names_subcommands) = (!described.is_empty(), described.len() > 1);
        let described = described.into_iter().map(|command| command.called(&name)).collect();
        self.upstream.endpoint().commands.add(described);
        match self.route(session, request) {
            // The upstream has no such command or subcommand, and will say so.
            Route::Unknown(Unknown::Name) if !is_there || session.spec.is_some() && names_subcommands => {
                Route::Unknown(Unknown::Conduct)
            }
            Route::Unknown(Unknown::Name) => self.unexplained(request),
            route => route,
        }
    }

    /// The request is refused if one of its keys is owned.
    fn by_keys(&self, session: &mut Session, request: &Request<'_>, answer: &[u8]) -> Route {
        let Some(keys) = parts(answer) else { return self.unexplained(request) };
        let keys: Vec<&[u8]> = keys.into_iter().filter_map(decode::bulk).collect();
        let owned = keys.iter().find_map(|key| Some((key, self.router.owner(key)?)));
        match owned {
            Some((key, mapping)) => {
                let text = errors::owned::not_answered(&request.name(), key, self.router.pattern(mapping));
                Route::Refused(text.into())
            }
            None => {
                let route = self.by_foreign_keys(session);
                if self.upstream.is_cluster() { destination::by_keys(session, request, route, &keys) } else { route }
            }
        }
    }

    fn by_foreign_keys(&self, session: &Session) -> Route {
        Route::Unknown(session.spec.map_or(Unknown::Conduct, |spec| self.router.with_foreign_keys(spec)))
    }

    /// The upstream does not tell: any argument may be a key.
    fn unexplained(&self, request: &Request<'_>) -> Route {
        let owned = request.args_from(1).find_map(|key| Some((key, self.router.owner(key)?)));
        match owned {
            Some((key, mapping)) => {
                let text = errors::owned::may_be_touched(&request.name(), key, self.router.pattern(mapping));
                Route::Refused(Refusal::from(text))
            }
            None => Route::Unknown(Unknown::Conduct),
        }
    }
}

/// The upstream has no command of the name that it was asked about.
fn is_no_command(answer: &[u8]) -> bool {
    command::read(answer).is_ok_and(|described| described.is_empty())
}

/// True for a name that a server's command may have.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.len() <= LONGEST && name.iter().all(u8::is_ascii_graphic)
}

/// The upstream does not let its user ask, or is too old to know the question.
fn may_not_ask(error: &str) -> bool {
    ["NOPERM ", errors::as_redis::UNKNOWN].iter().any(|begin| error.starts_with(begin))
}
