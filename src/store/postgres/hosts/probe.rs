//! What one of several servers is: asked in a session of its own, within `store.connect_timeout`.

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

use super::wanted::Wanted;
use crate::config;
use crate::store::StoreError;
use crate::store::postgres::proof::{self, Proven};
use crate::store::standing::Standing;

/// The name of the file of the log that is being written begins with the timeline, which every promotion raises.
const TIMELINE: &str = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";

/// What it is.
#[derive(Debug)]
pub(super) struct Probed {
    pub(super) proven: Proven,
    /// Of a primary that says it.
    pub(super) timeline: Option<u32>,
}

impl Probed {
    /// In words, behind its place.
    pub(super) const fn is(&self) -> &'static str {
        match self.proven.standing {
            Standing::Writable => "takes writes",
            Standing::Standby => "is a hot standby",
            Standing::ReadOnly => "takes reads only (default_transaction_read_only)",
        }
    }
}

/// Asks it.
///
/// # Errors
/// As [`proof::prove`].
pub(super) async fn probe(
    options: &PgConnectOptions,
    settings: &config::Store,
    wanted: Wanted,
) -> Result<Probed, StoreError> {
    let proven = proof::prove(options, options, settings).await?;
    let is_asked = wanted.rank(proven.standing).is_some() && proven.standing != Standing::Standby;
    let timeline = match is_asked {
        true => tokio::time::timeout(settings.connect_timeout, timeline(options)).await.ok().flatten(),
        false => None,
    };
    Ok(Probed { proven, timeline })
}

/// Not every server says it: some have another log.
async fn timeline(options: &PgConnectOptions) -> Option<u32> {
    let mut connection = options.connect().await.ok()?;
    let digits: String = sqlx::query_scalar(TIMELINE).fetch_one(&mut connection).await.ok()?;
    u32::from_str_radix(&digits, 16).ok()
}
