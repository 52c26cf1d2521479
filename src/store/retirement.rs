//! Which connections of a pool are too old to be used: they have prepared statements for another schema.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use crate::telemetry::clock::{Tick, millis};

/// The moment at which all connections were retired that were open then; 0: never. A clone is the same moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Retirement(Arc<AtomicU64>);

impl Retirement {
    /// Connections that are open now are not used any more.
    pub(super) fn retire_all(&self) {
        self.0.store(Tick::now().as_ms().max(1), SeqCst);
    }

    /// True of a connection that was opened so long ago, and before the others were retired.
    pub(super) fn concerns(&self, age: Duration) -> bool {
        let retired = self.0.load(SeqCst);
        retired > 0 && Tick::now().as_ms().saturating_sub(millis(age)) <= retired
    }
}
