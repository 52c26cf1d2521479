//! Commands that write one cached key: written through to the store, taken as a fill by cache-aside code, or refused.

use bytes::{Bytes, BytesMut};

use crate::cache::Cause;
use crate::command::{OwnedRequest, Request};
use crate::config::{DeleteMode, MappingConfig, WriteMode};
use crate::dispatch::call::Call;
use crate::dispatch::{Flow, Owned};
use crate::errors;
use crate::errors::store_words::for_who_asked;
use crate::keys::MappingId;
use crate::mapping::Mapping;
use crate::record::{ReadError, Record, Write, WriteVerb};
use crate::resp::{Proto, encode};
use crate::route::OwnedKey;
use crate::store::StoreError;
use crate::telemetry::metrics::{Outcome, RouteLabel};

impl Call<'_> {
    /// A cached key is written, by a request whose number of arguments is right.
    pub(super) fn write(&mut self, key: OwnedKey, verb: WriteVerb) -> Flow {
        let mapping = &self.services.owned.mappings.list[key.mapping.index()];
        if let Some(text) = refusal(mapping, self.request, key, verb) {
            return self.refuse(&text);
        }
        match verb.read(self.request, key.spec) {
            Err(error) => self.error(&error.to_string()),
            Ok(write) if verb.shape != mapping.config.shape => self.mismatch(key, write),
            Ok(write) if mapping.config.write == WriteMode::Fill => self.fill(key, &write),
            Ok(write) => self.write_through(key, write),
        }
    }

    /// To the store, or to the journal if the mapping defers its writes.
    fn write_through(&mut self, key: OwnedKey, write: Write) -> Flow {
        let (owned, metrics) = (self.services.owned.clone(), self.services.metrics.clone());
        let proto = self.session.proto();
        let (text, by) = (Bytes::copy_from_slice(self.request.arg(key.at)), self.session.writer(&key.spec.name));
        let writing = owned.cache.write(key.mapping, &text, &write, by);
        Flow::Later(Box::pin(async move {
            let mut out = BytesMut::new();
            let written = writing.await;
            metrics.commands.add(RouteLabel::Write, Outcome::of(&written), 1);
            match written {
                Ok(written) => write.answer(&written, proto, &mut out),
                Err(error) => encode::error(&mut out, &owned.write_error(key.mapping, &error)),
            }
            Ok(out.into())
        }))
    }

    /// What cache-aside code writes after a miss is what it read from the store a moment ago: the answer is Redis's for
    /// what is in memory, the next read asks the store.
    fn fill(&mut self, key: OwnedKey, write: &Write) -> Flow {
        let (owned, text) = (&self.services.owned, self.request.arg(key.at));
        let entry = owned.cache.get(key.mapping, text, self.session.now);
        owned.metrics.invalidated("fill");
        owned.cache.invalidate(text, Cause::Asked(&key.spec.name, self.session.peer.id));
        let filled = write.fill(entry.as_ref().and_then(|entry| entry.record.as_ref()));
        self.session.tally.add(RouteLabel::Write, Outcome::of(&filled), 1);
        match filled {
            Ok(written) => {
                owned.tell(text, || write.events(&written));
                write.answer(&written, self.session.proto(), self.out);
            }
            Err(text) => encode::error(self.out, text),
        }
        Flow::Answered
    }

    fn mismatch(&mut self, key: OwnedKey, write: Write) -> Flow {
        self.session.tally.add(RouteLabel::Write, Outcome::Error, 1);
        let (owned, proto, request) =
            (self.services.owned.clone(), self.session.proto(), OwnedRequest::copy(self.request));
        let loading = owned.cache.load(key.mapping, &request.key(key.at), &mut self.session.asker());
        Flow::Later(Box::pin(async move {
            let mut out = BytesMut::new();
            match loading.await {
                Err(error) => encode::error(&mut out, &owned.load_error(key.mapping, &error)),
                Ok(entry) => {
                    let mapping = &owned.mappings.list[key.mapping.index()].config;
                    let mismatch = Mismatch { mapping, request: &request.view(), at: key.at, write: &write };
                    mismatch.answer(entry.record.as_ref(), proto, &mut out);
                }
            }
            Ok(out.into())
        }))
    }
}

/// A write command for another type than the mapping's: what is there is of the wrong type, and what is not there
/// cannot be made, but taking something out of nothing is no error.
pub struct Mismatch<'a> {
    /// The mapping.
    pub mapping: &'a MappingConfig,
    /// The command.
    pub request: &'a Request<'a>,
    /// The key's place among its arguments.
    pub at: usize,
    /// What the command asks.
    pub write: &'a Write,
}

impl Mismatch<'_> {
    /// Appends the answer where the key holds `record`.
    pub fn answer(&self, record: Option<&Record>, proto: Proto, out: &mut BytesMut) {
        match (record, self.write.fill(None)) {
            (Some(_), _) if !self.write.overwrites() => encode::error(out, &ReadError::WrongType.to_string()),
            (None, Ok(nothing)) if self.write.only_removes() => self.write.answer(&nothing, proto, out),
            _ => {
                let (pattern, shape) = (&self.mapping.key, self.mapping.shape.name());
                let (name, key) = (self.request.name(), self.request.arg(self.at));
                encode::error(out, &errors::owned::other_shape(&name, key, pattern, shape));
            }
        }
    }
}

/// Why a mapping does not take this command at all.
#[must_use]
pub fn refusal(mapping: &Mapping, request: &Request<'_>, key: OwnedKey, verb: WriteVerb) -> Option<String> {
    let (pattern, is_refused) = (mapping.pattern.text(), mapping.config.write == WriteMode::Reject);
    if !is_refused && (!verb.deletes || mapping.config.delete == DeleteMode::Row) {
        return None;
    }
    let text = match is_refused {
        true if mapping.may_be_written() => errors::owned::takes_no_writes,
        true => errors::owned::cannot_be_written,
        false => errors::owned::deletes_no_rows,
    };
    Some(text(&request.name(), request.arg(key.at), pattern))
}

impl Owned {
    /// The error for a write that failed.
    #[must_use]
    pub fn write_error(&self, mapping: MappingId, error: &StoreError) -> String {
        let pattern = self.mappings.list[mapping.index()].pattern.text();
        match error {
            StoreError::Value(text) => (*text).to_owned(),
            StoreError::Faulty(why) => errors::owned::unfit(pattern, why),
            StoreError::Loading(_) => self.loading_error(mapping),
            StoreError::Overloaded(why) => errors::owned::overloaded(pattern, &for_who_asked(why)),
            StoreError::ReadOnly(_) => errors::owned::takes_reads_only(pattern, &error.to_string()),
            _ if error.may_have_changed() => errors::owned::maybe_written(pattern, &error.in_full()),
            _ => errors::owned::not_written(pattern, &error.in_full()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{Mismatch, WriteVerb, refusal};
    use crate::command::{OwnedRequest, lookup};
    use crate::config::MappingConfig;
    use crate::keys::{MappingId, Pattern};
    use crate::mapping::{Kind, Mapping};
    use crate::record::{Record, Verb, verb_of};
    use crate::resp::Proto;
    use crate::route::OwnedKey;

    fn mapping(more: &str) -> Mapping {
        let block = format!(r#"{{"key": "k:{{x}}", "type": "hash", "table": "t"{more}}}"#);
        let config: MappingConfig = serde_json::from_str(&block).expect("a block");
        Mapping {
            id: MappingId::new(0),
            kind: Kind::Cache,
            pattern: Pattern::parse("k:{x}").expect("a pattern"),
            config,
        }
    }

    fn command(line: &str) -> (OwnedRequest, OwnedKey, WriteVerb) {
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let spec = lookup(&words[0], b"").expect("a command");
        let Some(Verb::Write(verb)) = verb_of(spec) else { unreachable!("{line} writes") };
        (OwnedRequest::from_words(&words), OwnedKey { mapping: MappingId::default(), at: 1, spec }, verb)
    }

    #[test]
    fn a_mapping_says_which_writes_it_takes() {
        for (more, line, refused) in [
            (r#", "write": "reject""#, "HSET k:1 a b", Some("takes no writes")),
            (r#", "write": "through""#, "HSET k:1 a b", None),
            (r#", "write": "through""#, "GETDEL k:1", Some("deletes no rows")),
            (r#", "write": "through", "delete": "row""#, "GETDEL k:1", None),
        ] {
            let (request, key, verb) = command(line);
            let told = refusal(&mapping(more), &request.view(), key, verb);
            assert_eq!(told.is_some(), refused.is_some(), "{line}: {told:?}");
            assert!(told.unwrap_or_default().contains(refused.unwrap_or_default()), "{line}");
        }
    }

    #[test]
    fn a_write_for_another_type_is_answered_as_redis_answers_it() {
        let record = Record::hash(&[("a", "b")]).expect("a record");
        for (line, holds, expected) in [
            ("SADD k:1 m", true, "-WRONGTYPE "),
            ("SREM k:1 m", false, ":0\r\n"),
            ("SADD k:1 m", false, "-ERR hearthside: SADD on 'k:1': keys of the mapping 'k:{x}' hold a hash"),
            ("SET k:1 v", true, "-ERR hearthside: SET on 'k:1': keys of the mapping 'k:{x}' hold a hash"),
            ("APPEND k:1 v", true, "-WRONGTYPE "),
        ] {
            let (request, key, verb) = command(line);
            let write = verb.read(&request.view(), key.spec).expect("read");
            let (mapping, mut out) = (mapping(""), BytesMut::new());
            let mismatch = Mismatch { mapping: &mapping.config, request: &request.view(), at: key.at, write: &write };
            mismatch.answer(holds.then_some(&record), Proto::Resp2, &mut out);
            assert!(out.starts_with(expected.as_bytes()), "{line}: {out:?}");
        }
    }
}
