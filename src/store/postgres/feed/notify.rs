//! LISTEN on a connection of its own, proven alive by notices to itself, which are sent over another one of its own.
//! Knows no mapping: a notice names keys, or a pattern.
//!
//! Invariants:
//! - the listening connection does not send its own notices: a server gives those back with its answer, also where it
//!   gives no others (behind a pooler that shares connections), and they would prove nothing (decision 0021);
//! - `Alive` is given only for a notice that came back over the same connection behind the changes it vouches for.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use super::OF_STANDBY;
use super::heartbeat::{Beat, Heart};
use super::next_notice::next_notice;
use crate::config;
use crate::store::postgres::options::place;
use crate::store::postgres::way::Way;
use crate::store::{Change, OnChange};
use crate::telemetry::LogThrottle;
use crate::telemetry::clock::Tick;

const CHANNEL: &str = "hearthside";
/// Over which sidecars ask something of all.
pub(super) const WORDS: &str = "hearthside_words";
/// Sends a heartbeat over the channel of this name: by the function or, where the role has not the right to call it, by
/// the command, which needs none and takes no parameters.
const BEAT: Beat = Beat {
    sql: "SELECT pg_notify($1, $2)",
    when_denied: Some(|name, sent| format!("NOTIFY {name}, '{sent}'; SELECT 1")),
};
/// How long an attempt may take that is to say why others fail.
const LAST_ATTEMPT: Duration = Duration::from_secs(1);

const TROUBLE: &str = "a change trigger failed, and everything of the mapping is taken as changed: has the table \
    changed? `hearthside check --connect`, `hearthside triggers --install`";

const UNREADABLE: &str = "what a change trigger has told cannot be read; everything is taken as changed";

/// The payload of a notice, as change triggers write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Notice {
    Keys { keys: Vec<String>, from: Option<String> },
    Mapping { mapping: String, trouble: Option<String> },
}

/// Listens until something is wrong, and says what.
pub(super) async fn listen(
    way: &Way,
    settings: &config::Store,
    heartbeat: &str,
    on_change: &OnChange,
    attempt: &mut u64,
) -> String {
    let listener = match connect(&way.get(), settings, [CHANNEL, WORDS, heartbeat]).await {
        Ok(listener) => listener,
        Err(why) => return why,
    };
    *attempt = 0;
    let heart = Heart::new(BEAT, way, settings, heartbeat);
    heart.beat_beside(hear(listener, settings, heartbeat, on_change)).await
}

/// Hears what comes until something is wrong, and says what.
async fn hear(mut listener: PgListener, settings: &config::Store, heartbeat: &str, on_change: &OnChange) -> String {
    // Nobody was sent what changed before LISTEN took effect.
    on_change(Change::Everything);
    on_change(Change::Alive(Tick::now()));
    tracing::info!("the change feed of Postgres is connected");
    let reading = Reading::default();
    loop {
        let notice = match next_notice(&mut listener, settings.heartbeat_timeout).await {
            Err(why) => return why,
            Ok(notice) => notice,
        };
        if notice.channel() == heartbeat {
            notice.payload().parse().map(|sent| on_change(Change::Alive(Tick::from_ms(sent)))).unwrap_or_default();
        } else if notice.channel() == WORDS {
            on_change(Change::Word(notice.payload().to_owned()));
        } else {
            on_change(reading.change(notice.payload()));
        }
    }
}

/// The pool tries again while nobody listens there, and says nothing of it: one attempt more does.
async fn why_not(options: &PgConnectOptions) -> String {
    let place = place(options);
    match tokio::time::timeout(LAST_ATTEMPT, options.connect()).await {
        Ok(Err(error)) => format!("the listener could not connect to {place}: {error}"),
        _ => format!("the listener could not connect to {place} in time"),
    }
}

/// A listener; or why there is none.
pub(super) async fn connect(
    options: &PgConnectOptions,
    settings: &config::Store,
    channels: [&str; 3],
) -> Result<PgListener, String> {
    let connected = tokio::time::timeout(settings.connect_timeout, open(options, channels)).await;
    match connected {
        Err(_) => Err(why_not(options).await),
        Ok(Err(error)) => Err(format!("the listener could not connect to {}: {error}", place(options))),
        Ok(Ok(None)) => Err(format!("{} {OF_STANDBY}", place(options))),
        Ok(Ok(Some(listener))) => Ok(listener),
    }
}

/// A listener; a hot standby has none.
async fn open(options: &PgConnectOptions, channels: [&str; 3]) -> Result<Option<PgListener>, sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options.clone())
        .await?;
    if sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&pool).await? {
        return Ok(None);
    }
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    listener.listen_all(channels).await?;
    Ok(Some(listener))
}

/// Reads what change triggers tell.
#[derive(Default)]
pub(super) struct Reading {
    troubles: LogThrottle,
    unreadable: LogThrottle,
}

impl Reading {
    /// What is told. What cannot be read may have meant anything.
    pub(super) fn change(&self, payload: &str) -> Change {
        match serde_json::from_str(payload) {
            Ok(Notice::Keys { keys, from }) => Change::Keys(keys.into_iter().map(Bytes::from).collect(), from),
            Ok(Notice::Mapping { mapping, trouble: None }) => Change::Mapping(mapping),
            Ok(Notice::Mapping { mapping, trouble: Some(code) }) => {
                if let Some(unlogged) = self.troubles.due() {
                    tracing::warn!(mapping, code, unlogged, "{TROUBLE}");
                }
                Change::Trouble(mapping, code)
            }
            Err(error) => {
                if let Some(unlogged) = self.unreadable.due() {
                    tracing::warn!(%error, unlogged, "{UNREADABLE}");
                }
                Change::Everything
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Change;

    fn read(payload: &str) -> Change {
        super::Reading::default().change(payload)
    }

    #[test]
    fn notices_are_read_or_mean_everything() {
        assert_eq!(read(r#"{"keys":["a:1","a:2"]}"#), Change::Keys(vec!["a:1".into(), "a:2".into()], None));
        let ours = read(r#"{"keys":["a:1"],"from":"me:7"}"#);
        assert_eq!(ours, Change::Keys(vec!["a:1".into()], Some("me:7".into())));
        assert_eq!(read(r#"{"mapping" : "a:{x}"}"#), Change::Mapping("a:{x}".into()));
        let trouble = read(r#"{"mapping":"a:{x}","trouble":"42703"}"#);
        assert_eq!(trouble, Change::Trouble("a:{x}".into(), "42703".into()));
        assert_eq!(read("nonsense"), Change::Everything);
    }
}
