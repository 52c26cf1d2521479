//! The next notice of a listener; or why there will be none, in the server's own words. Knows no notice's meaning.
//!
//! A server, or a pooler, says why it ends a connection just before it does. The driver's listener passes over that; a
//! statement over the same connection gives it as its error. So the listener only waits until something arrives, and
//! what has arrived is read by an empty statement, which also gathers the notices among it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use sqlx::postgres::{PgListener, PgNotification};
use sqlx::{Acquire as _, Connection as _};

use super::SILENT;
use crate::store::StoreError;

const ENDED: &str = "the change feed's connection ended";

/// Waits for it, for so long at most.
///
/// # Errors
/// Why the connection has ended, or is of no use any more; [`SILENT`] when nothing has come.
pub(super) async fn next_notice(listener: &mut PgListener, patience: Duration) -> Result<PgNotification, String> {
    tokio::time::timeout(patience, next(listener)).await.unwrap_or_else(|_| Err(SILENT.to_owned()))
}

async fn next(listener: &mut PgListener) -> Result<PgNotification, String> {
    loop {
        if let Some(notice) = listener.next_buffered() {
            return Ok(notice);
        }
        read(listener).await.map_err(ended)?;
        match before_anything_arrives(listener.try_recv()).await {
            Some(Ok(Some(notice))) => return Ok(notice),
            Some(Ok(None)) => return Err(ENDED.to_owned()),
            Some(Err(error)) => return Err(ended(error)),
            None => {}
        }
    }
}

/// What a future gives at once; nothing where it has to wait, as soon as it need not wait any more.
async fn before_anything_arrives<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut has_waited = false;
    poll_fn(|context| match std::mem::replace(&mut has_waited, true) {
        false => future.as_mut().poll(context).map(Some),
        true => Poll::Ready(None),
    })
    .await
}

/// Reads what has arrived, up to the answer to an empty statement. The listener keeps the notices among it.
async fn read(listener: &mut PgListener) -> Result<(), sqlx::Error> {
    listener.acquire().await?.ping().await
}

fn ended(error: sqlx::Error) -> String {
    match StoreError::from(error) {
        StoreError::Unavailable(why) | StoreError::Refused(why) | StoreError::Data(why) => format!("{ENDED}: {why}"),
        other => format!("{ENDED}: {other}"),
    }
}
