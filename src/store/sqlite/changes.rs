//! The change feed of SQLite: `PRAGMA data_version` on a connection of its own says that some other connection,
//! of this process or another, committed. Not what: everything is taken as changed.
//!
//! Source: <https://www.sqlite.org/pragma.html#pragma_data_version>

use sqlx::Connection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::config;
use crate::store::{Change, OnChange};
use crate::telemetry::clock::now_ms;

pub(super) async fn watch(options: &SqliteConnectOptions, settings: &config::Store, on_change: OnChange) {
    loop {
        let error = poll(options, settings, &on_change).await;
        on_change(Change::Gap(format!("the store's file cannot be watched: {error}")));
        tokio::time::sleep(settings.poll_interval.max(std::time::Duration::from_millis(100))).await;
    }
}

async fn poll(options: &SqliteConnectOptions, settings: &config::Store, on_change: &OnChange) -> sqlx::Error {
    let mut connection = match SqliteConnection::connect_with(options).await {
        Ok(connection) => connection,
        Err(error) => return error,
    };
    let mut known = None;
    loop {
        let asked = now_ms();
        match sqlx::query_scalar::<_, i64>("PRAGMA data_version").fetch_one(&mut connection).await {
            Err(error) => return error,
            Ok(version) => {
                // The first answer says nothing of what happened before it.
                if known.replace(version) != Some(version) {
                    on_change(Change::Everything);
                }
                on_change(Change::Alive(asked));
            }
        }
        tokio::time::sleep(settings.poll_interval).await;
    }
}
