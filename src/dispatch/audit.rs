//! What of a client's requests goes into the audit log: writes of owned keys, refused ones too, and administration. On
//! the road there is one look at whether there is such a log.

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::{Flow, LaterReply, Services};
use crate::command::{Request, Spec};
use crate::config::AuthMode;
use crate::record::Verb;
use crate::route::{Holder, Local, Route, Split};
use crate::session::Session;
use crate::telemetry::audit::{AuditNote, MOST, Origin};
use crate::upstream::Broken;

/// Commands of administration that change nothing, by the ends of their names.
const LOOKS: [&str; 26] = [
    "cat",
    "count",
    "doctor",
    "dryrun",
    "dump",
    "genpass",
    "get",
    "getuser",
    "graph",
    "help",
    "histogram",
    "history",
    "id",
    "info",
    "keys",
    "lastsave",
    "latest",
    "len",
    "list",
    "log",
    "monitor",
    "role",
    "sort",
    "stats",
    "users",
    "whoami",
];

/// The same of SCRIPT and FUNCTION.
const CODE_LOOKS: [&str; 6] = ["debug", "dump", "exists", "help", "list", "stats"];

/// The subcommands of HEARTHSIDE that change something.
const ACTS: [&str; 5] = ["INVALIDATE", "MODE", "PAUSE", "RELOAD", "RESUME"];

impl Services {
    /// The same as `answer_routed`, with a line in the audit log where one is due.
    pub(super) fn answer_audited(
        &self,
        session: &mut Session,
        request: &Request<'_>,
        route: Route,
        out: &mut BytesMut,
    ) -> Flow {
        let Some(note) = self.note_of(session, request, &route) else {
            return self.answer_tracked(session, request, route, out);
        };
        let begin = out.len();
        match self.answer_tracked(session, request, route, out) {
            Flow::Answered => {
                note.answered(&out[begin..]);
                Flow::Answered
            }
            Flow::Later(reply) => Flow::Later(followed(note, reply)),
            sent @ (Flow::Upstream(_) | Flow::Filling(..) | Flow::Exclusive(_)) => {
                note.sent();
                sent
            }
        }
    }

    /// Notes a request that goes to the upstream as it is.
    pub fn note_passed(&self, session: &Session, request: &Request<'_>, route: &Route) {
        if self.policy.audits
            && let Some(note) = self.note_of(session, request, route)
        {
            note.sent();
        }
    }

    /// The note of a request that is to be in the audit log.
    pub fn note_of(&self, session: &Session, request: &Request<'_>, route: &Route) -> Option<AuditNote> {
        let note = self.note_of_routed(session, request, route)?;
        Some(if matches!(route, Route::Refused(_)) { note.refused() } else { note })
    }

    fn note_of_routed(&self, session: &Session, request: &Request<'_>, route: &Route) -> Option<AuditNote> {
        let written = match route {
            Route::Cached(key, Verb::Write(_) | Verb::Expire(_)) => vec![key.at],
            Route::Cached(..) | Route::Definition(..) | Route::Attack => return None,
            // They are routed again when the upstream has been asked, or a mapping has changed over.
            Route::Unproven | Route::Unknown(_) | Route::Held(_) | Route::Fallback(_) => return None,
            Route::NotAnswered(key) => self.owned_among(Some(key.spec), request),
            Route::Split(keys) if keys.split == Split::Remove => {
                keys.keys.iter().filter(|key| key.holder != Holder::Upstream).map(|key| key.at).collect()
            }
            Route::Refused(_) => self.owned_among(session.spec, request),
            _ => return self.note_of_admin(session, request, route),
        };
        if written.is_empty() {
            return self.note_of_admin(session, request, route);
        }
        let mappings = &self.owned.mappings;
        let more = written.len().saturating_sub(MOST) as u64;
        let keys = written.into_iter().take(MOST).map(|at| {
            let owner = mappings.keyspace.owner(request.arg(at)).map(|id| mappings.list[id.index()].pattern.text());
            (owner.unwrap_or_default().to_owned(), request.arg(at).to_vec())
        });
        let (audit, command) = (&self.metrics.audit, request.name().to_ascii_uppercase());
        let note = AuditNote::of_write(audit, self.origin(session), command.clone(), keys.collect());
        Some(note.naming(fields(&command, request)).and_more(more))
    }

    /// The places of owned keys among those that a command would write.
    fn owned_among(&self, spec: Option<&'static Spec>, request: &Request<'_>) -> Vec<usize> {
        let mut owned = Vec::new();
        if let Some(spec) = spec.filter(|spec| spec.flags.write) {
            request.each_key(spec, |at| {
                if self.router.owner(request.arg(at)).is_some() {
                    owned.push(at);
                }
            });
        }
        owned
    }

    /// Who a client is; who has not logged in is no user.
    fn origin(&self, session: &Session) -> Origin {
        let peer = &session.peer;
        let is_known = match self.access.mode {
            AuthMode::None => true,
            AuthMode::Users => session.user.is_some(),
            AuthMode::Upstream => session.is_proven,
        };
        let user = if is_known { peer.read(|state| state.user.clone()) } else { String::new() };
        Origin { id: Some(peer.id), address: peer.addresses.0.clone(), name: peer.name(), user }
    }

    fn note_of_admin(&self, session: &Session, request: &Request<'_>, route: &Route) -> Option<AuditNote> {
        let acts = match route {
            Route::Hearthside => {
                let is_look = request.is(1, "MODE") && request.len() == 2;
                let acts = ACTS.iter().any(|act| request.is(1, act)) && !is_look;
                acts || request.is(1, "SLOWLOG") && request.is(2, "RESET")
            }
            Route::Local(Local::ClientKill | Local::ClientUnblock, _) => true,
            Route::Local(..) => false,
            _ => session.spec.is_some_and(|spec| administers(spec) || resets_log(spec, request)),
        };
        let container = session.spec.is_some_and(|spec| spec.name.contains('|')) || matches!(route, Route::Hearthside);
        let resets = request.is(1, "SLOWLOG") || request.is(1, "LOG");
        let words = if container { 2 + usize::from(resets) } else { 1 };
        acts.then(|| {
            let command: Vec<String> = (0..words.min(request.len()))
                .map(|at| String::from_utf8_lossy(request.arg(at)).to_ascii_uppercase())
                .collect();
            let command = command.join(" ");
            let about = about(&command, request);
            let note = AuditNote::of_admin(&self.metrics.audit, self.origin(session), command.clone());
            match &*command {
                "HEARTHSIDE INVALIDATE" if request.len() > 2 => note.about_key(request.arg(2)),
                _ => note.naming(about),
            }
        })
    }
}

/// True for commands that change the server, what it runs, or all its data.
fn administers(spec: &Spec) -> bool {
    let is_of = |category: &str| spec.categories.contains(&category);
    let (container, last) = spec.name.split_once('|').unwrap_or(("", &spec.name));
    let is_code = ["script", "function"].contains(&container) && !CODE_LOOKS.contains(&last);
    is_code || (is_of("admin") || is_of("dangerous")) && !spec.flags.readonly && !LOOKS.contains(&last)
}

/// ACL LOG RESET: without its argument it is a look.
fn resets_log(spec: &Spec, request: &Request<'_>) -> bool {
    &*spec.name == "acl|log" && request.is(2, "RESET")
}

/// The names of the fields that a command writes.
fn fields<'r>(command: &str, request: &'r Request<'_>) -> impl Iterator<Item = &'r [u8]> + use<'r> {
    let (from, step, most) = match command {
        "HSET" | "HMSET" => (2, 2, usize::MAX),
        "HSETNX" | "HINCRBY" | "HINCRBYFLOAT" => (2, 1, 1),
        "HDEL" => (2, 1, usize::MAX),
        _ => (2, 1, 0),
    };
    request.args_from(from.min(request.len())).step_by(step).take(most)
}

/// What of its arguments says what a command of administration is about, and is no secret.
fn about<'r>(command: &str, request: &'r Request<'_>) -> impl Iterator<Item = &'r [u8]> + use<'r> {
    let (step, most) = match command {
        "CLIENT KILL" | "CLIENT UNBLOCK" | "ACL DELUSER" | "HEARTHSIDE MODE" => (1, usize::MAX),
        "CONFIG SET" => (2, usize::MAX),
        "ACL SETUSER" | "FUNCTION DELETE" | "HEARTHSIDE PAUSE" => (1, 1),
        _ => (1, 0),
    };
    request.args_from(2.min(request.len())).step_by(step).take(most)
}

/// The reply, which is awaited to its end whether the client stays or not.
fn followed(note: AuditNote, reply: LaterReply) -> LaterReply {
    let (give, given) = oneshot::channel();
    tokio::task::spawn_local(async move {
        let reply = reply.await;
        match &reply {
            Ok(pieces) => note.answered(pieces.iter().next().unwrap_or_default()),
            Err(_) => note.failed("the reply was cut short"),
        }
        // The client may have left.
        let _left = give.send(reply);
    });
    Box::pin(async move { given.await.unwrap_or(Err(Broken)) })
}
