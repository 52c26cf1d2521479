//! Columns that hold a timestamp without a zone (`timestamp`): every session of the database reads them in its own
//! zone, which is set for the database or the role. The sidecar's sessions use UTC, so that what it shows is UTC; such
//! a column is converted by the name of its zone.
//!
//! The driver gives its sessions UTC when it connects, which nothing in a session can take back: what other sessions
//! have is looked up where it is set. Source:
//! <https://www.postgresql.org/docs/current/datatype-datetime.html#DATATYPE-TIMEZONES>,
//! <https://www.postgresql.org/docs/current/catalog-pg-db-role-setting.html>

use sqlx::PgPool;

use crate::store::StoreError;
use crate::store::catalog::relation::Surety;
use crate::store::catalog::target::Expires;
use crate::store::dialect::moment;

/// The zone in which the database reads a timestamp without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zone {
    /// As `AT TIME ZONE` takes it.
    pub(super) name: String,
    pub(super) surety: Surety,
    /// Why it is doubted.
    pub(super) doubt: Option<String>,
}

impl Zone {
    fn of(name: String, doubt: Option<String>) -> Self {
        Self { name, surety: if doubt.is_some() { Surety::Doubted } else { Surety::Found }, doubt }
    }

    /// True when it is certain which point in time a timestamp means.
    pub(super) fn is_utc(&self) -> bool {
        is_same(&self.name, "UTC")
    }
}

/// True of a row `t` that expired before that time.
pub(super) fn has_expired(expires: &Expires, before: &str) -> String {
    format!("{} < {before}", moment(&format!("t.{}", expires.column), expires.zone.as_deref()))
}

/// The same, whichever zone the column means: zones lie between UTC-12 and UTC+14.
pub(super) fn has_expired_everywhere(expires: &Expires, before: &str) -> String {
    format!("(t.{} AT TIME ZONE 'UTC') < {before} - interval '1 day'", expires.column)
}

/// Every setting of the zone for this database, by its role (0: all).
const SETTINGS: &str = "settings AS (SELECT setrole, setdatabase, substr(entry, strpos(entry, '=') + 1) AS zone \
    FROM pg_db_role_setting, unnest(setconfig) AS entry WHERE lower(split_part(entry, '=', 1)) = 'timezone' \
    AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())))";

/// A role's own setting goes before the database's, and that for this database before that for all.
const FIRST: &str = "ORDER BY setrole <> 0 DESC, setdatabase <> 0 DESC LIMIT 1";

/// The zone of the sessions that write `table`. `set` is what the settings say, empty if nothing.
pub(super) async fn of(pool: &PgPool, set: &str, table: &str) -> Result<Zone, StoreError> {
    if !set.is_empty() {
        return Ok(Zone { name: canonical(pool, set).await?, surety: Surety::Stated, doubt: None });
    }
    look(pool, table, None).await
}

/// The zone by what is set for the role, the database and the server; `before` is what the server is taken to have as
/// long as that cannot be seen.
async fn look(pool: &PgPool, table: &str, before: Option<&str>) -> Result<Zone, StoreError> {
    let ours = format!(
        "WITH {SETTINGS} SELECT zone FROM settings \
         WHERE setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user)) {FIRST}"
    );
    let set: Option<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(ours)).fetch_optional(pool).await?;
    let server = of_server(pool).await?.or(before.map(str::to_owned));
    let Some(zone) = set.or_else(|| server.clone()) else {
        let doubt = "it cannot be seen which zone the server gives its sessions (the role of store.url may not read \
                     its files, or they do not tell)";
        return Ok(Zone::of("UTC".into(), Some(doubt.into())));
    };
    let others = others(pool, table, &zone, server.as_deref()).await?;
    let name = canonical(pool, &zone).await?;
    let doubt = (!others.is_empty())
        .then(|| format!("roles that write the table have other zones than {name}: {}", others.join(", ")));
    Ok(Zone::of(name, doubt))
}

/// Why the zone that was found when the statements were made is not to be relied on any more; `None` while nothing says
/// otherwise. A row that is alive for its writer could look expired since then.
pub(super) async fn doubt_by_now(pool: &PgPool, table: &str, expires: &Expires) -> Result<Option<String>, StoreError> {
    let Some(ours) = expires.zone.as_ref().filter(|_| expires.surety == Surety::Found) else { return Ok(None) };
    let now = look(pool, table, Some(ours)).await?;
    let why = match now.doubt {
        Some(doubt) => doubt,
        None if is_same(&now.name, ours) => return Ok(None),
        None => format!("the database's sessions have {}", now.name),
    };
    Ok(Some(format!(
        "the column {} is a timestamp without time zone that is read as {ours}, and since then {why}: restart the \
         sidecar, or say the zone in store.timezone",
        expires.column
    )))
}

/// Roles that may write the table and whose sessions have another zone, each with its zone. Superusers may write every
/// table, and are counted only if they own it.
async fn others(pool: &PgPool, table: &str, ours: &str, server: Option<&str>) -> Result<Vec<String>, StoreError> {
    let ask = format!(
        "WITH {SETTINGS} SELECT r.rolname::text, \
         coalesce((SELECT zone FROM settings WHERE setrole IN (0, r.oid) {FIRST}), $2) FROM pg_roles AS r \
         WHERE r.rolcanlogin AND (NOT r.rolsuper OR r.rolname = session_user \
         OR r.oid = (SELECT relowner FROM pg_class WHERE oid = $1::regclass)) \
         AND has_any_column_privilege(r.oid, $1::regclass, 'INSERT, UPDATE') ORDER BY 1"
    );
    let asked = sqlx::query_as(sqlx::AssertSqlSafe(ask)).bind(table).bind(server).fetch_all(pool);
    let roles: Vec<(String, Option<String>)> = asked.await?;
    let differs = |(role, zone): (String, Option<String>)| match zone {
        Some(zone) if is_same(&zone, ours) => None,
        Some(zone) => Some(format!("{role} has {zone}")),
        None => Some(format!("{role} has the server's, which cannot be seen")),
    };
    Ok(roles.into_iter().filter_map(differs).collect())
}

fn is_same(one: &str, other: &str) -> bool {
    let is_utc = |zone: &str| {
        let name = zone.rsplit('/').next().unwrap_or(zone);
        ["utc", "uct", "gmt", "zulu", "universal", "greenwich"].iter().any(|utc| name.eq_ignore_ascii_case(utc))
    };
    one.eq_ignore_ascii_case(other) || is_utc(one) && is_utc(other)
}

/// The zone of the server's configuration; `None` where this role may not look, the files say nothing, have a fault or
/// are newer than what the server has read of them, or the command line may say otherwise.
async fn of_server(pool: &PgPool) -> Result<Option<String>, StoreError> {
    let may_look = "SELECT has_table_privilege('pg_catalog.pg_file_settings', 'SELECT') \
        AND has_function_privilege('pg_catalog.pg_show_all_file_settings()', 'EXECUTE') \
        AND has_function_privilege('pg_catalog.pg_read_file(text)', 'EXECUTE') \
        AND has_function_privilege('pg_catalog.pg_stat_file(text)', 'EXECUTE') \
        AND has_function_privilege('pg_catalog.pg_stat_file(text, boolean)', 'EXECUTE')";
    if !sqlx::query_scalar::<_, bool>(may_look).fetch_one(pool).await? {
        return Ok(None);
    }
    // A file's time is in whole seconds.
    let look = "SELECT setting FROM pg_file_settings WHERE lower(name) = 'timezone' AND applied \
        AND NOT EXISTS (SELECT 1 FROM pg_file_settings WHERE error IS NOT NULL \
        OR (pg_stat_file(sourcefile)).modification > pg_conf_load_time()) \
        AND coalesce((pg_stat_file('postgresql.auto.conf', true)).modification <= pg_conf_load_time(), true) \
        AND pg_read_file('postmaster.opts') !~* 'timezone'";
    match sqlx::query_scalar(look).fetch_optional(pool).await {
        // A file that is not there, or not for this server to read, says nothing.
        Err(sqlx::Error::Database(_)) => Ok(None),
        setting => Ok(setting?),
    }
}

/// The name under which the server knows a zone: `SET TimeZone` takes more spellings than `AT TIME ZONE`.
pub(super) async fn canonical(pool: &PgPool, zone: &str) -> Result<String, StoreError> {
    let set = "SELECT set_config('TimeZone', $1, true)";
    match sqlx::query_scalar(set).bind(zone).fetch_one(pool).await.map_err(StoreError::from) {
        Err(StoreError::Data(_)) => {
            Err(StoreError::Refused(format!("the server knows no time zone '{zone}' (store.timezone)")))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::{has_expired_everywhere, is_same};
    use crate::store::catalog::relation::Surety;
    use crate::store::catalog::target::Expires;

    #[test]
    fn zones_are_the_same_by_name_or_as_utc() {
        assert!(is_same("Etc/UTC", "gmt") && is_same("europe/berlin", "Europe/Berlin"));
        assert!(!is_same("Europe/Berlin", "UTC") && !is_same("5", "Etc/UTC"));
    }

    #[test]
    fn what_has_ended_everywhere_is_no_zones_matter() {
        let expires = Expires {
            column: "\"x\"".into(),
            zone: Some("Asia/Tokyo".into()),
            surety: Surety::Found,
            is_required: false,
        };
        let condition = "(t.\"x\" AT TIME ZONE 'UTC') < now() - interval '1 day'";
        assert_eq!(has_expired_everywhere(&expires, "now()"), condition);
    }
}
