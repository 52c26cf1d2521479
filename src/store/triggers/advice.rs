//! What lets a role make or drop change triggers that it may not, in SQL for the owners.

use sqlx::{AssertSqlSafe, PgPool};

use super::present::BELOW;

/// What the connected role lacks to make the triggers of a table, its partitions and children, which call a function:
/// statements for the owners. `$1` is the table, `$2` the function.
fn lacking() -> String {
    format!(
        "{BELOW} SELECT format('GRANT USAGE, CREATE ON SCHEMA hearthside TO %I', current_user) FROM pg_namespace \
         WHERE nspname = 'hearthside' \
         AND NOT (has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE')) \
         UNION ALL SELECT format('GRANT TRIGGER ON %I.%I TO %I', n.nspname, c.relname, current_user) FROM below \
         JOIN pg_class AS c ON c.oid = relation JOIN pg_namespace AS n ON n.oid = c.relnamespace \
         WHERE NOT has_table_privilege(relation, 'TRIGGER') \
         UNION ALL SELECT format('ALTER FUNCTION hearthside.%I() OWNER TO %I', p.proname, current_user) \
         FROM pg_proc AS p JOIN wanted AS w ON w.token = p.proname \
         WHERE p.pronamespace = to_regnamespace('hearthside') AND NOT pg_has_role(p.proowner, 'USAGE')"
    )
}

/// Who else may do everything with what is named: the owner of a table or of a function of the schema `hearthside`.
const OWNER: &str = "SELECT pg_get_userbyid(coalesce((SELECT relowner FROM pg_class WHERE oid = to_regclass($1)), \
    (SELECT proowner FROM pg_proc WHERE pronamespace = to_regnamespace('hearthside') AND proname = $1)))";

/// What to do where making the triggers of a table failed with this error; nothing where that does not help.
pub(super) async fn to_make(pool: &PgPool, table: &str, function: &str, error: &sqlx::Error) -> String {
    match code(error).as_deref() {
        // The schema, or what the migrations make in it.
        Some("3F000" | "42883") => "; run `hearthside migrate` first".to_owned(),
        Some("42501") => {
            let ask = sqlx::query_scalar::<_, String>(AssertSqlSafe(lacking()));
            let asked = ask.bind(vec![table]).bind(vec![function]).bind(vec![""]).fetch_all(pool).await;
            match asked.unwrap_or_default() {
                statements if statements.is_empty() => to_own(pool, table).await,
                statements => format!("; as the owner run: {}", statements.join("; ")),
            }
        }
        _ => String::new(),
    }
}

/// What to do where dropping something failed with this error.
pub(super) async fn to_drop(pool: &PgPool, name: &str, error: &sqlx::Error) -> String {
    if code(error).as_deref() == Some("42501") { to_own(pool, name).await } else { String::new() }
}

async fn to_own(pool: &PgPool, name: &str) -> String {
    let owner = sqlx::query_scalar::<_, Option<String>>(OWNER).bind(name).fetch_one(pool).await;
    owner.ok().flatten().map(|owner| format!("; run this as the owner, {owner}")).unwrap_or_default()
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}
