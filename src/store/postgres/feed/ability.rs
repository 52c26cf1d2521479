//! What a server and a role need for changes to be told by logical replication, and what they lack. Knows no table.

use sqlx::{FromRow, PgPool};

use crate::store::StoreError;

/// Amazon's servers give the right by a role.
const ASK: &str = "SELECT current_setting('wal_level') AS wal_level, current_user::text AS role, \
    (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user) OR EXISTS (SELECT FROM pg_roles \
    WHERE rolname = 'rds_replication' AND pg_has_role(oid, 'MEMBER')) AS may_replicate, \
    current_setting('max_replication_slots')::int > (SELECT count(*) FROM pg_replication_slots) AS has_slots, \
    current_setting('max_wal_senders')::int > (SELECT count(*) FROM pg_stat_replication) AS has_senders, \
    current_setting('server_version_num')::int >= 140000 AS is_new, \
    coalesce(current_setting('max_slot_wal_keep_size', true), '-1') = '-1' AS is_unbounded, \
    current_setting('synchronous_standby_names') AS standby_names, \
    EXISTS (SELECT FROM pg_publication WHERE pubname = $1) AS has_publication";

#[derive(Debug, FromRow)]
pub(super) struct Ability {
    pub(super) wal_level: String,
    pub(super) role: String,
    pub(super) may_replicate: bool,
    pub(super) has_slots: bool,
    pub(super) has_senders: bool,
    pub(super) is_new: bool,
    pub(super) is_unbounded: bool,
    /// The standbys for which commits wait.
    pub(super) standby_names: String,
    /// Whether the publication of the settings is there.
    pub(super) has_publication: bool,
}

impl Ability {
    /// Asks the server.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) async fn ask(pool: &PgPool, publication: &str) -> Result<Self, StoreError> {
        Ok(sqlx::query_as(ASK).bind(publication).fetch_one(pool).await?)
    }

    /// What is lacking, a line each, with what to do.
    pub(super) fn lacks(&self) -> Vec<String> {
        self.lacks_for_good().into_iter().chain(self.why_not_now()).collect()
    }

    /// What is lacking until somebody changes it.
    pub(super) fn lacks_for_good(&self) -> Vec<String> {
        let Self { wal_level, role, .. } = self;
        let lines = [
            (!self.is_new).then(|| "Postgres is older than version 14".to_owned()),
            (wal_level != "logical").then(|| {
                format!("wal_level is {wal_level}: ALTER SYSTEM SET wal_level = logical, and restart Postgres")
            }),
            (!self.may_replicate).then(|| format!("the role {role} may not replicate: ALTER ROLE {role} REPLICATION")),
        ];
        lines.into_iter().flatten().collect()
    }

    /// What others have taken, and may give back.
    pub(super) fn why_not_now(&self) -> Option<String> {
        match self {
            Self { has_slots: false, .. } => Some("no replication slot is free: raise max_replication_slots".into()),
            Self { has_senders: false, .. } => Some("no sender is free for replication: raise max_wal_senders".into()),
            _ => None,
        }
    }

    /// Why changes are not told so, if they cannot be whatever others do.
    pub(super) fn why_not(&self, publication: &str) -> Option<String> {
        let mut lacks = self.lacks_for_good();
        if lacks.is_empty() && !self.has_publication {
            lacks.push(format!("there is no publication {publication}: `hearthside triggers --install` makes it"));
        }
        (!lacks.is_empty()).then(|| lacks.join("; "))
    }

    /// What an operator should know of it.
    pub(super) fn doubts(&self) -> impl Iterator<Item = &'static str> {
        let lines = [
            self.is_unbounded.then_some(
                "max_slot_wal_keep_size is -1: the server keeps its log for as long as a connected sidecar does not \
                 read it; with a bound it ends the sidecar's slot instead, which is a gap",
            ),
            self.counts_as_standby().then_some(
                "synchronous_standby_names takes the change feed of a sidecar for a synchronous standby: commits wait \
                 for the sidecar, and are confirmed when no standby has them; name the standbys that are meant instead \
                 of '*': ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (name, ...)'; SELECT pg_reload_conf()",
            ),
        ];
        lines.into_iter().flatten()
    }

    /// A name of the list is that of our connections, or stands for all.
    fn counts_as_standby(&self) -> bool {
        let names = self.standby_names.split([',', '(', ')', ' ', '\t', '\n']).map(|name| name.trim_matches('"'));
        names.into_iter().any(|name| name == "*" || name.eq_ignore_ascii_case("hearthside"))
    }
}

#[cfg(test)]
impl Ability {
    /// Of a server and a role that lack nothing.
    pub(super) fn of_everything() -> Self {
        Self {
            wal_level: "logical".into(),
            role: "app".into(),
            may_replicate: true,
            has_slots: true,
            has_senders: true,
            is_new: true,
            is_unbounded: false,
            standby_names: String::new(),
            has_publication: true,
        }
    }
}
