//! A session of a hot standby, and what it is known to have replayed. A standby goes back only when it is started
//! again, and then its sessions have ended.

use std::sync::Arc;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Row as _};

use super::soundings::{Place, Sounding, Soundings};

/// Of the two timelines the newer one has been replayed: one is of the last restart point, the other of the last page
/// that was written.
const ASK: &str = "SELECT pg_is_in_recovery(), pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint, \
    greatest(c.timeline_id, r.min_recovery_end_timeline)::bigint, s.system_identifier, \
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint \
    FROM pg_control_checkpoint() AS c, pg_control_recovery() AS r, pg_control_system() AS s";

/// Whether one of these transactions has been replayed.
const HAS_ONE: &str = "SELECT EXISTS (SELECT FROM unnest($1::bigint[]) AS running (number) \
    WHERE pg_xact_status(number::text::xid8) = 'committed')";

#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: PgConnection,
    /// How it was opened.
    pub(super) options: Arc<PgConnectOptions>,
    /// The newest sounding that its server had reached when it was asked.
    pub(super) reached: Option<Sounding>,
    /// What was shown before that were transactions with lower numbers.
    pub(super) end: u64,
}

impl Session {
    pub(super) async fn open(options: Arc<PgConnectOptions>) -> Result<Self, sqlx::Error> {
        Ok(Self { connection: options.connect().await?, options, reached: None, end: 0 })
    }

    /// Whether its server shows one of these transactions, which it has met.
    pub(super) async fn has_one_of(&mut self, running: &[u64]) -> Result<bool, sqlx::Error> {
        if running.is_empty() {
            return Ok(false);
        }
        let running: Vec<i64> = running.iter().map(|number| number.cast_signed()).collect();
        sqlx::query_scalar(HAS_ONE).bind(running).fetch_one(&mut self.connection).await
    }

    /// Asks how far its server is. False when that is no standby any more.
    pub(super) async fn ask(&mut self, soundings: &Soundings) -> Result<bool, sqlx::Error> {
        let row = sqlx::query(ASK).fetch_one(&mut self.connection).await?;
        let is_standby = row.try_get(0)?;
        let end: Option<i64> = row.try_get(1)?;
        let (timeline, system) = (row.try_get(2)?, row.try_get(3)?);
        let reached = end.filter(|_| is_standby).and_then(|end| soundings.reached(Place { system, timeline, end }));
        (self.reached, self.end) = (reached, row.try_get::<i64, _>(4)?.cast_unsigned());
        Ok(is_standby)
    }
}
