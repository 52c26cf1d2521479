//! Commands that read one owned key: a definition from the current snapshot, a cached key from memory or by a load.

use bytes::BytesMut;

use crate::command::{OwnedRequest, Request};
use crate::dispatch::Flow;
use crate::dispatch::call::Call;
use crate::keys::MappingId;
use crate::record::{Answer, Record, Verb, View};
use crate::resp::{Proto, encode};
use crate::route::OwnedKey;
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::{Outcome, RouteLabel};

impl Call<'_> {
    /// A definition is read.
    pub(in crate::dispatch) fn definition(&mut self, key: OwnedKey, answer: Answer) -> Flow {
        if !key.spec.accepts(self.request.len()) {
            return self.wrong_arity(key.spec);
        }
        let definitions = &self.services.owned.definitions;
        let snapshot = definitions.snapshot();
        if let Some(reader) = self.session.reader() {
            definitions.reads(reader, key.mapping, self.request.arg(key.at), &snapshot);
        }
        let view = View { record: snapshot.get(key.mapping, self.request.arg(key.at)), expires_in: None };
        self.session.tally.add(RouteLabel::Definition, outcome(view.record.is_some()), 1);
        let bytes = view.record.map_or(0, Record::weight);
        self.services.front.borrow_mut().saw(self.request.arg(key.at), bytes, self.session.now);
        answer_from(answer, self.request, &view, self.session.proto(), self.out);
        Flow::Answered
    }

    /// A cached key is read or written.
    pub(in crate::dispatch) fn cached(&mut self, key: OwnedKey, verb: Verb) -> Flow {
        if !key.spec.accepts(self.request.len()) {
            return self.wrong_arity(key.spec);
        }
        let flow = match verb {
            Verb::Read(answer) => self.read(key, Reading { answer, renews: true }),
            Verb::Inspect(answer) => self.read(key, Reading { answer, renews: false }),
            Verb::Write(verb) => self.write(key, verb),
            Verb::Expire(parse) => self.expire(key, parse),
        };
        match flow {
            Flow::Later(reply) => self.measured(key, &verb, reply),
            flow => flow,
        }
    }

    fn read(&mut self, key: OwnedKey, reading: Reading) -> Flow {
        let (cache, now, proto) = (&self.services.owned.cache, self.session.now, self.session.proto());
        let (request, text, out) = (self.request, self.request.arg(key.at), &mut *self.out);
        let reader = self.session.reader();
        let hit = cache.hit(&mut self.services.front.borrow_mut(), key.mapping, text, now, |entry| {
            if reading.renews {
                cache.renew(text, entry, now);
            }
            answer_from(reading.answer, request, &entry.view(now), proto, out);
            if let Some(reader) = reader {
                cache.reads(reader, text, entry);
            }
            entry.record.is_some()
        });
        let Some(is_there) = hit else { return self.miss(key, reading) };
        self.session.tally.add(RouteLabel::Cache, outcome(is_there), 1);
        Flow::Answered
    }

    /// Counts a read of a cached key that was not in memory.
    pub(in crate::dispatch) fn count_miss(&mut self, mapping: MappingId, key: &[u8]) {
        self.session.tally.add(RouteLabel::Cache, Outcome::Miss, 1);
        self.services.owned.counts[mapping.index()].missed();
        let now = self.session.now;
        self.services.metrics.cache.top.missed(key, now);
        self.services.front.borrow_mut().saw(key, 0, now);
    }

    /// The key is loaded, and the answer comes when that has ended.
    #[cold]
    fn miss(&mut self, key: OwnedKey, reading: Reading) -> Flow {
        self.count_miss(key.mapping, self.request.arg(key.at));
        let (owned, proto, request) =
            (self.services.owned.clone(), self.session.proto(), OwnedRequest::copy(self.request));
        let (text, reader) = (request.key(key.at), self.session.reader().cloned());
        let loading = owned.cache.load(key.mapping, &text, &mut self.session.asker());
        Flow::Later(Box::pin(async move {
            let mut out = BytesMut::new();
            match loading.await {
                Ok(entry) => {
                    let now = Tick::now();
                    if reading.renews {
                        owned.cache.renew(&text, &entry, now);
                    }
                    answer_from(reading.answer, &request.view(), &entry.view(now), proto, &mut out);
                    if let Some(reader) = reader {
                        owned.cache.reads(&reader, &text, &entry);
                    }
                }
                Err(error) => encode::error(&mut out, &owned.load_error(key.mapping, &error)),
            }
            Ok(out.into())
        }))
    }
}

/// How a cached key is read.
#[derive(Clone, Copy)]
struct Reading {
    answer: Answer,
    /// The read starts the key's TTL again where its mapping says so.
    renews: bool,
}

pub(in crate::dispatch) const fn outcome(is_there: bool) -> Outcome {
    if is_there { Outcome::Hit } else { Outcome::Absent }
}

/// Appends the answer, or the error instead of it.
pub fn answer_from(answer: Answer, request: &Request<'_>, view: &View<'_>, proto: Proto, out: &mut BytesMut) {
    let begin = out.len();
    if let Err(error) = answer(request, view, proto, out) {
        out.truncate(begin);
        encode::error(out, &error.to_string());
    }
}
