//! Moments as an operator reads them.

use std::time::{Duration, UNIX_EPOCH};

use humantime_serde::re::humantime::format_rfc3339_millis;

use crate::telemetry::clock::{Tick, UnixMs};

/// `2026-11-28T03:44:36.123Z`.
pub(super) fn shown(moment: UnixMs) -> String {
    let since = Duration::from_millis(u64::try_from(moment.as_ms()).unwrap_or(0));
    format_rfc3339_millis(UNIX_EPOCH + since).to_string()
}

/// A time in milliseconds, to the microsecond.
pub(super) fn in_ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// The same of a moment of the process's clock.
pub(super) fn of_tick(tick: Tick) -> String {
    let ago = i64::try_from(Tick::now().since(tick)).unwrap_or(i64::MAX);
    shown(UnixMs::now().plus(-ago))
}
