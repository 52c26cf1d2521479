//! Opens a connection of each kind at the start, to learn at once why there is none (a pool tries until its time is
//! over, and does not say why), and that sessions are what they were asked to be: a pooler that was not mentioned is
//! found out here. Knows no table.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Row as _};

use super::setup::{self, Setup};
use crate::config::{self, Pooler};
use crate::store::StoreError;
use crate::store::standing::Standing;

/// The statement timeout in milliseconds, what must be the same on both ways, and what the server takes.
const ASK: &str = "(SELECT setting FROM pg_settings WHERE name = 'statement_timeout'), \
    format('database %s, role %s', current_database(), session_user), \
    pg_is_in_recovery(), current_setting('transaction_read_only')::bool";

const UNNAMED_POOLER: &str = "is there a pooler between? Set store.pooler = \"transaction\" and store.feed_url";

const TWO_SERVERS: &str = "of store.url and store.feed_url one leads to a hot standby and the other to its primary: \
    changes would be told before they can be read; let both lead to the same server";

/// What a session says of itself and its server.
struct Server {
    timeout: String,
    place: String,
    standing: Standing,
    setup: Setup,
}

/// What was proven.
#[derive(Debug)]
pub(super) struct Proven {
    /// What the store takes.
    pub(super) standing: Standing,
    /// What sessions are set up with: as the server itself gives it to a new one.
    pub(super) setup: Setup,
    /// The database, and the role of the login.
    pub(super) place: String,
}

/// Proves `store.url`, and `store.feed_url` if there is one; what the store takes.
///
/// # Errors
/// [`StoreError::Unavailable`] when a server does not answer in time, [`StoreError::Refused`] when it is not what the
/// settings say.
pub(super) async fn prove(
    options: &PgConnectOptions,
    direct: &PgConnectOptions,
    settings: &config::Store,
) -> Result<Proven, StoreError> {
    let has_feed_url = !settings.feed_url.is_empty();
    let timeout = settings.query_timeout.as_millis().to_string();
    let here = ask(options, settings.connect_timeout).await.map_err(|error| named("store.url", error))?;
    if settings.pooler == Pooler::None && here.timeout != timeout {
        return Err(StoreError::Refused(format!(
            "a session has not the settings that were asked for; {UNNAMED_POOLER}"
        )));
    }
    if !has_feed_url {
        return Ok(Proven { standing: here.standing, setup: here.setup, place: here.place });
    }
    let past = ask(direct, settings.connect_timeout).await.map_err(|error| named("store.feed_url", error))?;
    if past.timeout != timeout {
        let text = "store.feed_url leads to a pooler: it must be the server itself";
        return Err(StoreError::Refused(text.into()));
    }
    if here.place != past.place {
        let text = format!("store.feed_url must lead to the same as store.url: {} is not {}", past.place, here.place);
        return Err(StoreError::Refused(text));
    }
    if (here.standing == Standing::Standby) != (past.standing == Standing::Standby) {
        return Err(StoreError::Refused(TWO_SERVERS.into()));
    }
    Ok(Proven { standing: here.standing, setup: past.setup, place: here.place })
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

async fn ask(options: &PgConnectOptions, patience: Duration) -> Result<Server, StoreError> {
    let at = |why: &str| format!("{}:{}: {why}", options.get_host(), options.get_port());
    let asking = async {
        let mut connection = options.connect().await?;
        let answer = answer(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(answer)
    };
    match tokio::time::timeout(patience, asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(match StoreError::from(error) {
            StoreError::Unavailable(why) | StoreError::Overloaded(why) | StoreError::Transient(why) => {
                StoreError::Unavailable(at(&why))
            }
            // A login that is refused, or a database that is not there.
            StoreError::Refused(why) => StoreError::Refused(at(&why)),
            other => other,
        }),
        Err(_) => Err(StoreError::Unavailable(at("no connection within store.connect_timeout"))),
    }
}

/// In one message, which is a transaction: a pooler may lend another session for the next.
async fn answer(connection: &mut PgConnection) -> Result<Server, sqlx::Error> {
    let row = connection.fetch_one(sqlx::raw_sql(AssertSqlSafe(format!("SELECT {ASK}, {}", setup::ASK)))).await?;
    let standing = Standing::of(row.try_get(2)?, row.try_get(3)?);
    let setup =
        Setup { role: row.try_get("role")?, search_path: row.try_get("search_path")?, known: row.try_get("known")? };
    Ok(Server { timeout: row.try_get(0)?, place: row.try_get(1)?, standing, setup })
}
