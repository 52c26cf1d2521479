//! The statements that write the rows of one key, except the upsert. Pure; knows no connection.

use serde_json::Value;

use super::expression::{Parts, origin};
use super::zone::{has_expired, has_expired_everywhere};
use crate::store::StoreError;
use crate::store::catalog::described::Param;
use crate::store::catalog::relation::Column;
use crate::store::catalog::target::{Expires, Target, text};
use crate::store::dialect::{Dialect, moment};
use crate::store::plan::Plan;

/// A statement of which `$1` is the origin, and the key's parameters come next.
pub(super) struct Statement {
    pub(super) sql: String,
    /// The parameters behind those.
    pub(super) values: Vec<String>,
}

/// Makes the statements of a mapping that writes to a table.
#[derive(Clone, Copy)]
pub(super) struct Statements<'p> {
    pub(super) plan: &'p Plan,
    pub(super) target: &'p Target,
    /// As [`RowEdit::lives`](crate::record::RowEdit::lives).
    pub(super) lives: bool,
}

impl<'p> Statements<'p> {
    /// # Errors
    /// [`StoreError::Refused`] of a mapping that takes no writes.
    pub(super) fn of(plan: &'p Plan) -> Result<Self, StoreError> {
        Ok(Self { plan, target: plan.target()?, lives: false })
    }

    pub(super) fn parts(&self) -> Parts {
        Parts::behind_key(self.plan.params.len())
    }

    /// The values of the key's columns.
    pub(super) fn key(&self) -> Vec<String> {
        self.plan.params.iter().enumerate().map(|(i, param)| Dialect::Postgres.bound(i + 2, param)).collect()
    }

    /// ` AND ...` where a column might write the key in another way than it is written here: a row of that kind would
    /// be another key's.
    pub(super) fn is_canonical(&self) -> String {
        let same = |(i, param): (usize, &Param)| match param {
            Param::Cast { .. } => format!(" AND {}::text = ${}::text", Dialect::Postgres.bound(i + 2, param), i + 2),
            _ => String::new(),
        };
        self.plan.params.iter().enumerate().map(same).collect()
    }

    /// What an INSERT needs to say the value of an identity column itself.
    pub(super) const fn overriding(&self) -> &'static str {
        if self.target.has_identity { " OVERRIDING SYSTEM VALUE" } else { "" }
    }

    /// `key = $2 AND ...`; a row whose key is only another spelling of ours is another key's (hazard 29).
    pub(super) fn is_ours(&self) -> String {
        let equal = |(i, (column, param)): (usize, (&String, &Param))| {
            let value = Dialect::Postgres.bound(i + 2, param);
            match param {
                Param::Text | Param::Cast { .. } => {
                    let column = format!("t.{column}");
                    let compared = Dialect::Postgres.compared(&column, param);
                    format!("{compared} = {value} AND {column}::text = ${}::text", i + 2)
                }
                Param::Int(_) | Param::Uuid | Param::Date => format!("t.{column} = {value}"),
            }
        };
        let keys = self.target.keys.iter().zip(&self.plan.params).enumerate();
        keys.map(equal).collect::<Vec<_>>().join(" AND ")
    }

    /// What has an end, as far as a row's own end counts.
    fn expires(&self) -> Option<&'p Expires> {
        self.target.expires.as_ref().filter(|_| !self.lives)
    }

    /// As [`Statements::is_ours`], of a row that has not expired.
    pub(super) fn is_alive(&self) -> String {
        let alive = |expires: &Expires| {
            let column = format!("t.{}", expires.column);
            format!(" AND {}", Dialect::Postgres.is_alive(&column, &moment(&column, expires.zone.as_deref())))
        };
        self.is_ours() + &self.expires().map(alive).unwrap_or_default()
    }

    /// Deletes the row if it has expired, in doubt only if it has expired whichever zone its column means; `None` where
    /// rows do not expire.
    pub(super) fn bury(&self, is_doubted: bool) -> Option<Statement> {
        let (table, expires) = (&self.target.table, self.expires()?);
        let has_expired = if is_doubted { has_expired_everywhere } else { has_expired };
        let (ours, has_expired) = (self.is_ours(), has_expired(expires, "clock_timestamp()"));
        let sql = format!("WITH {} DELETE FROM {table} AS t USING origin WHERE {ours} AND {has_expired}", origin());
        Some(Statement { sql, values: Vec::new() })
    }

    /// Adds members to a set, or removes them; gives how many, and how many of them the set had before. They are one
    /// parameter, however many they are.
    ///
    /// # Errors
    /// [`StoreError::Field`] for a member that is no text.
    pub(super) fn members(&self, members: &[bytes::Bytes], add: bool) -> Result<Statement, StoreError> {
        let column = self.plan.member_column()?;
        let mut parts = self.parts();
        let all = all_of(members, column, &mut parts)?;
        let (table, name) = (&self.target.table, column.quoted());
        let value = Dialect::Postgres.value(column, "m.v");
        let moved = if add {
            let keys = self.target.keys.join(", ");
            format!(
                "INSERT INTO {table} AS t ({keys}, {name}){} SELECT {}, {value} FROM origin, {all} \
                 WHERE true{} ON CONFLICT ({keys}, {name}) DO NOTHING RETURNING 1",
                self.overriding(),
                self.key().join(", "),
                self.is_canonical(),
            )
        } else {
            let ours = self.is_ours();
            format!(
                "DELETE FROM {table} AS t USING origin WHERE {ours} AND t.{name} IN (SELECT {value} FROM {all}) \
                 RETURNING 1"
            )
        };
        // First, where the table's name is none of the statement's own.
        let held = self.count_held(column, &all);
        let sql = format!(
            "WITH held (before) AS ({held}), {}, moved AS ({moved}) \
             SELECT count(*), (SELECT before FROM held) FROM moved",
            origin()
        );
        Ok(Statement { sql, values: parts.values })
    }

    /// Gives how many of these members the set has.
    ///
    /// # Errors
    /// As [`Statements::members`].
    pub(super) fn held(&self, members: &[bytes::Bytes]) -> Result<Statement, StoreError> {
        let column = self.plan.member_column()?;
        let mut parts = self.parts();
        let all = all_of(members, column, &mut parts)?;
        let sql = format!("{} AND $1::text IS NOT NULL", self.count_held(column, &all));
        Ok(Statement { sql, values: parts.values })
    }

    /// Counts those of `all` that the set has when the statement begins, whatever the statement does itself.
    fn count_held(&self, column: &Column, all: &str) -> String {
        let (table, ours, name) = (&self.target.table, self.is_ours(), column.quoted());
        let value = Dialect::Postgres.value(column, "m.v");
        format!(
            "SELECT count(*) FROM {all} WHERE EXISTS (SELECT 1 FROM {table} AS t WHERE {ours} AND t.{name} = {value})"
        )
    }

    /// Gives a row for each that the key has and that has not expired.
    pub(super) fn there(&self) -> Statement {
        let (table, alive) = (&self.target.table, self.is_alive());
        let sql = format!("SELECT 1 FROM {table} AS t WHERE $1::text IS NOT NULL AND {alive}");
        Statement { sql, values: Vec::new() }
    }

    /// Says whether a row has the key in any spelling, or there may be rows that cannot be seen.
    pub(super) fn taken(&self) -> Statement {
        let Target { table, keys, .. } = self.target;
        let equal = keys.iter().zip(&self.plan.params).enumerate().map(|(i, (key, param))| {
            let dialect = Dialect::Postgres;
            format!("{} = {}", dialect.compared(&format!("t.{key}"), param), dialect.bound(i + 2, param))
        });
        let equal: Vec<String> = equal.collect();
        let sql = format!(
            "SELECT row_security_active('{}') OR EXISTS (SELECT 1 FROM {table} AS t WHERE $1::text IS NOT NULL AND {})",
            table.replace('\'', "''"),
            equal.join(" AND ")
        );
        Statement { sql, values: Vec::new() }
    }

    /// Deletes the key's rows, and gives how many there were before with each that it deleted.
    pub(super) fn delete(&self) -> Statement {
        let (Target { table, shown, .. }, ours) = (self.target, self.is_ours());
        let sql = format!(
            "WITH seen AS (SELECT count(*) AS rows FROM {table} AS t WHERE {ours}), {}, \
             gone AS (DELETE FROM {table} AS t USING origin WHERE {ours} RETURNING t.*) \
             SELECT seen.rows, row_to_json(r.*)::text FROM seen LEFT JOIN (SELECT {shown} FROM gone) AS r ON true",
            origin()
        );
        Statement { sql, values: Vec::new() }
    }
}

/// Members of a set as rows `m (v)`, of one parameter, however many they are.
///
/// # Errors
/// [`StoreError::Field`] for a member that is no text.
fn all_of(members: &[bytes::Bytes], column: &Column, parts: &mut Parts) -> Result<String, StoreError> {
    let texts: Vec<&str> = members.iter().map(|member| text(member, &column.name)).collect::<Result<_, _>>()?;
    Ok(format!("jsonb_array_elements_text({}::jsonb) AS m (v)", parts.add(&Value::from(texts).to_string())))
}
