//! Commands on cached keys whose answers come later are measured: what is slow is remembered.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::dispatch::call::Call;
use crate::dispatch::{Flow, LaterReply, Owned};
use crate::keys::MappingId;
use crate::record::Verb;
use crate::route::{Holder, OwnedKey, SplitKeys};
use crate::session::Session;
use crate::telemetry::slow::{Asked, Slow, SlowKind};

/// What is remembered of a command, if it is slow.
pub struct Measured {
    owned: Arc<Owned>,
    asked: Asked,
    mapping: MappingId,
    key: Bytes,
    cause: &'static str,
    begun: Instant,
}

/// What a slow command has waited for.
const READ: &str = "it waited for its load, or for what came before it on its connection";
const WRITTEN: &str = "it waited for the store or the journal, or for what came before it on its connection";
const SEVERAL: &str = "it waited for the slowest of its keys, in the store or upstream, or for what came before it";
const EXEC: &str = "it waited for the statements of its transaction, or for the upstream's part";

impl Measured {
    /// One that begins now; nothing where commands are not measured.
    fn begin(owned: &Arc<Owned>, session: &Session, command: &str, (mapping, key): (MappingId, Bytes)) -> Option<Self> {
        if !owned.slow.measures_commands() {
            return None;
        }
        let peer = &session.peer;
        let asked = Asked {
            command: command.to_owned(),
            client: peer.id,
            address: peer.addresses.0.clone(),
            name: peer.name(),
        };
        Some(Self { owned: owned.clone(), asked, mapping, key, cause: READ, begun: Instant::now() })
    }

    /// An EXEC that began at this moment, and whose first owned key is this one.
    #[must_use]
    pub fn exec(owned: &Arc<Owned>, session: &Session, first: (MappingId, Bytes), begun: Instant) -> Option<Self> {
        let measured = Self::begin(owned, session, "exec", first)?;
        Some(Self { cause: EXEC, begun, ..measured })
    }

    /// It has ended.
    pub fn note(self) {
        let (slow, time) = (&self.owned.slow, self.begun.elapsed());
        if slow.takes(SlowKind::Command, time) {
            let mapping = self.owned.mappings.list[self.mapping.index()].pattern.text().to_owned();
            let (asked, cause) = (Some(self.asked), self.cause.to_owned());
            slow.add(Slow { kind: SlowKind::Command, time, asked, mapping, key: self.key, cause });
        }
    }

    fn later(measured: Option<Self>, reply: LaterReply) -> Flow {
        let Some(measured) = measured else { return Flow::Later(reply) };
        Flow::Later(Box::pin(async move {
            let replied = reply.await;
            measured.note();
            replied
        }))
    }
}

impl Call<'_> {
    /// The same answer, whose time is measured until it can be given.
    #[cold]
    pub(in crate::dispatch) fn measured(&self, key: OwnedKey, verb: &Verb, reply: LaterReply) -> Flow {
        let first = (key.mapping, Bytes::copy_from_slice(self.request.arg(key.at)));
        let measured = Measured::begin(&self.services.owned, self.session, &key.spec.name, first);
        let cause = if matches!(verb, Verb::Read(_) | Verb::Inspect(_)) { READ } else { WRITTEN };
        Measured::later(measured.map(|measured| Measured { cause, ..measured }), reply)
    }

    /// The same of a command over several keys, by the first of them that is cached.
    #[cold]
    pub(super) fn measured_several(&self, keys: &SplitKeys, reply: LaterReply) -> Flow {
        let cached = keys.keys.iter().find_map(|key| match key.holder {
            Holder::Cache(mapping) => Some((mapping, Bytes::copy_from_slice(self.request.arg(key.at)))),
            _ => None,
        });
        let begin = |first| Measured::begin(&self.services.owned, self.session, &keys.spec.name, first);
        Measured::later(cached.and_then(begin).map(|measured| Measured { cause: SEVERAL, ..measured }), reply)
    }
}
