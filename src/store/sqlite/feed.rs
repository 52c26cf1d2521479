//! The change feed of SQLite: `PRAGMA data_version` on a separate connection says that some other connection, of this
//! process or another, has committed. It does not say what, so everything is taken as changed. Our own writes go over
//! that same connection, which does not report them: `own_changes` tells what they change.
//!
//! Source: <https://www.sqlite.org/pragma.html#pragma_data_version>

use super::writer::Writer;
use crate::config;
use crate::store::{Change, OnChange, StoreError};
use crate::telemetry::clock::Tick;

/// True when another connection has committed since the last look.
async fn has_changed(writer: &Writer) -> Result<bool, StoreError> {
    let mut held = writer.lock().await?;
    let Some(open) = held.open.as_mut() else { return Ok(true) };
    match sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut open.connection).await {
        Ok(version) => Ok(open.version.replace(version) != Some(version)),
        Err(error) => {
            held.open = None;
            Err(error.into())
        }
    }
}

/// Everything before the first look counts as changed: what somebody saw before this began may not have been told.
async fn forget(writer: &Writer) {
    // A file that cannot be opened now is looked at below.
    if let Ok(mut held) = writer.lock().await
        && let Some(open) = held.open.as_mut()
    {
        open.version = None;
    }
}

/// Gives `on_change` every change, for ever.
pub(super) async fn watch(writer: &Writer, settings: &config::Store, on_change: OnChange) {
    let mut in_gap = false;
    forget(writer).await;
    loop {
        let asked = Tick::now();
        match has_changed(writer).await {
            Ok(changed) => {
                if changed {
                    on_change(Change::Everything);
                }
                on_change(Change::Alive(asked));
                in_gap = false;
                tokio::time::sleep(settings.poll_interval).await;
            }
            Err(error) => {
                let why = format!("the store's file cannot be watched: {error}");
                on_change(if in_gap { Change::StillGap(why) } else { Change::Gap(why) });
                in_gap = true;
                tokio::time::sleep(settings.poll_interval.max(std::time::Duration::from_millis(100))).await;
            }
        }
    }
}
