//! Reads of keys that may still be the upstream's: the store is asked first, then the upstream, whose reply is the
//! answer. It is not kept.
//!
//! Between the two looks somebody may bring the key over, so that neither side seems to have it. Whoever finds nothing
//! at the upstream therefore looks into the store once more, past what is in memory.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::theirs::{Theirs, Told};
use crate::cache::{Cause, Entry};
use crate::command::OwnedRequest;
use crate::dispatch::call::Call;
use crate::dispatch::owned::read::outcome;
use crate::dispatch::{Flow, Owned, answer_from, error_reply};
use crate::errors::upstream::LOST_IN_REPLY;
use crate::keys::MappingId;
use crate::quota::Asker;
use crate::record::{Answer, Verb};
use crate::resp::encode;
use crate::resp::pieces::Pieces;
use crate::route::OwnedKey;
use crate::store::StoreError;
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::{FallbackMetrics, FellBack, Outcome, RouteLabel};
use crate::upstream::Broken;

/// The two sides, for reads of keys of which one has the value.
#[derive(Clone)]
pub(in crate::dispatch) struct BothSides {
    owned: Arc<Owned>,
    theirs: Theirs,
    metrics: Arc<FallbackMetrics>,
}

/// Who has a key.
pub(in crate::dispatch) enum Side {
    Store(Arc<Entry>),
    /// The upstream, or nobody: this is its answer, with the messages that came before it.
    Upstream(Pieces, Bytes),
}

impl BothSides {
    pub(in crate::dispatch) fn of(call: &Call<'_>) -> Self {
        Self {
            owned: call.services.owned.clone(),
            theirs: Theirs::of_client(call.services, call.session),
            metrics: call.services.metrics.fallback.clone(),
        }
    }

    fn count(&self, mapping: MappingId, outcome: FellBack) {
        self.metrics.looked(self.owned.mappings.list[mapping.index()].pattern.text(), outcome);
    }

    /// What the store has of a key, of which a load has ended, or else what the upstream answers to a command about it.
    pub(in crate::dispatch) async fn look(
        &self,
        mapping: MappingId,
        key: &Bytes,
        loaded: Arc<Entry>,
        command: Bytes,
    ) -> Result<Result<Side, StoreError>, Broken> {
        if loaded.record.is_some() {
            self.count(mapping, FellBack::Store);
            return Ok(Ok(Side::Store(loaded)));
        }
        let told = self.theirs.tell(command, key).await?;
        if told.may_have_key {
            self.count(mapping, FellBack::Upstream);
            return Ok(Ok(Side::Upstream(told.reply, told.pushes)));
        }
        match self.owned.look_again(mapping, key).await {
            Err(error) => Ok(Err(error)),
            Ok(entry) if entry.record.is_some() => {
                self.count(mapping, FellBack::Store);
                Ok(Ok(Side::Store(entry)))
            }
            Ok(_) => {
                self.count(mapping, FellBack::Neither);
                Ok(Ok(Side::Upstream(told.reply, told.pushes)))
            }
        }
    }

    /// The same of a key of MGET, EXISTS or TOUCH: the record of the store's, or the upstream's answer.
    pub(super) async fn look_for_one(
        &self,
        mapping: MappingId,
        key: &Bytes,
        loaded: Arc<Entry>,
        name: &[u8],
    ) -> Result<Side, StoreError> {
        self.look(mapping, key, loaded, encode::request_of(&[name, key])).await.unwrap_or_else(|Broken| Err(lost()))
    }

    /// What the upstream answers to such a command about a key of definitions.
    pub(super) async fn ask_for_one(&self, mapping: MappingId, key: &Bytes, name: &[u8]) -> Result<Pieces, StoreError> {
        let told = self.theirs.tell(encode::request_of(&[name, key]), key).await.map_err(|Broken| lost())?;
        self.count(mapping, side(&told));
        Ok(told.reply)
    }
}

impl Owned {
    /// What the store has of a key now: past what is in memory, and what is being loaded.
    pub(super) async fn look_again(&self, mapping: MappingId, key: &Bytes) -> Result<Arc<Entry>, StoreError> {
        self.cache.invalidate(key, Cause::Mode);
        self.cache.load(mapping, key, &mut Asker::new(None, Tick::now())).await
    }
}

impl Call<'_> {
    /// A cached key is asked something; without an `answer` it is a command that owned keys do not answer.
    pub(super) fn read_on_both_sides(&mut self, key: OwnedKey, answer: Option<Answer>, verb: Option<Verb>) -> Flow {
        let (owned, now) = (self.services.owned.clone(), self.session.now);
        let known = owned.cache.get(key.mapping, self.request.arg(key.at), now);
        if let Some(entry) = &known
            && entry.record.is_some()
        {
            let pattern = owned.mappings.list[key.mapping.index()].pattern.text();
            self.services.metrics.fallback.looked(pattern, FellBack::Store);
            return match verb {
                Some(verb) => self.cached(key, verb),
                None => self.not_answered(key),
            };
        }
        match known {
            Some(_) => self.session.tally.add(RouteLabel::Cache, Outcome::Absent, 1),
            None => self.count_miss(key.mapping, self.request.arg(key.at)),
        }
        let refusal = self.services.router.unanswered(self.request, key.at, key.mapping);
        let (sides, proto, request) = (BothSides::of(self), self.session.proto(), OwnedRequest::copy(self.request));
        let text = request.key(key.at);
        let loading = owned.cache.load(key.mapping, &text, &mut self.session.asker());
        let renews = matches!(verb, Some(Verb::Read(_)));
        let reply = Box::pin(async move {
            let looked = match loading.await {
                Err(error) => Err(error),
                Ok(entry) => sides.look(key.mapping, &text, entry, request.bytes()).await?,
            };
            Ok(match (looked, answer) {
                (Err(error), _) => error_reply(&owned.load_error(key.mapping, &error)),
                (Ok(Side::Upstream(reply, pushes)), _) => with_pushes(reply, pushes),
                (Ok(Side::Store(_)), None) => error_reply(&refusal),
                (Ok(Side::Store(entry)), Some(answer)) => {
                    let (now, mut out) = (Tick::now(), BytesMut::new());
                    if renews {
                        owned.cache.renew(&text, &entry, now);
                    }
                    answer_from(answer, &request.view(), &entry.view(now), proto, &mut out);
                    out.into()
                }
            })
        });
        match verb {
            Some(verb) => self.measured(key, &verb, reply),
            None => Flow::Later(reply),
        }
    }

    /// A key of definitions is read. Nobody brings these over: they are written in the store alone.
    pub(super) fn defined_on_both_sides(&mut self, key: OwnedKey, answer: Answer) -> Flow {
        if !key.spec.accepts(self.request.len()) {
            return self.wrong_arity(key.spec);
        }
        let text = Bytes::copy_from_slice(self.request.arg(key.at));
        let is_there = self.services.owned.definitions.snapshot().get(key.mapping, &text).is_some();
        let sides = BothSides::of(self);
        if is_there {
            sides.count(key.mapping, FellBack::Store);
            return self.definition(key, answer);
        }
        self.session.tally.add(RouteLabel::Definition, outcome(false), 1);
        let command = Bytes::copy_from_slice(self.request.raw());
        Flow::Later(Box::pin(async move {
            let told = sides.theirs.tell(command, &text).await?;
            sides.count(key.mapping, side(&told));
            Ok(with_pushes(told.reply, told.pushes))
        }))
    }
}

fn lost() -> StoreError {
    StoreError::Limited(LOST_IN_REPLY.to_owned())
}

const fn side(told: &Told) -> FellBack {
    if told.may_have_key { FellBack::Upstream } else { FellBack::Neither }
}

fn with_pushes(mut reply: Pieces, pushes: Bytes) -> Pieces {
    reply.append(pushes);
    reply
}
