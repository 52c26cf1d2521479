//! Commands on cached keys whose answers come later are measured: what is slow is remembered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::clients::Peer;
use crate::command::Spec;
use crate::dispatch::call::Call;
use crate::dispatch::{Flow, LaterReply, Owned};
use crate::keys::MappingId;
use crate::record::Verb;
use crate::route::OwnedKey;
use crate::telemetry::slow::{Asked, Slow, SlowKind};

/// What is remembered of a command, if it is slow.
struct Measured {
    owned: Arc<Owned>,
    peer: Arc<Peer>,
    spec: &'static Spec,
    mapping: MappingId,
    key: Bytes,
    is_read: bool,
    begun: Instant,
}

impl Measured {
    fn note(self, time: Duration) {
        let slow = &self.owned.slow;
        if !slow.takes(SlowKind::Command, time) {
            return;
        }
        let cause = match self.is_read {
            true => "it waited for its load, or for what came before it on its connection",
            false => "it waited for the store or the journal, or for what came before it on its connection",
        };
        let asked = Asked {
            command: self.spec.name.clone(),
            client: self.peer.id,
            address: self.peer.addresses.0.clone(),
            name: self.peer.read(|state| String::from_utf8_lossy(&state.name).into_owned()),
        };
        let mapping = self.owned.mappings.list[self.mapping.index()].pattern.text().to_owned();
        let (asked, cause) = (Some(asked), cause.to_owned());
        slow.add(Slow { kind: SlowKind::Command, time, asked, mapping, key: self.key, cause });
    }
}

impl Call<'_> {
    /// The same answer, whose time is measured until it can be given.
    #[cold]
    pub(super) fn measured(&self, key: OwnedKey, verb: &Verb, reply: LaterReply) -> Flow {
        let owned = &self.services.owned;
        if !owned.slow.measures_commands() {
            return Flow::Later(reply);
        }
        let measured = Measured {
            owned: owned.clone(),
            peer: self.session.peer.clone(),
            spec: key.spec,
            mapping: key.mapping,
            key: Bytes::copy_from_slice(self.request.arg(key.at)),
            is_read: matches!(verb, Verb::Read(_) | Verb::Inspect(_)),
            begun: Instant::now(),
        };
        Flow::Later(Box::pin(async move {
            let replied = reply.await;
            let time = measured.begun.elapsed();
            measured.note(time);
            replied
        }))
    }
}
