//! LISTEN on a connection of its own, proven alive by notices to itself, which are sent over another one of its own.
//! Knows no mapping: a notice names keys, or a pattern.
//!
//! Invariants:
//! - the listener never reconnects by itself: a connection that ends, errs or is silent past the deadline is a gap,
//!   and a new listener is built (hazards 5 and 6);
//! - a gap ends with the word that everything may have changed, before the feed vouches for anything again (hazard 4);
//! - the listening connection does not send its own notices: a server gives those back with its answer, also where it
//!   gives no others (behind a pooler that shares connections), and they would prove nothing (decision 0021);
//! - `Alive` is given only for a notice that came back over the same connection behind the changes it vouches for.

use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use serde::Deserialize;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};

use super::next_notice::next_notice;
use crate::config;
use crate::store::postgres::pulse::Pulse;
use crate::store::{Change, OnChange, StoreError};
use crate::telemetry::LogThrottle;
use crate::telemetry::clock::Tick;
use crate::telemetry::random_id::fresh;

const CHANNEL: &str = "hearthside";
/// How long an attempt may take that is to say why others fail.
const LAST_ATTEMPT: Duration = Duration::from_secs(1);

const SILENT: &str = "the change feed was silent past its deadline";

const CLOSED: &str = "the change feed cannot be connected; it is tried again";

/// What is said of a standby, behind its place.
const OF_STANDBY: &str = "is a hot standby, which tells no changes (no LISTEN) until it is promoted";

const TROUBLE: &str = "a change trigger failed, and everything of the mapping is taken as changed: has the table \
    changed? `hearthside check --connect`, `hearthside triggers --install`";

const UNREADABLE: &str = "a notice on channel 'hearthside' cannot be read; everything is taken as changed";

/// The payload of a notice, as change triggers write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Notice {
    Keys { keys: Vec<String>, from: Option<String> },
    Mapping { mapping: String, trouble: Option<String> },
}

/// Gives `on_change` every change, for ever.
pub(in crate::store::postgres) async fn watch(
    options: &PgConnectOptions,
    settings: &config::Store,
    on_change: OnChange,
) {
    // Attempts since the feed was last connected.
    let mut attempt = 1_u64;
    let mut said_standby = false;
    loop {
        // Two machines that go on from one memory never share a connection: one of them at least comes by here, and
        // does not take the other's word, by another clock, for its own.
        let heartbeat = format!("hearthside_heartbeat_{:016x}", fresh());
        let why = match connect(options, settings, &heartbeat).await {
            Ok(listener) => {
                attempt = 0;
                let unsent = ArcSwapOption::empty();
                let why = tokio::select! {
                    why = hear(listener, settings, &heartbeat, &on_change) => why,
                    () = beat(options, settings, &heartbeat, &unsent) => "the heartbeat ended".to_owned(),
                };
                with_reason(why, unsent.load_full().as_deref())
            }
            Err(why) => why,
        };
        let is_standby = why.ends_with(OF_STANDBY);
        match attempt {
            0 => {}
            // The gap goes on; the cache is emptied when it ends.
            1 | 20 if !is_standby => tracing::warn!(%why, attempt, "{CLOSED}"),
            _ if is_standby && !said_standby => tracing::warn!(%why, attempt, "{CLOSED}"),
            _ => tracing::debug!(%why, attempt, "{CLOSED}"),
        }
        on_change(if attempt == 0 { Change::Gap(why) } else { Change::StillGap(why) });
        said_standby = is_standby;
        attempt += 1;
        tokio::time::sleep(backoff(attempt)).await;
    }
}

/// min(attempt x 100, 3000) ms, with jitter.
fn backoff(attempt: u64) -> Duration {
    let most = (attempt * 100).min(3000);
    Duration::from_millis(fastrand::u64(most / 2..=most))
}

/// Why a gap has begun, and why the last heartbeat was not sent, if it was not.
fn with_reason(why: String, unsent: Option<&String>) -> String {
    match unsent {
        Some(unsent) if why == SILENT => format!("{why}, and its heartbeat is not sent: {unsent}"),
        _ => why,
    }
}

/// Sends a notice to ourselves again and again; its payload is the moment it was sent. `unsent` is why the last one was
/// not.
async fn beat(options: &PgConnectOptions, settings: &config::Store, channel: &str, unsent: &ArcSwapOption<String>) {
    let pulse = Pulse::new(options.clone(), settings.connect_timeout);
    let mut ticker = tokio::time::interval(settings.heartbeat_interval);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticker.tick().await;
        let sent = Tick::now().as_ms().to_string();
        let values = [channel, &sent];
        let notify = pulse.run("SELECT pg_notify($1, $2)", &values);
        let why = match tokio::time::timeout(settings.heartbeat_timeout, notify).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(StoreError::from(error).to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        };
        if let Some(why) = &why {
            tracing::debug!(why, "a heartbeat of the change feed was not sent");
        }
        unsent.store(why.map(Into::into));
    }
}

/// Listens until something is wrong, and says what.
async fn hear(mut listener: PgListener, settings: &config::Store, heartbeat: &str, on_change: &OnChange) -> String {
    // Nobody was sent what changed before LISTEN took effect.
    on_change(Change::Everything);
    on_change(Change::Alive(Tick::now()));
    tracing::info!("the change feed of Postgres is connected");
    let (troubles, unreadable) = (LogThrottle::default(), LogThrottle::default());
    loop {
        let notice = match tokio::time::timeout(settings.heartbeat_timeout, next_notice(&mut listener)).await {
            Err(_) => return SILENT.to_owned(),
            Ok(Err(why)) => return why,
            Ok(Ok(notice)) => notice,
        };
        if notice.channel() == heartbeat {
            notice.payload().parse().map(|sent| on_change(Change::Alive(Tick::from_ms(sent)))).unwrap_or_default();
        } else {
            let change = read(notice.payload(), &unreadable);
            if let Change::Trouble(mapping, code) = &change
                && let Some(unlogged) = troubles.due()
            {
                tracing::warn!(mapping, code, unlogged, "{TROUBLE}");
            }
            on_change(change);
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

/// Where the server is.
fn place(options: &PgConnectOptions) -> String {
    format!("{}:{}", options.get_host(), options.get_port())
}

/// A listener; or why there is none.
async fn connect(options: &PgConnectOptions, settings: &config::Store, heartbeat: &str) -> Result<PgListener, String> {
    let connected = tokio::time::timeout(settings.connect_timeout, open(options, heartbeat)).await;
    match connected {
        Err(_) => Err(why_not(options).await),
        Ok(Err(error)) => Err(format!("the listener could not connect to {}: {error}", place(options))),
        Ok(Ok(None)) => Err(format!("{} {OF_STANDBY}", place(options))),
        Ok(Ok(Some(listener))) => Ok(listener),
    }
}

/// A listener; a hot standby has none.
async fn open(options: &PgConnectOptions, heartbeat: &str) -> Result<Option<PgListener>, sqlx::Error> {
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
    listener.listen_all([CHANNEL, heartbeat]).await?;
    Ok(Some(listener))
}

/// A notice that cannot be read may have meant anything.
fn read(payload: &str, unreadable: &LogThrottle) -> Change {
    match serde_json::from_str(payload) {
        Ok(Notice::Keys { keys, from }) => Change::Keys(keys.into_iter().map(Bytes::from).collect(), from),
        Ok(Notice::Mapping { mapping, trouble: None }) => Change::Mapping(mapping),
        Ok(Notice::Mapping { mapping, trouble: Some(code) }) => Change::Trouble(mapping, code),
        Err(error) => {
            if let Some(unlogged) = unreadable.due() {
                tracing::warn!(%error, unlogged, "{UNREADABLE}");
            }
            Change::Everything
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::store::Change;
    use crate::telemetry::LogThrottle;

    fn read(payload: &str) -> Change {
        super::read(payload, &LogThrottle::default())
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
