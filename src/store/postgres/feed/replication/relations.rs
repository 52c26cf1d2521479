//! The tables whose rows are streamed, and which mappings they concern. A table is told apart by its number, which its
//! name is found for in the catalog: the catalog is that of now, and the rows may be older, so that what concerned a
//! mapping once does so until the feed is connected again.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::PgPool;
use sqlx::postgres::types::Oid;

use super::concern::{Concern, Spelling};
use super::pgoutput::Relation;
use crate::store::logged::LoggedColumn;
use crate::store::triggers::TableInterests;

/// What all mappings want to be told of their tables.
pub(super) type Interests = Arc<Vec<TableInterests>>;

/// The names among `$2` that lead to the relation `$1`, or to what it is a partition or child of; and whether some
/// roles may not see all of its rows.
const NAMED: &str = "WITH RECURSIVE above AS (SELECT $1::oid AS relation UNION \
    SELECT i.inhparent FROM pg_inherits AS i JOIN above AS a ON i.inhrelid = a.relation) \
    SELECT n, EXISTS (SELECT FROM above AS a JOIN pg_class AS c ON c.oid = a.relation WHERE c.relrowsecurity) \
    FROM unnest($2::text[]) WITH ORDINALITY AS w (name, n) \
    WHERE to_regclass(name)::oid IN (SELECT relation FROM above)";

/// What each of the types `$1` is at the bottom, with its name, and whether a function makes its text.
const TYPES: &str = "SELECT b.oid, b.typname::text, EXISTS (SELECT 1 FROM pg_cast AS c WHERE c.castsource = b.oid \
    AND c.casttarget = 'text'::regtype AND c.castmethod = 'f') FROM unnest($1::oid[]) WITH ORDINALITY AS w (oid, n) \
    CROSS JOIN LATERAL (WITH RECURSIVE below AS (SELECT oid, typname, typtype, typbasetype FROM pg_type \
    WHERE oid = w.oid UNION ALL SELECT t.oid, t.typname, t.typtype, t.typbasetype FROM pg_type AS t \
    JOIN below ON below.typbasetype = t.oid WHERE below.typtype = 'd') \
    SELECT oid, typname FROM below WHERE typtype <> 'd') AS b ORDER BY w.n";

/// One table.
pub(super) struct Known {
    pub(super) relation: Relation,
    /// Its columns with the names of their types; empty where these are not known.
    pub(super) columns: Arc<[LoggedColumn]>,
    /// The mappings that its rows concern.
    pub(super) concerns: Vec<Concern>,
}

pub(super) struct Relations {
    pool: PgPool,
    interests: Interests,
    known: HashMap<u32, Known>,
}

impl Relations {
    pub(super) fn new(pool: PgPool, interests: Interests) -> Self {
        Self { pool, interests, known: HashMap::new() }
    }

    /// A table that was described.
    pub(super) fn known(&self, relation: u32) -> Option<&Known> {
        self.known.get(&relation)
    }

    /// The interests by which rows are told.
    pub(super) const fn interests(&self) -> &Interests {
        &self.interests
    }

    /// From now on these are the interests.
    ///
    /// # Errors
    /// The catalog cannot be asked.
    pub(super) async fn follow(&mut self, interests: Interests) -> Result<(), sqlx::Error> {
        self.interests = interests;
        let relations: Vec<Relation> = self.known.values().map(|known| known.relation.clone()).collect();
        for relation in relations {
            self.learn(relation).await?;
        }
        Ok(())
    }

    /// A table is described, for the first time or again. True where it is another than it was.
    ///
    /// # Errors
    /// The catalog cannot be asked.
    pub(super) async fn learn(&mut self, relation: Relation) -> Result<bool, sqlx::Error> {
        let (columns, mut concerns) = self.concerns_of(&relation).await?;
        let before = self.known.remove(&relation.id);
        let is_another = before.as_ref().is_some_and(|before| before.relation != relation);
        for known in before.into_iter().flat_map(|before| before.concerns) {
            if !concerns.iter().any(|concern| concern.pattern == known.pattern) {
                // Its columns may stand elsewhere now.
                concerns.push(if is_another { known.whole() } else { known.former() });
            }
        }
        self.known.insert(relation.id, Known { relation, columns, concerns });
        Ok(is_another)
    }

    /// Its columns, as far as their types are known, and whom it concerns.
    async fn concerns_of(&self, relation: &Relation) -> Result<(Arc<[LoggedColumn]>, Vec<Concern>), sqlx::Error> {
        let names: Vec<&str> = self.interests.iter().map(|table| table.table.as_str()).collect();
        let named: Vec<(i64, bool)> =
            sqlx::query_as(NAMED).bind(Oid(relation.id)).bind(names).fetch_all(&self.pool).await?;
        if named.is_empty() {
            return Ok(([].into(), Vec::new()));
        }
        let types: Vec<Oid> = relation.columns.iter().map(|column| Oid(column.type_id)).collect();
        let mut found: Vec<(Oid, String, bool)> = sqlx::query_as(TYPES).bind(&types).fetch_all(&self.pool).await?;
        if found.len() != types.len() {
            // A type has been dropped since; then nothing stands in its place any more.
            found.clear();
        }
        let spellings: &Vec<Spelling> =
            &found.iter().map(|(oid, _, by_function)| spelling(oid.0, *by_function)).collect();
        let columns = relation.columns.iter().zip(found);
        let columns = columns.map(|(column, (_, kind, _))| LoggedColumn { name: column.name.clone(), kind });
        let tables = named.iter().filter_map(|(place, hides)| {
            self.interests.get(usize::try_from(place - 1).ok()?).map(|table| (table, *hides))
        });
        let concerns = tables.flat_map(|(table, hides)| {
            let concern = move |interest| (Concern::of(interest, relation, spellings), interest.is_shown && !hides);
            let concerns = table.interests.iter().map(concern);
            concerns.map(|(concern, shows)| if shows { concern.showing(&table.table) } else { concern })
        });
        let concerns = concerns.collect();
        Ok((columns.collect(), concerns))
    }
}

/// The numbers are those of built-in types.
/// Source: <https://github.com/postgres/postgres/blob/master/src/include/catalog/pg_type.dat>
const fn spelling(base: u32, by_function: bool) -> Spelling {
    match base {
        16 => Spelling::Boolean,
        1042 => Spelling::Padded,
        869 => Spelling::Address,
        // "char", name, xml, cidr: the function makes the same text.
        18 | 19 | 142 | 650 => Spelling::Same,
        _ if by_function => Spelling::Unknown,
        _ => Spelling::Same,
    }
}
