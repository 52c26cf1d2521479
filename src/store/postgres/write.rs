//! One statement per write. It locks the row, writes it, and gives it back as it was and as it is, so that the reply is
//! exact and the record in memory is the database's. Arithmetic is done there, never on what was read before.

use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row as _};

use super::explain::Failed;
use super::expression::{ORIGIN, Values, becomes, guard, object};
use super::params::{Bound, bind};
use super::zone::{doubt_by_now, has_ended, has_ended_everywhere, moment};
use super::{parse, push};
use crate::mapping::Mapping;
use crate::record::{Change, Condition, Edit, Written};
use crate::store::StoreError;
use crate::store::plan::{Param, Plan};
use crate::store::target::{Column, Expires, Holds, Place, Surety, Target, text};

/// A row that another makes at the same moment is found by the next attempt.
const ATTEMPTS: usize = 16;

const DOUBTED: &str = "the key's row has ended in one time zone and not in another, and it is not certain which one its \
    column means: say it in store.timezone";

/// A statement of which `$1` is the origin, and the key's holes come next.
struct Statement {
    sql: String,
    values: Vec<String>,
}

/// What a write is done with.
pub(super) struct Writer<'w> {
    pub(super) connection: &'w mut PgConnection,
    /// For questions about a refusal.
    pub(super) pool: &'w PgPool,
    pub(super) origin: &'w str,
}

impl Writer<'_> {
    /// Carries out one edit.
    ///
    /// # Errors
    /// [`StoreError::Field`] and [`StoreError::Value`] when nothing has changed, [`StoreError::Ambiguous`] when that is
    /// not known.
    pub(super) async fn write(
        &mut self,
        mapping: &Mapping,
        plan: &Plan,
        holes: &[&[u8]],
        edit: &Edit,
    ) -> Result<Written, StoreError> {
        let Some(bound) = bind(&plan.params, holes) else {
            return Err(StoreError::Refused("the key is no value of its column".into()));
        };
        if matches!(edit, Edit::Push(_) | Edit::Pull(..)) {
            return push::write(self, mapping, plan, (holes, bound), edit).await;
        }
        let Some(target) = &plan.target else {
            return Err(StoreError::Refused("the mapping has no table to write to".into()));
        };
        let Writer { connection, pool, origin } = self;
        let mut desk = Desk { connection, pool, origin, mapping, plan, target, holes, bound };
        match edit {
            Edit::Fields(changes, condition) => desk.fields(changes, *condition).await,
            Edit::Members(members, add) => desk.members(members, *add).await,
            Edit::Delete => desk.delete().await,
            Edit::Push(_) | Edit::Pull(..) => Err(StoreError::Refused("a table has no order to push to".into())),
        }
    }
}

struct Desk<'w> {
    connection: &'w mut PgConnection,
    pool: &'w PgPool,
    origin: &'w str,
    mapping: &'w Mapping,
    plan: &'w Plan,
    target: &'w Target,
    holes: &'w [&'w [u8]],
    bound: Vec<Bound>,
}

impl Desk<'_> {
    fn failed<'a>(&'a self, changes: &'a [(&'a str, Place<'a>, &'a Change)]) -> Failed<'a> {
        Failed { pool: self.pool, target: self.target, changes }
    }

    fn values(&self) -> Values {
        Values { before: 1 + self.bound.len(), list: Vec::new() }
    }

    /// The places of the holes.
    fn places(&self) -> Vec<String> {
        (0..self.bound.len()).map(|i| format!("${}", i + 2)).collect()
    }

    /// `key = $2 AND ...`; a row whose key is only another spelling of ours is another key's (hazard 29).
    fn is_ours(&self) -> String {
        let equal = |((key, place), param): ((&String, String), &Param)| match param {
            Param::Text => format!("t.{key} = {place} AND t.{key}::text = {place}::text"),
            Param::Int(_) | Param::Uuid => format!("t.{key} = {place}"),
        };
        let keys = self.target.keys.iter().zip(self.places()).zip(&self.plan.params);
        keys.map(equal).collect::<Vec<_>>().join(" AND ")
    }

    /// As [`Desk::is_ours`], of a row that has not ended.
    fn is_alive(&self) -> String {
        let alive = |expires: &Expires| {
            let column = format!("t.{}", expires.column);
            format!(" AND ({column} IS NULL OR {} > clock_timestamp())", moment(&column, expires.zone.as_deref()))
        };
        self.is_ours() + &self.target.expires.as_ref().map(alive).unwrap_or_default()
    }

    /// Why it is in doubt which moment the column means that says when the row ends.
    async fn doubt(&self) -> Result<Option<String>, StoreError> {
        let Target { table, expires: Some(expires), .. } = self.target else { return Ok(None) };
        match expires.surety {
            Surety::Told => Ok(None),
            Surety::Found => doubt_by_now(self.pool, table, expires).await,
            Surety::Doubted => Ok(Some(DOUBTED.to_owned())),
        }
    }

    /// Removes the row if it has ended: what comes next makes a new one. In doubt only if it has ended whichever moment
    /// its column means.
    async fn bury(&mut self, is_doubted: bool) -> Result<(), StoreError> {
        let Target { table, expires: Some(expires), .. } = self.target else { return Ok(()) };
        let has_ended = if is_doubted { has_ended_everywhere } else { has_ended };
        let (ours, has_ended) = (self.is_ours(), has_ended(expires, "clock_timestamp()"));
        let sql = format!("WITH {ORIGIN} DELETE FROM {table} AS t USING origin WHERE {ours} AND {has_ended}");
        self.run(&Statement { sql, values: Vec::new() }).await.map(|_| ()).map_err(StoreError::of_write)
    }

    async fn run(&mut self, statement: &Statement) -> Result<Vec<sqlx::postgres::PgRow>, sqlx::Error> {
        let mut query = sqlx::query(AssertSqlSafe(statement.sql.clone())).bind(self.origin);
        for value in &self.bound {
            query = query.bind(value.clone());
        }
        for value in &statement.values {
            query = query.bind(value);
        }
        query.fetch_all(&mut *self.connection).await
    }

    fn record(&self, json: Option<String>) -> Result<Option<crate::record::Record>, StoreError> {
        let rows = json.iter().map(|json| parse(json)).collect::<Result<Vec<_>, _>>()?;
        self.plan.record(&self.mapping.pattern, self.holes, rows)
    }

    async fn fields(
        &mut self,
        changes: &[(bytes::Bytes, Change)],
        condition: Condition,
    ) -> Result<Written, StoreError> {
        let changes = changes
            .iter()
            .map(|(field, change)| {
                let field = text(field, "")?;
                Ok((field, self.target.place(field, &self.mapping.config)?, change))
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        let statement = self.upsert(&changes, condition)?;
        // Asked for when a row is found to have ended.
        let mut doubt = None;
        for _ in 0..ATTEMPTS {
            let rows = match self.run(&statement).await {
                Ok(rows) => rows,
                Err(error) => return Err(self.failed(&changes).explain(error).await),
            };
            let Some(row) = rows.first() else { return Err(StoreError::Refused("a write gave no row".into())) };
            let (old, new): (Option<String>, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
            match (&old, &new) {
                (_, Some(_)) => {
                    return Ok(Written {
                        old: self.record(old)?,
                        new: self.record(new)?,
                        applied: true,
                        count: 0,
                        tells_new: true,
                    });
                }
                (Some(_), None) => return self.guarded(old, &changes),
                (None, None) if matches!(condition, Condition::RowExists | Condition::FieldPresent) => {
                    return Ok(Written { tells_new: true, ..Written::default() });
                }
                // Somebody made the row after this statement's snapshot, or it has ended.
                (None, None) => {
                    let known = match doubt.take() {
                        Some(known) => known,
                        None => self.doubt().await?,
                    };
                    self.bury(known.is_some()).await?;
                    doubt = Some(known);
                }
            }
        }
        let unmade = "there is a row whose key is another spelling of this one, or one that comes and goes too fast";
        Err(StoreError::Refused(doubt.flatten().unwrap_or_else(|| unmade.into())))
    }

    /// The row is there and was not written: its value is not what the change needs, or the condition does not hold.
    fn guarded(&self, old: Option<String>, changes: &[(&str, Place<'_>, &Change)]) -> Result<Written, StoreError> {
        let is_string = changes.iter().any(|(field, ..)| field.is_empty());
        match changes.first().map(|(_, _, change)| change) {
            Some(Change::Add(_)) if is_string => Err(StoreError::Value("ERR value is not an integer or out of range")),
            Some(Change::Add(_)) => Err(StoreError::Value("ERR hash value is not an integer")),
            Some(Change::AddFloat(_)) if is_string => Err(StoreError::Value("ERR value is not a valid float")),
            Some(Change::AddFloat(_)) => Err(StoreError::Value("ERR hash value is not a float")),
            _ => {
                let old = self.record(old)?;
                Ok(Written { new: old.clone(), old, applied: false, count: 0, tells_new: true })
            }
        }
    }

    /// Locks and gives the row, updates it, or inserts it where there is none.
    fn upsert(&self, changes: &[(&str, Place<'_>, &Change)], condition: Condition) -> Result<Statement, StoreError> {
        let mut values = self.values();
        let (mut sets, mut guards) = (Vec::new(), Vec::new());
        let (mut columns, mut inserted) = (self.target.keys.clone(), self.places());
        let (mut puts, mut cleared, mut created) = (Vec::new(), Vec::new(), Vec::new());
        for (field, place, change) in changes {
            match place {
                Place::Column(column) => {
                    let now = format!("t.{}", column.quoted());
                    let becomes = becomes(column, field, &now, change, &mut values, &mut guards)?;
                    sets.push(format!("{} = {}", column.quoted(), becomes.updated));
                    if let Some(first) = becomes.inserted {
                        columns.push(column.quoted());
                        inserted.push(first);
                    }
                    guards.extend(guard(condition, &now));
                }
                Place::Member(column) => {
                    let name = values.add(field);
                    let now = format!("(t.{}::jsonb ->> {name})", column.quoted());
                    let (name_of, cast) = ((*field).to_owned(), "pg_catalog.text".into());
                    let member = Column { name: name_of, cast, holds: Holds::Texts, zone: None };
                    let becomes = becomes(&member, field, &now, change, &mut values, &mut guards)?;
                    if becomes.inserted.is_none() {
                        cleared.push(name.clone());
                    } else {
                        puts.push((name.clone(), becomes.updated));
                    }
                    created.extend(becomes.inserted.map(|first| (name, first)));
                    guards.extend(guard(condition, &now));
                }
            }
        }
        if let Some(overflow) = self.target.overflow.as_ref().filter(|_| !puts.is_empty() || !cleared.is_empty()) {
            let name = overflow.quoted();
            let without: String = cleared.iter().map(|name| format!(" - {name}")).collect();
            sets.push(format!(
                "{name} = CAST(coalesce(t.{name}::jsonb, '{{}}'::jsonb){without} || {} AS {})",
                object(&puts),
                overflow.cast
            ));
            if !created.is_empty() {
                columns.push(name);
                inserted.push(format!("CAST({} AS {})", object(&created), overflow.cast));
            }
        }
        let inserts = !matches!(condition, Condition::RowExists | Condition::FieldPresent);
        let Target { table, shown, .. } = self.target;
        let ours = self.is_alive();
        let guards: String = guards.iter().map(|guard| format!(" AND ({guard})")).collect();
        let insert = if inserts {
            format!(
                ", made AS (INSERT INTO {table} AS t ({}) SELECT {} FROM seen WHERE seen.rows = 0 \
                 ON CONFLICT DO NOTHING RETURNING t.*)",
                columns.join(", "),
                inserted.join(", ")
            )
        } else {
            String::new()
        };
        let union = if inserts { format!(" UNION ALL SELECT {shown} FROM made") } else { String::new() };
        let sql = format!(
            "WITH old AS MATERIALIZED (SELECT {shown} FROM {table} AS t WHERE {ours} FOR NO KEY UPDATE), \
             seen AS MATERIALIZED (SELECT count(*) AS rows, set_config('hearthside.origin', $1, true) FROM old), \
             changed AS (UPDATE {table} AS t SET {} FROM seen WHERE {ours}{guards} RETURNING t.*){insert} \
             SELECT (SELECT row_to_json(old)::text FROM old), \
             (SELECT row_to_json(r)::text FROM (SELECT {shown} FROM changed{union}) AS r), seen.rows FROM seen",
            sets.join(", "),
        );
        Ok(Statement { sql, values: values.list })
    }

    async fn members(&mut self, members: &[bytes::Bytes], add: bool) -> Result<Written, StoreError> {
        let Place::Column(column) = self.target.place("", &self.mapping.config)? else {
            return Err(StoreError::Refused("a set has no column for its members".into()));
        };
        let mut values = self.values();
        let mut texts = Vec::new();
        for member in members {
            texts.push(format!("CAST({} AS {})", values.add(text(member, &column.name)?), column.cast));
        }
        let Target { table, .. } = self.target;
        let (name, ours) = (column.quoted(), self.is_ours());
        let statement = if add {
            let rows: Vec<String> = texts.iter().map(|text| format!("({text})")).collect();
            format!(
                "INSERT INTO {table} AS t ({}, {name}) SELECT {}, m.v FROM origin, (VALUES {}) AS m (v) \
                 ON CONFLICT DO NOTHING RETURNING 1",
                self.target.keys.join(", "),
                self.places().join(", "),
                rows.join(", ")
            )
        } else {
            format!(
                "DELETE FROM {table} AS t USING origin WHERE {ours} AND t.{name} IN ({}) RETURNING 1",
                texts.join(", ")
            )
        };
        let sql = format!(
            "WITH {ORIGIN}, moved AS ({statement}) \
             SELECT count(*) FROM moved"
        );
        let statement = Statement { sql, values: values.list };
        let rows = match self.run(&statement).await {
            Ok(rows) => rows,
            Err(error) => {
                let change = [("", Place::Column(column), &Change::Clear)];
                return Err(self.failed(&change).explain(error).await);
            }
        };
        let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        Ok(Written { applied: count > 0, count: count.unsigned_abs(), ..Written::default() })
    }

    async fn delete(&mut self) -> Result<Written, StoreError> {
        let Target { table, shown, .. } = self.target;
        let sql = format!(
            "WITH {ORIGIN}, \
             gone AS (DELETE FROM {table} AS t USING origin WHERE {} RETURNING t.*) \
             SELECT row_to_json(r)::text FROM (SELECT {shown} FROM gone) AS r",
            self.is_ours()
        );
        let rows = self.run(&Statement { sql, values: Vec::new() }).await.map_err(StoreError::of_write)?;
        let rows = rows.iter().map(|row| parse(row.try_get(0)?)).collect::<Result<Vec<_>, StoreError>>()?;
        let count = rows.len() as u64;
        let old = self.plan.record(&self.mapping.pattern, self.holes, rows)?;
        Ok(Written { old, new: None, applied: count > 0, count, tells_new: true })
    }
}
