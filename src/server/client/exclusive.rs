//! Commands that run while nothing else of the client is under way: everything before them has been answered.

use std::time::Instant;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Client;
use super::connection::End;
use crate::access::DEFAULT_USER;
use crate::command::{OwnedRequest, Spec};
use crate::dispatch::{Exclusive, Move};
use crate::errors;
use crate::resp::{Proto, decode, encode};
use crate::route::{Held, Pin, Refusal};
use crate::session::Beside;
use crate::telemetry::metrics::{CommandFamily, RouteLabel};
use crate::telemetry::refusals::{Who, shown};
use crate::upstream::{ConnectError, Group, Login, Lost, Pinned};

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// The same, measured where that says something of a command.
    pub(super) async fn timed(&mut self, exclusive: Exclusive) -> Result<(), End> {
        let family = match &exclusive {
            Exclusive::Pinned(_, spec, _) => Some(spec.family),
            Exclusive::Transaction(..) => Some(CommandFamily::Transaction),
            Exclusive::Long(_) | Exclusive::Unknown(..) => Some(self.session.family()),
            _ => None,
        };
        let begun = self.session.begun;
        // What these read is owed only when they have ended.
        self.connection.replies.is_held = matches!(&exclusive, Exclusive::Transaction(..) | Exclusive::Fallback(..));
        let done = self.exclusive(exclusive).await;
        self.connection.replies.is_held = false;
        done?;
        if let Some(family) = family {
            self.services.metrics.clients.times.answered(RouteLabel::Pinned, family, begun);
        }
        Ok(())
    }

    pub(super) async fn exclusive(&mut self, exclusive: Exclusive) -> Result<(), End> {
        let known = match exclusive {
            Exclusive::Unknown(unknown, request) if unknown.is_asked_first() => self.explain(unknown, &request).await?,
            exclusive => Some(exclusive),
        };
        if let Some(exclusive) = known {
            let traced = if self.services.policy.traces { self.trace_exclusive(&exclusive) } else { None };
            self.alone(exclusive).await?;
            if let Some(traced) = traced {
                traced.answered();
                self.session.account.trace.close();
            }
        }
        self.note_transaction();
        self.settle_way();
        Ok(())
    }

    async fn alone(&mut self, exclusive: Exclusive) -> Result<(), End> {
        // A client that is killed does not go on waiting for the upstream.
        let peer = self.session.peer.clone();
        let killed = peer.killed();
        match exclusive {
            Exclusive::Prove(request) => unless(killed, self.prove(&request)).await?,
            Exclusive::Move(moved) => unless(killed, self.go(moved)).await?,
            Exclusive::Long(request) => self.blocking(Pin::Blocking, &request).await?,
            Exclusive::Stream => self.stream().await?,
            Exclusive::Far(request) => self.reach(&request).await?,
            Exclusive::Opted(request) => self.opted(&request).await?,
            Exclusive::Held(held, request) => self.hold(held, &request).await?,
            Exclusive::Fallback(request, route) => self.settle_keys(&request, *route).await?,
            Exclusive::Reset => unless(killed, self.reset()).await?,
            Exclusive::Transaction(request, route) => self.in_transaction(&request, route).await?,
            Exclusive::Ended => {}
            Exclusive::Pinned(pin, spec, request) => self.over_pinned(pin, spec, &request).await?,
            Exclusive::Unknown(unknown, request) => self.unknown(unknown, &request).await?,
        }
        Ok(())
    }

    async fn over_pinned(&mut self, pin: Pin, spec: &'static Spec, request: &OwnedRequest) -> Result<(), End> {
        let peer = self.session.peer.clone();
        if self.concerns_all(pin, request) {
            return self.everywhere(request).await;
        }
        match pin {
            Pin::Blocking | Pin::Wait => self.blocking(pin, request).await,
            Pin::Subscribe(kind) | Pin::Unsubscribe(kind) => self.subscribe(kind, spec, request).await,
            Pin::State => unless(peer.killed(), self.state(request)).await?,
            Pin::Debug | Pin::Monitor => unless(peer.killed(), self.listen(pin, request)).await?,
            Pin::Aside => self.aside(request).await,
            Pin::Replica => unless(peer.killed(), self.announce(request)).await?,
            Pin::Follow => self.follow(spec, request).await,
        }
    }

    /// Closes the client's own connection, with everything that the upstream keeps for it.
    async fn reset(&mut self) {
        let mut pushes = BytesMut::new();
        // When the client has its answer nobody publishes to it any more, and it has what was published before.
        if let Some(own) = self.session.way.connection().filter(|_| !self.session.way.state().is_raw()) {
            let _lost = own.call(b"*1\r\n$5\r\nRESET\r\n", &mut pushes).await;
        }
        self.empty_inbox();
        self.connection.replies.loud().put_slice(&pushes);
        self.session.reset();
        self.login = None;
        encode::simple(self.connection.replies.tail(), "RESET");
    }

    pub(super) fn error(&mut self, text: &str) {
        encode::error(self.connection.replies.tail(), text);
    }

    /// The error for a request that may not go on.
    pub(super) fn refused(&mut self, request: &OwnedRequest, refusal: &Refusal) {
        self.services.note_refused(&self.session, &request.view(), refusal);
        self.error(&refusal.text);
    }

    /// Whether a client may come in without AUTH is for the upstream to say, once. Then its request is looked at again.
    async fn prove(&mut self, request: &OwnedRequest) {
        match self.agree_elsewhere(&self.session.group).await {
            Ok(()) => {
                self.session.is_proven = true;
                self.put_back(request);
            }
            Err(Disagreed::Said(text)) if text == errors::as_redis::NO_AUTH && request.view().is(0, "HELLO") => {
                self.error(errors::as_redis::NO_AUTH_HELLO);
            }
            Err(Disagreed::Said(text) | Disagreed::Unasked(text)) => self.error(&text),
        }
    }

    /// A request waits until its mapping has changed over to another mode, or the nodes that it is for are known. Then
    /// it is looked at again.
    pub(super) async fn hold(&mut self, held: Held, request: &OwnedRequest) -> Result<(), End> {
        match held {
            Held::Mode => self.mode_changed().await?,
            Held::Nodes => {
                let services = self.services.clone();
                self.connection.meanwhile(services.upstream.nodes_known()).await?;
                self.session.awaited_nodes = Some(Instant::now());
            }
        }
        self.put_back(request);
        Ok(())
    }

    /// Waits until a mapping has changed over to another mode.
    async fn mode_changed(&mut self) -> Result<(), End> {
        let changed = self.services.router.modes.changed();
        let changed = async {
            changed.await;
            // Where that was given up, the worker must come to the edition that says so.
            tokio::task::yield_now().await;
        };
        self.connection.meanwhile(changed).await
    }

    /// A client is in another group when the upstream has agreed.
    async fn go(&mut self, moved: Move) {
        let agreed = match self.session.way.connection() {
            Some(_) => self.agree_over_own(&moved).await,
            // Every upstream that was ever greeted speaks both protocols.
            None if !moved.is_judged
                && Group { proto: self.session.proto(), ..moved.group.clone() } == self.session.group =>
            {
                Ok(())
            }
            None => self.agree_elsewhere(&moved.group).await,
        };
        match agreed {
            Err(Disagreed::Unasked(text)) => self.error(&text),
            Err(Disagreed::Said(text)) => {
                self.note_refused_login(&moved);
                self.error(&text);
            }
            Ok(()) => {
                self.session.is_proven = true;
                if let Login::Client(credentials) = &moved.group.login {
                    let user = credentials.user.as_deref().unwrap_or(DEFAULT_USER.as_bytes());
                    self.session.peer.update(|state| state.user = String::from_utf8_lossy(user).into_owned());
                }
                let peer = self.session.peer.clone();
                self.login = self.services.upstream.enter(&moved.group.login, Box::new(move || peer.kill()));
                self.session.regroup(moved.group);
                self.session.rename(moved.name);
                self.connection.replies.tail().put_slice(&moved.reply);
            }
        }
    }

    /// Counts what the upstream has refused, if it was a login.
    fn note_refused_login(&self, moved: &Move) {
        if let Login::Client(credentials) = &moved.group.login
            && moved.is_judged
        {
            let user = shown(credentials.user.as_deref().unwrap_or(DEFAULT_USER.as_bytes()));
            self.services.metrics.clients.refusals.login("upstream", || Who { user, ..self.session.who() });
        }
    }

    /// The client's own connection goes where the client goes. A login is judged elsewhere first: Redis 8.2.3 does not
    /// answer one that it refuses while messages wait to be sent (`addAuthErrReply` in acl.c).
    async fn agree_over_own(&mut self, moved: &Move) -> Result<(), Disagreed> {
        let group = &moved.group;
        if moved.is_judged {
            self.agree_elsewhere(group).await?;
        }
        let mut pushes = BytesMut::new();
        let agreed = match self.session.way.connection() {
            Some(own) => take_over(own, &self.session.group, moved, &mut pushes).await,
            None => Err(Lost),
        };
        match agreed {
            Err(Lost) => {
                self.session.lose_connection();
                Err(Disagreed::Unasked(errors::upstream::LOST_WAITING.to_owned()))
            }
            Ok(refused) => {
                self.session.way.connection_mut().into_iter().for_each(|own| own.speaks(group.proto));
                // Those beside it are as they were: they are opened again.
                self.session.way.beside_mut().into_iter().for_each(Beside::close);
                self.session.note_unheard(&self.services.upstream);
                self.connection.replies.loud().put_slice(&pushes);
                refused.map_or(Ok(()), |text| Err(Disagreed::Said(text)))
            }
        }
    }

    /// Another connection tells whether there is such a database, and whether such a user may come in: now, not when
    /// the connection was opened.
    async fn agree_elsewhere(&self, group: &Group) -> Result<(), Disagreed> {
        let pinned = match self.services.upstream.pin(group, &self.session.account).await {
            Ok(pinned) => pinned,
            Err(ConnectError::Refused(text)) => return Err(Disagreed::Said(text)),
            Err(error) => return Err(Disagreed::Unasked(error.to_string())),
        };
        if let Login::Client(credentials) = &group.login {
            let mut auth = BytesMut::new();
            encode::request(&mut auth, &credentials.auth());
            let reply = pinned.call(&auth, &mut BytesMut::new()).await;
            let reply = reply.map_err(|Lost| Disagreed::Unasked(errors::upstream::LOST_WAITING.to_owned()))?;
            if let Some(text) = decode::error(&reply) {
                return Err(Disagreed::Said(text));
            }
        }
        pinned.give_back();
        Ok(())
    }
}

/// Why a client is not in another group.
enum Disagreed {
    /// The upstream said this.
    Said(String),
    /// It could not be asked, or did not answer.
    Unasked(String),
}

/// Takes a connection from one group to another; the first error that the upstream answers.
async fn take_over(own: &Pinned, from: &Group, to: &Move, pushes: &mut BytesMut) -> Result<Option<String>, Lost> {
    let mut refused = None;
    for request in steps(from, to) {
        let reply = own.call(&request, pushes).await?;
        refused = refused.or(decode::error(&reply));
    }
    Ok(refused)
}

/// What comes of `work`, unless the client is killed before.
async fn unless<T>(killed: impl Future<Output = ()>, work: impl Future<Output = T>) -> Result<T, End> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = killed => Err(End::Killed),
    }
}

/// The requests that take a connection from one group to another.
fn steps(from: &Group, moved: &Move) -> Vec<BytesMut> {
    let to = &moved.group;
    let mut steps = Vec::new();
    let mut say = |words: &[&[u8]]| {
        let mut bytes = BytesMut::new();
        encode::request(&mut bytes, words);
        steps.push(bytes);
    };
    if let (true, Login::Client(credentials)) = (moved.is_judged, &to.login) {
        say(&credentials.auth());
    }
    if from.proto != to.proto {
        say(&[b"HELLO", if to.proto == Proto::Resp3 { b"3" } else { b"2" }]);
    }
    if from.db != to.db {
        say(&[b"SELECT", to.db.to_string().as_bytes()]);
    }
    steps
}
