//! SUBSCRIBE and related commands with `pubsub.mode = "shared"`, and behind a cluster: answered here, over connections
//! that carry nothing else (`upstream/hub`).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::command::{Request, Spec};
use crate::dispatch::Flow;
use crate::errors;
use crate::key_events::Listening;
use crate::resp::pieces::Pieces;
use crate::resp::pubsub::Kind;
use crate::resp::{Proto, encode};
use crate::route::{Local, Pin, Route};
use crate::session::Session;
use crate::upstream::{Confirmed, Hub, Subscriber};

/// What a subscription is made with.
pub(crate) struct Shared {
    pub(crate) hub: Arc<Hub>,
    /// The client there.
    pub(crate) subscriber: Arc<Subscriber>,
    /// What it hears of owned keys.
    pub(crate) listening: Arc<Listening>,
    /// How long the upstream may take to confirm.
    pub(crate) patience: Duration,
}

impl Shared {
    /// The confirmations, once what is published arrives.
    pub(crate) fn subscribe(self, session: &Session, kind: Kind, request: &Request<'_>) -> Flow {
        let Self { hub, subscriber, listening, patience } = self;
        let (mut replies, mut awaited) = (BytesMut::new(), Vec::new());
        let before: HashSet<Bytes> = subscriber.names(kind).into_iter().collect();
        for name in request.args_from(1) {
            let count = subscriber.note(kind, name, true);
            confirmation(&mut replies, session.proto(), kind.word(true), Some(name), count);
            let name = Bytes::copy_from_slice(name);
            awaited.push((hub.subscribe(&subscriber, kind, &name), name));
        }
        session.tell_subscribed();
        Flow::Later(Box::pin(async move {
            let error = match tokio::time::timeout(patience, all(&mut awaited)).await {
                Ok(Ok(())) => {
                    // It may have unsubscribed meanwhile.
                    let now: HashSet<Bytes> = subscriber.names(kind).into_iter().collect();
                    let names = awaited.iter().map(|(_, name)| name).filter(|name| now.contains(*name));
                    names.for_each(|name| listening.subscribes(kind, name, true));
                    return Ok(replies.into());
                }
                Ok(Err(error)) => error,
                Err(_) => errors::upstream::NOT_SUBSCRIBED.to_owned(),
            };
            awaited.retain(|(_, name)| !before.contains(name));
            Ok(undo(&hub, &subscriber, kind, awaited, &error))
        }))
    }

    /// Takes effect at once.
    pub(crate) fn unsubscribe(self, session: &Session, kind: Kind, request: &Request<'_>, out: &mut BytesMut) -> Flow {
        let (proto, subscriber) = (session.proto(), &self.subscriber);
        let named: Vec<Bytes> = request.args_from(1).map(Bytes::copy_from_slice).collect();
        let names = if named.is_empty() { subscriber.names(kind) } else { named };
        if names.is_empty() {
            confirmation(out, proto, kind.word(false), None, subscriber.count(kind));
        }
        for name in names {
            self.hub.unsubscribe(subscriber, kind, &name);
            self.listening.subscribes(kind, &name, false);
            let count = subscriber.note(kind, &name, false);
            confirmation(out, proto, kind.word(false), Some(&name), count);
        }
        session.tell_subscribed();
        Flow::Answered
    }
}

/// The route of a request of a client that has subscribed.
pub(crate) fn route(session: &Session, route: Route, request: &Request<'_>, spec: Option<&'static Spec>) -> Route {
    let route = match spec {
        // The upstream does not know that it subscribes: what it answers is put into a subscriber's words.
        Some(spec) if spec.name == "ping" && session.is_resp2_subscriber() => Route::Local(Local::Ping, spec),
        _ => route,
    };
    let is_allowed = matches!(
        route,
        Route::Pinned(Pin::Subscribe(_) | Pin::Unsubscribe(_), _)
            | Route::Local(Local::Ping | Local::Quit | Local::Reset, _)
    );
    if is_allowed || !session.is_resp2_subscriber() {
        return route;
    }
    let name = spec.map_or_else(|| request.name().to_lowercase(), |spec| spec.name.clone());
    Route::Refused(errors::as_redis::only_subscriptions(&name).into())
}

async fn all(awaited: &mut [(Confirmed, Bytes)]) -> Result<(), String> {
    for (confirmed, _) in awaited {
        confirmed.wait().await?;
    }
    Ok(())
}

/// The upstream did not confirm: none of it is subscribed, and the client gets an error.
fn undo(
    hub: &Arc<Hub>,
    subscriber: &Arc<Subscriber>,
    kind: Kind,
    awaited: Vec<(Confirmed, Bytes)>,
    error: &str,
) -> Pieces {
    for (_, name) in awaited {
        hub.unsubscribe(subscriber, kind, &name);
        subscriber.note(kind, &name, false);
    }
    let mut out = BytesMut::new();
    encode::error(&mut out, error);
    out.into()
}

fn confirmation(out: &mut BytesMut, proto: Proto, word: &str, name: Option<&[u8]>, count: usize) {
    encode::push(out, proto, 3);
    encode::bulk(out, word.as_bytes());
    match name {
        Some(name) => encode::bulk(out, name),
        None => encode::null(out, proto),
    }
    encode::int(out, count as i64);
}
