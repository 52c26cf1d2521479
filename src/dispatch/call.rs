//! One request while it is answered. Its methods are the answers: those that need nothing else are here, the others in
//! the files of their subjects.

use bytes::BytesMut;

use super::connection::subscribe::Shared;
use super::connection::{client, hello, local};
use super::spread::cluster_aware;
use super::{Exclusive, Flow, Services, hearthside, info, listing};
use crate::command::{OwnedRequest, Request, Spec};
use crate::config::AuthMode;
use crate::errors::as_redis;
use crate::resp::encode;
use crate::resp::pubsub::Kind;
use crate::route::{Local, OwnedKey, Route, Transaction};
use crate::session::Session;
use crate::telemetry::metrics::{Outcome, RouteLabel};
use crate::upstream::Membership;

/// One request while it is answered.
pub(super) struct Call<'a> {
    pub(super) services: &'a Services,
    pub(super) session: &'a mut Session,
    pub(super) request: &'a Request<'a>,
    /// Where a reply goes that is ready.
    pub(super) out: &'a mut BytesMut,
}

impl<'a> Call<'a> {
    pub(super) const fn new(
        services: &'a Services,
        session: &'a mut Session,
        request: &'a Request<'a>,
        out: &'a mut BytesMut,
    ) -> Self {
        Self { services, session, request, out }
    }

    /// An error is the answer.
    pub(super) fn error(&mut self, text: &str) -> Flow {
        encode::error(self.out, text);
        Flow::Answered
    }

    /// An error is the answer, and the request counts as refused.
    pub(super) fn refuse(&mut self, text: &str) -> Flow {
        self.session.tally.add(RouteLabel::Refused, Outcome::Error, 1);
        self.error(text)
    }

    /// Redis's words for a wrong number of arguments.
    pub(super) fn wrong_arity(&mut self, spec: &Spec) -> Flow {
        wrong_arity(spec, self.out);
        Flow::Answered
    }

    /// A command that is not answered on an owned key.
    pub(super) fn not_answered(&mut self, key: OwnedKey) -> Flow {
        let text = self.services.router.unanswered(self.request, key.at, key.mapping);
        self.refuse(&text)
    }

    /// A command that is answered from what is known of the connection.
    pub(super) fn local(&mut self, local: Local, spec: &Spec) -> Flow {
        self.session.tally.add(RouteLabel::Local, Outcome::Ok, 1);
        if !spec.accepts(self.request.len()) {
            return self.wrong_arity(spec);
        }
        let Self { services, session, request, out } = self;
        match local {
            Local::Ping if services.router.passes_pings_on && request.len() <= 2 => {
                return local::ping_upstream(services, session, request, spec);
            }
            Local::Ping => local::ping(session, request, spec, out),
            Local::Echo => encode::bulk(out, request.arg(1)),
            Local::Quit => local::quit(session, out),
            Local::Reset => return Flow::Exclusive(Exclusive::Reset),
            Local::Hello => return hello::hello(services, session, request, out),
            Local::Auth => return hello::auth(services, session, request, out),
            Local::Select => return local::select(session, request, out),
            Local::WhoAmI if services.access.mode == AuthMode::Users => local::whoami(session, out),
            Local::WhoAmI => return services.forward(session, request, true),
            Local::ClientSetName => client::set_name(session, request, out),
            Local::ClientGetName => client::get_name(session, out),
            Local::ClientId => encode::int(out, session.peer.id as i64),
            Local::ClientInfo => client::info(services, session, request, out),
            Local::ClientSetInfo => client::set_info(session, request, out),
            Local::ClientCapa => client::capa(session, request, out),
            Local::ClientList => return client::list(services, session, request, out),
            Local::ClientKill => return client::kill(services, session, request, out),
            Local::ClientUnblock => return client::unblock(services, session, request, out),
            Local::ClientReply => client::reply(session, request, out),
            Local::Keys => return listing::keys(services, session, request, out),
            Local::Scan => return listing::scan(services, session, request, out),
            Local::Cluster => cluster_aware::answer(services, session, request, spec, out),
            Local::Info => return info::answer(services, session, request, out),
        }
        Flow::Answered
    }

    /// `HEARTHSIDE`, the sidecar's own command.
    pub(super) fn hearthside(&mut self) -> Flow {
        self.session.tally.add(RouteLabel::Local, Outcome::Ok, 1);
        hearthside::answer(self.services, self.session.proto(), self.request, self.out)
    }

    /// SUBSCRIBE and related commands, over a hub's connections.
    pub(super) fn subscribe(&mut self, kind: Kind, subscribes: bool, spec: &Spec) -> Flow {
        self.session.tally.add(RouteLabel::Local, Outcome::Ok, 1);
        if subscribes && !spec.accepts(self.request.len()) {
            return self.wrong_arity(spec);
        }
        let Membership { hub, subscriber, .. } = self.services.membership(self.session);
        let (hub, subscriber) = (hub.clone(), subscriber.clone());
        let listening = self.services.listening(self.session);
        let shared = Shared { hub, subscriber, listening, patience: self.services.upstream.patience() };
        match subscribes {
            true => shared.subscribe(self.session, kind, self.request),
            false => shared.unsubscribe(self.session, kind, self.request, self.out),
        }
    }

    /// EXEC and related commands outside a transaction are errors that need no connection; MULTI and WATCH begin one.
    pub(super) fn transaction(&mut self, command: Transaction, spec: &'static Spec) -> Flow {
        self.session.tally.add(RouteLabel::Local, Outcome::Ok, 1);
        match command {
            Transaction::Exec if !spec.accepts(self.request.len()) => wrong_exec(self.out),
            _ if !spec.accepts(self.request.len()) => wrong_arity(spec, self.out),
            Transaction::Multi | Transaction::Watch => {
                let route = Route::Transaction(command, spec);
                return Flow::Exclusive(Exclusive::Transaction(OwnedRequest::copy(self.request), route));
            }
            Transaction::Exec => encode::error(self.out, as_redis::EXEC_WITHOUT_MULTI),
            Transaction::Discard => encode::error(self.out, as_redis::DISCARD_WITHOUT_MULTI),
            Transaction::Unwatch => encode::simple(self.out, "OK"),
        }
        Flow::Answered
    }
}

/// Redis's words for a wrong number of arguments.
pub fn wrong_arity(spec: &Spec, out: &mut BytesMut) {
    encode::error(out, &spec.arity_error());
}

/// Redis's words for EXEC with arguments, which ends a transaction.
pub fn wrong_exec(out: &mut BytesMut) {
    encode::error(out, &as_redis::discarded_because(&as_redis::wrong_arity("exec")));
}
