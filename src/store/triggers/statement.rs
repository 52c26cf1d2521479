//! The rights that a statement of a mapping needs: on what it names, by the plan that Postgres makes for it.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgPool};

use super::rights::{Needs, add};
use crate::store::catalog::relation::quote;
use crate::store::words::names_in;

/// What a name in a statement means: the relation's full name, whether a plan names others in its place (what a view
/// is made of, partitions), and whether those are read with the rights of whoever reads the view.
const NAMED: &str = "SELECT format('\"%s\".\"%s\"', replace(n.nspname, '\"', '\"\"'), \
    replace(c.relname, '\"', '\"\"')), c.relkind IN ('v', 'p'), EXISTS (SELECT FROM pg_options_to_table(c.reloptions) \
    WHERE option_name = 'security_invoker' AND option_value::boolean) \
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)";

/// What the statement needs. What is behind an ordinary view or in a partition is the business of the view's owner, or
/// of the whole table.
///
/// # Errors
/// The connected role may not run it (42501), or it is faulty.
pub(super) async fn needs(pool: &PgPool, sql: &str) -> Result<Needs, sqlx::Error> {
    let planned = of_plan(&plan(pool, sql).await?);
    let (mut named, mut shows_all) = (BTreeMap::new(), false);
    for name in names_in(sql) {
        let found = sqlx::query_as::<_, (String, bool, bool)>(NAMED).bind(name).fetch_optional(pool).await;
        match found {
            Ok(Some((relation, stands_for_others, is_invoker))) => {
                shows_all |= is_invoker;
                named.insert(relation, stands_for_others);
            }
            // No table can have it as its name.
            Ok(None) | Err(sqlx::Error::Database(_)) => {}
            Err(error) => return Err(error),
        }
    }
    let (own, others): (Needs, Needs) = planned.into_iter().partition(|(table, _)| named.contains_key(table));
    let mut needs = if shows_all { others.clone() } else { Needs::new() };
    let rights: Vec<&'static str> = others.into_values().flatten().collect();
    let standing = named.into_iter().filter(|(name, stands_for_others)| *stands_for_others && !own.contains_key(name));
    standing.for_each(|(name, _)| add(&mut needs, &name, &rights));
    own.iter().for_each(|(table, rights)| add(&mut needs, table, rights));
    Ok(needs)
}

/// The plan of a statement, which is not run. Each part goes by the extended protocol, which takes one statement: what
/// stands behind a semicolon is an error.
pub(super) async fn plan(pool: &PgPool, sql: &str) -> Result<Value, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let mut transaction = connection.begin().await?;
    let run = |sql: String| sqlx::query(AssertSqlSafe(sql)).persistent(false);
    // With a generic plan nothing is left out because a parameter is null.
    run("SET LOCAL plan_cache_mode = force_generic_plan".to_owned()).execute(&mut *transaction).await?;
    run(format!("PREPARE hearthside_rights AS {sql}")).execute(&mut *transaction).await?;
    let count = "SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'hearthside_rights'";
    let count: i32 = sqlx::query_scalar(count).fetch_one(&mut *transaction).await?;
    let nulls = if count == 0 { String::new() } else { format!("({})", vec!["NULL"; count as usize].join(", ")) };
    let explain = format!("EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE hearthside_rights{nulls}");
    let plan = run(explain).fetch_one(&mut *transaction).await;
    transaction.rollback().await?;
    run("DEALLOCATE hearthside_rights".to_owned()).execute(&mut *connection).await?;
    let plan: String = sqlx::Row::try_get_unchecked(&plan?, 0)?;
    Ok(serde_json::from_str(&plan).unwrap_or_default())
}

/// Walks a plan: a node with a table reads it, or changes it.
fn of_plan(plan: &Value) -> Needs {
    let mut needs = Needs::new();
    if let (Some(schema), Some(table)) = (plan["Schema"].as_str(), plan["Relation Name"].as_str()) {
        let right = match plan["Operation"].as_str() {
            Some("Insert") => "INSERT",
            Some("Update") => "UPDATE",
            Some("Delete") => "DELETE",
            _ => "SELECT",
        };
        add(&mut needs, &format!("{}.{}", quote(schema), quote(table)), &[right]);
    }
    let parts: Vec<&Value> = match plan {
        Value::Array(parts) => parts.iter().collect(),
        Value::Object(parts) => parts.values().collect(),
        _ => Vec::new(),
    };
    for (table, rights) in parts.into_iter().flat_map(of_plan) {
        add(&mut needs, &table, &rights);
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::of_plan;

    #[test]
    fn a_plan_says_what_is_read_and_changed() {
        let plan = r#"[{"Plan": {"Node Type": "ModifyTable", "Operation": "Delete", "Schema": "s", "Relation Name": "A",
            "Plans": [{"Node Type": "Seq Scan", "Schema": "s", "Relation Name": "A"}, {"Node Type": "Result"}]}}]"#;
        let needs = of_plan(&serde_json::from_str(plan).expect("JSON"));
        assert_eq!(needs.into_iter().collect::<Vec<_>>(), [("\"s\".\"A\"".to_owned(), vec!["DELETE", "SELECT"])]);
    }
}
