//! Statements that were in conflict with those of others (a serialization failure, a deadlock): nothing of them has
//! been done, and they are sent again. Knows no statement.
//!
//! Source: <https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html>

use std::time::Duration;

use crate::store::StoreError;

/// How often a statement is sent at most.
const MOST: u32 = 8;

/// The first pause is up to this long, and each next one up to twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// True when a statement that ended so is to be sent again, which was sent so often already; after a pause of a random
/// length, so that two do not meet again.
pub(super) async fn goes_again<T>(result: &Result<T, StoreError>, sent: u32) -> bool {
    if sent >= MOST || !matches!(result, Err(StoreError::Conflict)) {
        return false;
    }
    let longest = FIRST_PAUSE * 2_u32.pow(sent - 1);
    tokio::time::sleep(longest.mul_f64(fastrand::f64())).await;
    true
}
