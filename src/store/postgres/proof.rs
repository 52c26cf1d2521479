//! Opens a connection of each kind at the start, to learn at once why there is none (a pool tries until its time is
//! over, and does not say why), and that sessions are what they were asked to be: a pooler that was not mentioned is
//! found out here. Knows no table.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, Row as _};

use crate::config::{self, Pooler};
use crate::store::StoreError;

/// The statement timeout in milliseconds, and what must be the same on both ways.
const ASK: &str = "SELECT (SELECT setting FROM pg_settings WHERE name = 'statement_timeout'), \
    format('database %s, role %s, search_path %s', current_database(), current_user, current_setting('search_path'))";

const UNNAMED_POOLER: &str = "is there a pooler between? Set store.pooler = \"transaction\" and store.feed_url";

/// Proves `store.url`, and `store.feed_url` if there is one.
///
/// # Errors
/// [`StoreError::Unavailable`] when a server does not answer in time, [`StoreError::Refused`] when it is not what the
/// settings say.
pub(super) async fn prove(
    options: &PgConnectOptions,
    direct: &PgConnectOptions,
    settings: &config::Store,
) -> Result<(), StoreError> {
    let has_feed_url = !settings.feed_url.is_empty();
    let timeout = settings.query_timeout.as_millis().to_string();
    let (set, place) = ask(options, settings.connect_timeout).await.map_err(|error| named("store.url", error))?;
    if settings.pooler == Pooler::None && set != timeout {
        return Err(StoreError::Refused(format!(
            "a session has not the settings that were asked for; {UNNAMED_POOLER}"
        )));
    }
    if !has_feed_url {
        return Ok(());
    }
    let (set, past) = ask(direct, settings.connect_timeout).await.map_err(|error| named("store.feed_url", error))?;
    if set != timeout {
        let text = "store.feed_url leads to a pooler: it must be the server itself";
        return Err(StoreError::Refused(text.into()));
    }
    if place != past {
        let text = format!("store.feed_url must lead to the same as store.url: {past} is not {place}");
        return Err(StoreError::Refused(text));
    }
    Ok(())
}

/// Says which setting is meant, and what a pooler's refusal means.
fn named(setting: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(why) if why.contains("unsupported startup parameter") => match setting {
            "store.url" => StoreError::Refused(format!("{why}: {UNNAMED_POOLER}")),
            _ => StoreError::Refused(format!("{setting} leads to a pooler, and must be the server itself: {why}")),
        },
        StoreError::Unavailable(why) if setting != "store.url" => StoreError::Unavailable(format!("{setting}: {why}")),
        StoreError::Refused(why) if setting != "store.url" => StoreError::Refused(format!("{setting}: {why}")),
        other => other,
    }
}

async fn ask(options: &PgConnectOptions, patience: Duration) -> Result<(String, String), StoreError> {
    let unavailable =
        |why: &str| StoreError::Unavailable(format!("{}:{}: {why}", options.get_host(), options.get_port()));
    let asking = async {
        let mut connection = options.connect().await?;
        let answer = answer(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(answer)
    };
    match tokio::time::timeout(patience, asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(match StoreError::from(error) {
            StoreError::Unavailable(why) | StoreError::Overloaded(why) => unavailable(&why),
            other => other,
        }),
        Err(_) => Err(unavailable("no connection within store.connect_timeout")),
    }
}

/// In one message, which is a transaction: a pooler may lend another session for the next.
async fn answer(connection: &mut PgConnection) -> Result<(String, String), sqlx::Error> {
    let row = connection.fetch_one(sqlx::raw_sql(ASK)).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}
