//! What the store, or the journal before it, does for a command.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, SpanKind, TraceId};

use super::command_trace::{CommandTrace, Root, titled};
use super::part::Part;
use super::{Traces, attributes, names};
use crate::telemetry::clock::Moment;

/// A statement, or several that belong together, which have ended now.
#[derive(Clone, Copy, Debug)]
pub struct StorePart<'a> {
    /// `postgresql` or `sqlite`.
    pub system: &'static str,
    /// The mapping; none of a transaction.
    pub mapping: &'a str,
    /// Its table; none of a query.
    pub table: Option<&'a str>,
    /// When it began.
    pub begun: Moment,
    /// One word for what went wrong.
    pub error: Option<&'static str>,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreSpan {
    /// A key is written through.
    Upsert,
    /// Something is added to a key that has several rows.
    Insert,
    /// Rows of a key are deleted.
    Delete,
    /// A write is noted, to be saved later.
    Journal,
    /// A transaction's statements.
    Prepare,
    /// A transaction's end.
    Commit,
}

impl StorePart<'_> {
    /// Its span.
    pub(super) fn part(&self, operation: &str) -> Part {
        let mut part = Part::new(
            SpanKind::Client,
            titled(operation, self.table.or_else(|| Some(self.mapping).filter(|mapping| !mapping.is_empty()))),
            self.begun,
        );
        part.attributes = vec![
            KeyValue::new(attributes::SYSTEM, self.system),
            KeyValue::new(attributes::OPERATION, operation.to_owned()),
        ];
        part.attributes.extend(self.table.map(|table| attributes::text(attributes::COLLECTION, table)));
        if !self.mapping.is_empty() {
            part.attributes.push(attributes::text(attributes::MAPPING, self.mapping));
        }
        part.error = self.error.map(str::to_owned);
        part
    }
}

impl CommandTrace {
    /// The store has done this for it, and has ended now.
    pub fn stored(&self, span: StoreSpan, store: &StorePart<'_>) {
        let part = match span {
            StoreSpan::Upsert => store.part(names::UPSERT),
            StoreSpan::Insert => store.part(names::INSERT),
            StoreSpan::Delete => store.part(names::DELETE),
            StoreSpan::Prepare => Part { name: names::STATEMENTS.into(), ..store.part("BEGIN") },
            StoreSpan::Commit => Part { name: names::COMMIT.into(), ..store.part(names::COMMIT) },
            StoreSpan::Journal => Part {
                kind: SpanKind::Internal,
                name: titled(names::JOURNAL, Some(store.mapping)),
                attributes: vec![attributes::text(attributes::MAPPING, store.mapping)],
                ..store.part(names::JOURNAL)
            },
        };
        self.add(part);
    }

    /// What names it in other traces, where it is certain that it will be there.
    #[must_use]
    pub fn reference(&self) -> Option<TraceReference> {
        self.is_certain().then_some((self.id, self.span))
    }
}

/// A trace, and its first span.
pub type TraceReference = (TraceId, SpanId);

impl Traces {
    /// Deferred writes were saved by one statement, those of these commands among them.
    pub fn flushed(self: &Arc<Self>, store: &StorePart<'_>, rows: usize, of: Vec<TraceReference>) {
        let trace = CommandTrace::begin(self, Root::of_itself(names::FLUSH), store.begun, !of.is_empty());
        let mut part = store.part(names::UPSERT);
        part.name = titled(names::FLUSH, Some(store.mapping));
        part.id = trace.span;
        part.attributes.push(KeyValue::new(attributes::BATCH_SIZE, rows as i64));
        trace.links_to(of);
        trace.was(part);
    }
}
