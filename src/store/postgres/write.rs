//! One statement per write (decision 0007): the row comes back as it was and as it is, so that the reply is exact and
//! the record in memory is the database's. Runs what `upsert` and `statement` make, and judges the answers.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::explain::Failed;
use super::params::{Bound, bind};
use super::push;
use super::questions::Questions;
use super::rows::parse_all;
use super::sessions::Sessions;
use super::spelling::{Spelling, is_about_a_text, spelling};
use super::statement::{Statement, Statements};
use super::upsert::upsert;
use super::zone::doubt_by_now;
use crate::record::{Change, Condition, Edit, Record, RowEdit, Written};
use crate::store::StoreError;
use crate::store::catalog::relation::Surety;
use crate::store::catalog::target::{FieldChange, Place, Target};
use crate::store::plan::Plan;

/// A row that another session inserts at the same time is found by the next attempt.
const ATTEMPTS: usize = 16;

const DOUBTED: &str = "the key's row has ended in one time zone and not in another, and it is not certain which one \
    its column means: say it in store.timezone";

const UNMADE: &str = "there is a row whose key is another spelling of this one, or that the role may not see or \
    change, or one that comes and goes too fast";

const NO_FIELDS: &str = "a write of fields has none";

pub(super) const OTHER_SPELLING: &str =
    "the key's column writes this value in another way, and a row is found by that one alone";

pub(super) const NO_KEY: &str = "the key is no value of its column";

/// What a write needs.
pub(super) struct Writer<'w> {
    pub(super) connection: &'w mut PgConnection,
    pub(super) sessions: &'w Sessions,
    /// For questions about a refusal.
    pub(super) questions: &'w Questions,
    pub(super) origin: &'w str,
    /// Each statement is committed by itself, and not by a transaction around it.
    pub(super) commits_each: bool,
}

impl Writer<'_> {
    /// Carries out one edit.
    ///
    /// # Errors
    /// [`StoreError::Field`] and [`StoreError::Value`] when nothing has changed, [`StoreError::Ambiguous`] when that is
    /// not known.
    pub(super) async fn write(&mut self, plan: &Plan, key: &[u8], edit: RowEdit<'_>) -> Result<Written, StoreError> {
        let RowEdit { edit, left, lives } = edit;
        if matches!(edit, Edit::Push(_) | Edit::Pull(..)) {
            return push::write(self, plan, key, edit).await;
        }
        let bound = bind(plan, key).ok_or_else(|| StoreError::Refused(NO_KEY.into()))?;
        let statements = Statements { lives, ..Statements::of(plan)? };
        let mut desk = Desk { writer: self, statements, key, bound, left, has_written: false };
        let written = match edit {
            Edit::Fields(changes, _) => desk.fields(edit, &plan.places(changes)?).await,
            Edit::Members(members, add) => desk.members(members, *add).await,
            Edit::Delete => desk.delete().await,
            Edit::Push(_) | Edit::Pull(..) => Err(StoreError::Refused("a table has no order to push to".into())),
        };
        desk.judged(written)
    }
}

/// One write of one key.
struct Desk<'d, 'w> {
    writer: &'d mut Writer<'w>,
    statements: Statements<'d>,
    key: &'d [u8],
    bound: Vec<Bound>,
    /// As [`RowEdit::left`].
    left: Option<i64>,
    /// A statement has written something of what was asked for.
    has_written: bool,
}

/// What a statement about members did.
struct Moved {
    /// So many were added, or removed.
    count: u64,
    /// So many of those asked for the set had when the statement began.
    held_before: u64,
}

/// A row as it was, and as a statement has left it; neither is there where there is no such row.
struct Answer {
    old: Option<String>,
    new: Option<String>,
}

impl Desk<'_, '_> {
    /// What is committed cannot be undone by an error behind it.
    fn judged(&self, written: Result<Written, StoreError>) -> Result<Written, StoreError> {
        match written {
            Err(error) if self.has_written && self.writer.commits_each && !error.may_have_changed() => {
                Err(StoreError::Ambiguous(error.to_string()))
            }
            other => other,
        }
    }

    async fn run(&mut self, statement: &Statement) -> Result<Vec<PgRow>, sqlx::Error> {
        let query =
            sqlx::query(AssertSqlSafe(statement.sql.clone())).persistent(self.writer.sessions.keep_statements());
        let query = query.bind(self.writer.origin);
        let query = self.bound.iter().fold(query, |query, value| query.bind(value.clone()));
        let query = statement.values.iter().fold(query, |query, value| query.bind(value));
        query.fetch_all(&mut *self.writer.connection).await
    }

    async fn explain(&self, error: sqlx::Error, changes: &[FieldChange<'_>]) -> StoreError {
        if is_about_a_text(&error) && self.spelling().await == Some(Spelling::NoValue) {
            return StoreError::Refused(NO_KEY.into());
        }
        Failed { questions: self.writer.questions, target: self.statements.target, changes }.explain(error).await
    }

    /// How the key is spelled; `None` where that cannot be asked.
    async fn spelling(&self) -> Option<Spelling> {
        let asking = self.writer.questions.turn().await.ok()?;
        spelling(asking.pool(), true, self.statements.plan, &self.bound).await.ok()
    }

    fn record(&self, json: Option<&String>) -> Result<Option<Record>, StoreError> {
        self.statements.plan.written(self.key, parse_all(json)?)
    }

    /// Writes the fields of `edit`, whose changes go to these places.
    async fn fields(&mut self, edit: &Edit, changes: &[FieldChange<'_>]) -> Result<Written, StoreError> {
        let Edit::Fields(_, condition) = *edit else { return Err(StoreError::Refused(NO_FIELDS.into())) };
        let statement = upsert(self.statements, changes, condition, self.left)?;
        // Looked up when a row is found to have expired.
        let mut doubt = None;
        for _ in 0..ATTEMPTS {
            let Answer { old, new } = self.upserted(&statement, changes).await?;
            match (&old, &new) {
                (_, Some(_)) => {
                    self.has_written = true;
                    let (old, new) = (self.record(old.as_ref())?, self.record(new.as_ref())?);
                    return Ok(Written { old, new, applied: true, count: 0, tells_new: true });
                }
                (Some(_), None) => return self.untouched(old.as_ref(), edit),
                (None, None) if matches!(condition, Condition::RowExists | Condition::FieldPresent) => {
                    if !self.is_there().await? {
                        return Ok(Written { tells_new: true, ..Written::default() });
                    }
                }
                // The row was inserted after this statement's snapshot, or it has expired.
                (None, None) => doubt = Some(self.bury(doubt).await?),
            }
            if self.spelling().await == Some(Spelling::Other) {
                return Err(StoreError::Refused(OTHER_SPELLING.into()));
            }
        }
        match doubt.flatten() {
            Some(doubt) => Err(StoreError::Refused(doubt)),
            None if self.is_taken().await? => Err(StoreError::Refused(UNMADE.into())),
            None => Err(StoreError::suppressed()),
        }
    }

    /// True when a row has the key, spelled in whatever way, as far as an INSERT is concerned: nobody sees all rows
    /// where there are policies.
    async fn is_taken(&mut self) -> Result<bool, StoreError> {
        let rows = self.run(&self.statements.taken()).await.map_err(StoreError::of_write)?;
        Ok(rows.first().map_or(Ok(true), |row| row.try_get(0))?)
    }

    async fn upserted(&mut self, statement: &Statement, changes: &[FieldChange<'_>]) -> Result<Answer, StoreError> {
        let rows = match self.run(statement).await {
            Ok(rows) => rows,
            Err(error) => return Err(self.explain(error, changes).await),
        };
        let row = rows.first().ok_or_else(|| StoreError::Refused("a write gave no row".into()))?;
        // Nothing was written then.
        if row.len() > 3 && row.try_get(3).map_err(StoreError::of_write)? {
            return Err(StoreError::member_is_column());
        }
        let read = |at: usize| row.try_get(at).map_err(StoreError::of_write);
        Ok(Answer { old: read(0)?, new: read(1)? })
    }

    /// Deletes the row if it has expired: the next write inserts a new one. Returns why it is in doubt which point in
    /// time its column means, if it is; `known` is what an earlier attempt has found out.
    async fn bury(&mut self, known: Option<Option<String>>) -> Result<Option<String>, StoreError> {
        let doubt = match known {
            Some(doubt) => doubt,
            None => doubt(self.writer.questions, self.statements.target).await?,
        };
        if let Some(statement) = self.statements.bury(doubt.is_some()) {
            self.run(&statement).await.map_err(StoreError::of_write)?;
        }
        Ok(doubt)
    }

    /// The row is there and was not written: its value is not what the change needs, or the condition does not hold;
    /// or else something in the table suppressed it.
    fn untouched(&self, old: Option<&String>, edit: &Edit) -> Result<Written, StoreError> {
        let old = self.record(old)?;
        match edit.changed(old.as_ref()).map_err(StoreError::Value)? {
            Some(_) => Err(StoreError::suppressed()),
            None => Ok(Written { new: old.clone(), old, applied: false, count: 0, tells_new: true }),
        }
    }

    /// True when the key has a row now.
    async fn is_there(&mut self) -> Result<bool, StoreError> {
        let rows = self.run(&self.statements.there()).await.map_err(StoreError::of_write)?;
        Ok(!rows.is_empty())
    }

    async fn members(&mut self, members: &[bytes::Bytes], add: bool) -> Result<Written, StoreError> {
        let (all, mut count) = (members.len() as u64, 0);
        let statement = self.statements.members(members, add)?;
        for _ in 0..ATTEMPTS {
            let moved = self.moved(&statement).await?;
            count += moved.count;
            self.has_written |= count > 0;
            let are_known = match add {
                true => moved.count + moved.held_before >= all,
                false => moved.count >= moved.held_before,
            };
            // Others were changing the rest meanwhile, or something in the table kept it as it was.
            if are_known || self.held(members).await? == if add { all } else { 0 } {
                return Ok(Written { applied: count > 0, count, ..Written::default() });
            }
            if self.spelling().await == Some(Spelling::Other) {
                return Err(StoreError::Refused(OTHER_SPELLING.into()));
            }
        }
        let done = if add { "added" } else { "removed" };
        Err(suppressed(count, &format!("of {all} members {count} were {done}")))
    }

    async fn moved(&mut self, statement: &Statement) -> Result<Moved, StoreError> {
        let rows = match self.run(statement).await {
            Ok(rows) => rows,
            Err(error) => {
                let place = Place::Column(self.statements.plan.member_column()?);
                let change = FieldChange { field: "", place, change: &Change::Clear };
                return Err(self.explain(error, &[change]).await);
            }
        };
        Ok(Moved { count: number(&rows, 0)?, held_before: number(&rows, 1)? })
    }

    /// How many of these members the set has now.
    async fn held(&mut self, members: &[bytes::Bytes]) -> Result<u64, StoreError> {
        number(&self.run(&self.statements.held(members)?).await.map_err(StoreError::of_write)?, 0)
    }

    async fn delete(&mut self) -> Result<Written, StoreError> {
        let rows = match self.run(&self.statements.delete()).await {
            Ok(rows) => rows,
            Err(error) => return Err(self.explain(error, &[]).await),
        };
        let held_before = number(&rows, 0)?;
        // Without a row that was deleted there is one that says so.
        let rows: Result<Vec<Option<String>>, _> = rows.iter().map(|row| row.try_get(1)).collect();
        let rows: Vec<String> = rows.map_err(StoreError::of_write)?.into_iter().flatten().collect();
        let count = rows.len() as u64;
        self.has_written = count > 0;
        let old = self.statements.plan.record(self.key, parse_all(&rows)?)?;
        // Others deleted the rest meanwhile, or something in the table kept it.
        if count < held_before && self.is_there().await? {
            return Err(suppressed(count, &format!("{count} rows of the key were deleted")));
        }
        Ok(Written { old, new: None, applied: count > 0, count, tells_new: true })
    }
}

/// Why it is in doubt which point in time the column means that says when a row expires.
pub(super) async fn doubt(questions: &Questions, target: &Target) -> Result<Option<String>, StoreError> {
    let Target { table, expires: Some(expires), .. } = target else { return Ok(None) };
    match expires.surety {
        Surety::Stated => Ok(None),
        Surety::Found => doubt_by_now(questions.turn().await?.pool(), table, expires).await,
        Surety::Doubted => Ok(Some(DOUBTED.to_owned())),
    }
}

/// A number in the first row of an answer.
fn number(rows: &[PgRow], column: usize) -> Result<u64, StoreError> {
    let number: i64 = rows.first().map_or(Ok(0), |row| row.try_get(column)).map_err(StoreError::of_write)?;
    Ok(number.unsigned_abs())
}

/// The error of a write that was suppressed, but for so many rows, of which `written` tells.
fn suppressed(count: u64, written: &str) -> StoreError {
    if count == 0 { StoreError::suppressed() } else { StoreError::partly_suppressed(written) }
}
