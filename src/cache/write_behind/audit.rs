//! What was acknowledged and is not saved goes into the audit log.

use bytes::Bytes;

use super::WriteBehind;
use crate::journal::{Change, Entry};
use crate::telemetry::audit::{AuditLine, shown_all};

impl WriteBehind {
    /// These rows are put aside.
    pub(super) fn audit_aside(&self, rows: &[(Bytes, Vec<Entry>)], why: &str) {
        let audit = &self.metrics.audit;
        for (key, entries) in rows.iter().filter(|_| audit.is_on()) {
            let names = shown_all(entries.iter().filter_map(|entry| match &entry.change {
                Change::Field(name, _) if !name.is_empty() => Some(&name[..]),
                Change::Field(..) | Change::Expiry(_) => None,
            }));
            let mapping = entries.first().map_or("", |entry| &*entry.mapping);
            audit.add(&AuditLine::put_aside(mapping, key, &names, why));
        }
    }
}
