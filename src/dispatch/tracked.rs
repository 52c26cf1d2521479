//! Requests of a client with CLIENT TRACKING for owned keys: it keeps what it reads until it is told that it has
//! changed.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Flow, Services};
use crate::command::Request;
use crate::record::Verb;
use crate::route::{Holder, Route, Split};
use crate::session::Session;
use crate::tracking::Reader;

impl Services {
    /// A client with CLIENT TRACKING keeps what it reads until it is told that it has changed.
    pub(super) fn tracked(
        &self,
        session: &mut Session,
        request: &Request<'_>,
        route: Route,
        out: &mut BytesMut,
    ) -> Flow {
        let Some(reader) = session.tracking_reader().filter(|_| reads(&route)) else {
            return self.answer_routed(session, request, route, out);
        };
        if let Route::Fallback(inner) = &route {
            let keys = owned_keys(request, inner);
            let flow = self.answer_routed(session, request, route, out);
            return forgotten(flow, reader, keys);
        }
        session.set_reading(true);
        let flow = self.answer_routed(session, request, route, out);
        session.set_reading(false);
        flow
    }
}

/// True for a request that reads owned keys, and changes none.
fn reads(route: &Route) -> bool {
    match route {
        Route::Definition(..) | Route::Cached(_, Verb::Read(_) | Verb::Inspect(_)) => true,
        Route::Split(keys) => keys.split != Split::Remove,
        // What the sidecar does not answer is read where the upstream tells nobody of it.
        Route::Fallback(route) => matches!(**route, Route::NotAnswered(_)) || reads(route),
        _ => false,
    }
}

/// The keys of a request that are not the upstream's alone.
fn owned_keys(request: &Request<'_>, route: &Route) -> Vec<Bytes> {
    match route {
        Route::Split(split) => {
            let owned = split.keys.iter().filter(|key| key.holder != Holder::Upstream);
            owned.map(|key| Bytes::copy_from_slice(request.arg(key.at))).collect()
        }
        other => other.owned_key().iter().map(|key| Bytes::copy_from_slice(request.arg(key.at))).collect(),
    }
}

/// A tracking client is told at once to forget keys of which it is not known who answers for them next.
fn forgotten(flow: Flow, reader: Arc<Reader>, keys: Vec<Bytes>) -> Flow {
    let Flow::Later(reply) = flow else {
        if matches!(flow, Flow::Answered) {
            keys.iter().for_each(|key| reader.forgets(key));
        }
        // What is answered in another way comes here again, or is the upstream's.
        return flow;
    };
    Flow::Later(Box::pin(async move {
        let reply = reply.await;
        keys.iter().for_each(|key| reader.forgets(key));
        reply
    }))
}
