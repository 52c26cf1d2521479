//! What of a transaction is traced: its EXEC, with the store's part of it.

use super::Desk;
use crate::store::StoreError;
use crate::telemetry::clock::Moment;
use crate::telemetry::traces::{StorePart, StoreSpan};

impl Desk<'_> {
    /// EXEC begins to be traced, unless it is already.
    pub(super) fn trace_exec(&self) {
        self.services.trace_exec(self.session);
    }

    /// The store has done this of the transaction, from then until now.
    pub(super) fn trace_store(&self, span: StoreSpan, begun: Moment, error: Option<&StoreError>) {
        if let Some(trace) = self.session.account.trace.get() {
            let (system, error) = (self.services.owned.store.system(), error.map(StoreError::name));
            trace.stored(span, &StorePart { system, mapping: "", table: None, begun, error });
        }
    }
}
