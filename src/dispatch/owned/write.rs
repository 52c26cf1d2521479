//! Commands that write one owned key: through to the store, as a fill of cache-aside code, or refused.

use bytes::{Bytes, BytesMut};

use crate::command::{OwnedRequest, Request, Spec};
use crate::config::{DeleteMode, MappingConfig, WriteMode};
use crate::dispatch::{Flow, Services, wrong_arity};
use crate::mapping::Mapping;
use crate::record::{ReadError, Record, Write, Written, written_shape};
use crate::resp::pieces::Pieces;
use crate::resp::{Proto, encode};
use crate::session::Session;
use crate::store::StoreError;
use crate::telemetry::metrics::{Outcome, RouteLabel};

/// Answers a write on one owned key: mapping, the key's place, and the command.
pub(crate) fn answer(
    services: &Services,
    session: &mut Session,
    request: &Request<'_>,
    (mapping, at, spec): (usize, usize, &'static Spec),
    out: &mut BytesMut,
) -> Flow {
    let owned = &services.owned;
    let (Some(shape), false) = (written_shape(spec), owned.is_definition(mapping)) else {
        return crate::dispatch::refuse(session, &services.router.unanswered(request, at, mapping), out);
    };
    if !spec.accepts(request.len()) {
        wrong_arity(spec, out);
        return Flow::Answered;
    }
    let target = &owned.mappings.list[mapping];
    if let Some(text) = refusal(target, request, at, spec) {
        return crate::dispatch::refuse(session, &text, out);
    }
    let write = match Write::parse(request, spec) {
        Ok(write) if shape != target.config.shape => return mismatch(services, session, request, (mapping, at), write),
        Ok(write) => write,
        Err(error) => {
            encode::error(out, &error.to_string());
            return Flow::Answered;
        }
    };
    session.tally.add(RouteLabel::Write, Outcome::Ok, 1);
    let (key, proto) = (Bytes::copy_from_slice(request.arg(at)), session.proto());
    if target.config.write == WriteMode::Fill {
        match owned.fill(mapping, &key, &write, session.now) {
            Ok(written) => write.answer(&written, proto, out),
            Err(text) => encode::error(out, text),
        }
        return Flow::Answered;
    }
    let (owned, writing) = (owned.clone(), owned.cache.write(mapping, &key, &write));
    Flow::Later(Box::pin(async move {
        let written = writing.await;
        Ok(told(&write, written, proto, |error| owned.write_error(mapping, error)))
    }))
}

/// A command for another type than the mapping's: what is there is of the wrong type, and what is not there cannot be
/// made, but taking something out of nothing is no error.
fn mismatch(
    services: &Services,
    session: &mut Session,
    request: &Request<'_>,
    (mapping, at): (usize, usize),
    write: Write,
) -> Flow {
    session.tally.add(RouteLabel::Write, Outcome::Error, 1);
    let (owned, proto) = (services.owned.clone(), session.proto());
    let loading = owned.cache.load(mapping, &Bytes::copy_from_slice(request.arg(at)));
    let request = OwnedRequest::copy(request);
    Flow::Later(Box::pin(async move {
        let mut out = BytesMut::new();
        match loading.await {
            Err(error) => encode::error(&mut out, &owned.load_error(mapping, &error)),
            Ok(entry) => {
                let block = &owned.mappings.list[mapping].config;
                answer_mismatch(block, (&request.view(), at), &write, entry.record.as_ref(), proto, &mut out);
            }
        }
        Ok(out.into())
    }))
}

/// The answer of such a command where the key holds `record`.
pub fn answer_mismatch(
    block: &MappingConfig,
    (request, at): (&Request<'_>, usize),
    write: &Write,
    record: Option<&Record>,
    proto: Proto,
    out: &mut BytesMut,
) {
    match (record, write.fill(None)) {
        (Some(_), _) if !write.overwrites() => encode::error(out, &ReadError::WrongType.to_string()),
        (None, Ok(nothing)) if write.only_removes() => write.answer(&nothing, proto, out),
        _ => {
            let (name, key) = (request.name().to_ascii_uppercase(), String::from_utf8_lossy(request.arg(at)));
            let (pattern, shape) = (&block.key, block.shape.name());
            encode::error(
                out,
                &format!("ERR hearthside: {name} on '{key}': keys of the mapping '{pattern}' hold a {shape}"),
            );
        }
    }
}

/// The answer to a write that has ended.
fn told(
    write: &Write,
    written: Result<Written, StoreError>,
    proto: Proto,
    describe: impl Fn(&StoreError) -> String,
) -> Pieces {
    let mut out = BytesMut::new();
    match written {
        Ok(written) => write.answer(&written, proto, &mut out),
        Err(error) => encode::error(&mut out, &describe(&error)),
    }
    out.into()
}

/// Why a mapping does not take this command at all.
#[must_use]
pub fn refusal(mapping: &Mapping, request: &Request<'_>, at: usize, spec: &Spec) -> Option<String> {
    let name = format!("{} on '{}'", request.name().to_ascii_uppercase(), String::from_utf8_lossy(request.arg(at)));
    let pattern = mapping.pattern.text();
    if mapping.config.write == WriteMode::Reject {
        return Some(format!(
            "ERR hearthside: {name}: the mapping '{pattern}' takes no writes (write = \"reject\"); \
             write to the store, or set write = \"through\""
        ));
    }
    let removes = spec.name == "getdel" && mapping.config.delete != DeleteMode::Row;
    removes.then(|| {
        format!("ERR hearthside: {name}: the mapping '{pattern}' deletes no rows; set delete = \"row\" to allow it")
    })
}

impl crate::dispatch::Owned {
    /// The error for a write that failed.
    #[must_use]
    pub fn write_error(&self, mapping: usize, error: &StoreError) -> String {
        let pattern = self.mappings.list[mapping].pattern.text();
        match error {
            StoreError::Value(text) => (*text).to_owned(),
            StoreError::Loading(_) => self.loading_error(mapping),
            StoreError::Ambiguous(_) => format!("ERR hearthside: the mapping '{pattern}': {error}"),
            _ => format!("ERR hearthside: the mapping '{pattern}' was not written: {error}"),
        }
    }

    /// What cache-aside code writes after a miss is what it read from the store a moment ago: the answer is Redis's for
    /// what is in memory, the next read asks the store.
    fn fill(&self, mapping: usize, key: &[u8], write: &Write, now: u64) -> Result<Written, &'static str> {
        let entry = self.cache.get(mapping, key, now);
        self.metrics.invalidated("fill");
        self.cache.invalidate(key);
        write.fill(entry.as_ref().and_then(|entry| entry.record.as_ref()))
    }
}
