//! MULTI, EXEC, DISCARD, WATCH over a pinned connection, with reads of owned keys in their places.
//!
//! Invariants:
//! - the upstream sees MULTI only when a command needs it: a transaction over owned keys alone works without it;
//! - owned commands run after the upstream's EXEC went through, and not at all if it did not;
//! - a transaction that is dropped closes its connection, so the upstream discards it.

mod queue;

use std::io;

use bytes::{BufMut, Bytes, BytesMut};

use queue::{Place, place};

use crate::command::{OwnedRequest, Request};
use crate::dispatch::{Context, Flow, Session, wrong_arity, wrong_exec};
use crate::resp::number::parse_i64;
use crate::resp::{encode, reply};
use crate::route::{Local, Route, Transaction as Command};
use crate::telemetry::metrics::{Outcome, RouteLabel};
use crate::upstream::{Group, Pinned};

#[derive(Debug)]
enum Queued {
    /// The next element of the upstream's EXEC reply.
    Upstream,
    /// The same; if it is OK the client is in this database.
    Select(i64),
    /// Answered by us at EXEC.
    Here(OwnedRequest, Route),
}

/// One client's transaction, from MULTI or WATCH to its end.
#[derive(Debug, Default)]
pub struct Transaction {
    pinned: Option<Pinned>,
    watching: bool,
    in_multi: bool,
    /// The upstream has been told MULTI.
    is_open: bool,
    /// A command could not be queued: EXEC will abort.
    dirty: bool,
    queued: Vec<Queued>,
}

const EXECABORT: &str = "EXECABORT Transaction discarded because of previous errors.";

fn lost(error: &io::Error) -> String {
    format!("ERR hearthside: the upstream connection of this transaction was lost: {error}")
}

impl Transaction {
    /// True while every command of the client must come here; a client that only watches sends the others as usual.
    #[must_use]
    pub const fn takes_all(&self) -> bool {
        self.in_multi
    }

    /// True when nothing remains to be remembered.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        !self.in_multi && !self.watching
    }

    /// Answers one command of the transaction.
    pub async fn command(
        &mut self,
        context: &Context,
        session: &mut Session,
        request: &OwnedRequest,
        out: &mut BytesMut,
    ) {
        let request = request.view();
        match context.router.route(&request) {
            Route::Transaction(command, spec) => {
                if spec.accepts(request.len()) {
                    self.own(context, session, command, &request, out).await;
                } else if command == Command::Exec {
                    self.discard().await;
                    wrong_exec(out);
                } else {
                    self.dirty |= self.in_multi;
                    wrong_arity(spec, out);
                }
            }
            Route::Local(Local::Select, spec) if !self.in_multi && spec.accepts(request.len()) => {
                self.select(context, session, &request, out).await;
            }
            route @ Route::Local(Local::Hello, _) if !self.in_multi => {
                self.hello(context, session, &request, route, out).await
            }
            route => self.queue(context, session, &request, route, out).await,
        }
        if self.is_over()
            && let Some(pinned) = self.pinned.take()
        {
            pinned.give_back();
        }
    }

    async fn own(
        &mut self,
        context: &Context,
        session: &mut Session,
        command: Command,
        request: &Request<'_>,
        out: &mut BytesMut,
    ) {
        match command {
            Command::Multi if self.in_multi => encode::error(out, "ERR MULTI calls can not be nested"),
            Command::Multi => {
                self.in_multi = true;
                encode::simple(out, "OK");
            }
            Command::Watch if self.in_multi => encode::error(out, "ERR WATCH inside MULTI is not allowed"),
            Command::Watch => self.watch(context, session, request, out).await,
            Command::Unwatch if self.in_multi => self.forward(context, session, request, Queued::Upstream, out).await,
            Command::Unwatch => {
                // What it watched goes with its connection.
                *self = Self::default();
                encode::simple(out, "OK");
            }
            Command::Discard if self.in_multi => {
                self.discard().await;
                encode::simple(out, "OK");
            }
            Command::Discard => encode::error(out, "ERR DISCARD without MULTI"),
            Command::Exec if self.in_multi => self.exec(context, session, out).await,
            Command::Exec => encode::error(out, "ERR EXEC without MULTI"),
        }
    }

    async fn watch(&mut self, context: &Context, session: &mut Session, request: &Request<'_>, out: &mut BytesMut) {
        match self.call(context, session, request.raw()).await {
            Ok(reply) => {
                self.watching = true;
                out.put_slice(&reply);
            }
            Err(text) => encode::error(out, &text),
        }
    }

    /// The connection that watches goes where its client goes.
    async fn select(&mut self, context: &Context, session: &mut Session, request: &Request<'_>, out: &mut BytesMut) {
        match self.call(context, session, request.raw()).await {
            Ok(reply) => {
                if let (Some(db), true) = (parse_i64(request.arg(1)), &reply[..] == b"+OK\r\n") {
                    session.regroup(Group { db, ..session.group });
                    self.move_connection();
                }
                out.put_slice(&reply);
            }
            Err(text) => encode::error(out, &text),
        }
    }

    fn move_connection(&mut self) {
        if let Some(pinned) = &mut self.pinned {
            pinned.moved();
        }
    }

    async fn hello(
        &mut self,
        context: &Context,
        session: &mut Session,
        request: &Request<'_>,
        route: Route,
        out: &mut BytesMut,
    ) {
        let before = session.group;
        // HELLO is answered at once.
        let _answered = context.answer(session, request, route, out);
        if session.group != before {
            let mut hello = BytesMut::new();
            encode::request(&mut hello, &["HELLO", &session.proto().number().to_string()]);
            self.move_connection();
            if let Err(text) = self.call(context, session, &hello).await {
                tracing::warn!(%text, "a watching connection could not follow its client");
            }
        }
    }

    async fn queue(
        &mut self,
        context: &Context,
        session: &mut Session,
        request: &Request<'_>,
        route: Route,
        out: &mut BytesMut,
    ) {
        match place(context, request, &route) {
            Place::Refused(text) => {
                self.dirty = true;
                session.tally.add(RouteLabel::Refused, Outcome::Error, 1);
                encode::error(out, &text);
            }
            Place::Upstream => self.forward(context, session, request, Queued::Upstream, out).await,
            Place::Select(db) => self.forward(context, session, request, Queued::Select(db), out).await,
            Place::Here => {
                self.queued.push(Queued::Here(OwnedRequest::copy(request), route));
                encode::simple(out, "QUEUED");
            }
        }
    }

    /// Queues one command upstream.
    async fn forward(
        &mut self,
        context: &Context,
        session: &mut Session,
        request: &Request<'_>,
        queued: Queued,
        out: &mut BytesMut,
    ) {
        session.tally.add(RouteLabel::Pinned, Outcome::Ok, 1);
        match self.queue_upstream(context, session, request.raw()).await {
            Ok(reply) => {
                // An error here has made the upstream's transaction dirty already.
                if reply.starts_with(b"+") {
                    if matches!(queued, Queued::Select(_)) {
                        self.move_connection();
                    }
                    self.queued.push(queued);
                }
                out.put_slice(&reply);
            }
            Err(text) => {
                self.dirty = true;
                encode::error(out, &text);
            }
        }
    }

    /// Tells the upstream MULTI, once.
    async fn open(&mut self, context: &Context, session: &Session) -> Result<(), String> {
        if !self.is_open {
            self.call(context, session, b"*1\r\n$5\r\nMULTI\r\n").await?;
            self.is_open = true;
        }
        Ok(())
    }

    async fn queue_upstream(&mut self, context: &Context, session: &Session, raw: &[u8]) -> Result<Bytes, String> {
        self.open(context, session).await?;
        self.call(context, session, raw).await
    }

    /// One request over the transaction's connection, which is opened if need be.
    async fn call(&mut self, context: &Context, session: &Session, raw: &[u8]) -> Result<Bytes, String> {
        let mut pinned = match self.pinned.take() {
            Some(pinned) => pinned,
            // A connection that was lost took its MULTI and WATCH with it.
            None if self.is_open || self.watching => {
                return Err("ERR hearthside: the upstream connection of this transaction was lost".into());
            }
            None => context.upstream.pin(session.group).await.map_err(|error| error.to_string())?,
        };
        let reply = pinned.call(raw).await.map_err(|error| lost(&error))?;
        self.pinned = Some(pinned);
        Ok(reply)
    }

    /// Ends the transaction without running it.
    async fn discard(&mut self) {
        if let Some(mut pinned) = self.pinned.take()
            && self.is_open
            && pinned.call(b"*1\r\n$7\r\nDISCARD\r\n").await.is_ok()
        {
            pinned.give_back();
        }
        *self = Self::default();
    }

    async fn exec(&mut self, context: &Context, session: &mut Session, out: &mut BytesMut) {
        if self.dirty {
            self.discard().await;
            encode::error(out, EXECABORT);
            return;
        }
        let upstream =
            if self.is_open || self.watching { Some(self.exec_upstream(context, session).await) } else { None };
        let queued = std::mem::take(&mut self.queued);
        let pinned = self.pinned.take();
        *self = Self { pinned, ..Self::default() };
        match upstream {
            Some(Err(text)) => encode::error(out, &text),
            Some(Ok(reply)) => match reply::elements(&reply) {
                // Null (a watched key changed) or an error: nothing has run, and nothing of ours shall.
                None => out.put_slice(&reply),
                Some(elements) => splice(context, session, queued, &elements, out).await,
            },
            None => splice(context, session, queued, &[], out).await,
        }
    }

    async fn exec_upstream(&mut self, context: &Context, session: &Session) -> Result<Bytes, String> {
        self.open(context, session).await?;
        let reply = self.call(context, session, b"*1\r\n$4\r\nEXEC\r\n").await;
        reply.map_err(|error| format!("{error}; the transaction may have been applied"))
    }
}

/// Puts our replies among the upstream's, in the order of the commands.
async fn splice(context: &Context, session: &mut Session, queued: Vec<Queued>, elements: &[&[u8]], out: &mut BytesMut) {
    encode::array(out, queued.len());
    let mut elements = elements.iter();
    for command in queued {
        match command {
            Queued::Upstream => out.put_slice(elements.next().copied().unwrap_or(b"$-1\r\n")),
            Queued::Select(db) => {
                let reply = elements.next().copied().unwrap_or(b"$-1\r\n");
                if reply == b"+OK\r\n" {
                    session.regroup(Group { db, ..session.group });
                }
                out.put_slice(reply);
            }
            Queued::Here(request, route) => match context.answer(session, &request.view(), route, out) {
                Flow::Answered => {}
                Flow::Later(reply) => match reply.await {
                    Ok(reply) => out.put_slice(&reply),
                    Err(error) => encode::error(out, &format!("ERR hearthside: {error}")),
                },
                Flow::Alone(_) => encode::error(out, "ERR hearthside: the command cannot run inside EXEC"),
            },
        }
    }
}
