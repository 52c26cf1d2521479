//! The tables whose rows are streamed, and which mappings they concern. A table is told apart by its number, which its
//! name is found for in the catalog: the catalog is that of now, and the rows may be older, so that what concerned a
//! mapping once does so until the feed is connected again.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::PgPool;
use sqlx::postgres::types::Oid;

use super::concern::{Concern, Spelling};
use super::pgoutput::Relation;
use crate::store::triggers::TableInterests;

/// What all mappings want to be told of their tables.
pub(super) type Interests = Arc<Vec<TableInterests>>;

/// The names among `$2` that lead to the relation `$1`, or to what it is a partition or child of.
const NAMED: &str = "WITH RECURSIVE above AS (SELECT $1::oid AS relation UNION \
    SELECT i.inhparent FROM pg_inherits AS i JOIN above AS a ON i.inhrelid = a.relation) \
    SELECT n FROM unnest($2::text[]) WITH ORDINALITY AS w (name, n) \
    WHERE to_regclass(name)::oid IN (SELECT relation FROM above)";

/// What each of the types `$1` is at the bottom, and whether a function makes its text.
const TYPES: &str = "SELECT b.oid, EXISTS (SELECT 1 FROM pg_cast AS c WHERE c.castsource = b.oid \
    AND c.casttarget = 'text'::regtype AND c.castmethod = 'f') FROM unnest($1::oid[]) WITH ORDINALITY AS w (oid, n) \
    CROSS JOIN LATERAL (WITH RECURSIVE below AS (SELECT oid, typtype, typbasetype FROM pg_type WHERE oid = w.oid \
    UNION ALL SELECT t.oid, t.typtype, t.typbasetype FROM pg_type AS t JOIN below ON below.typbasetype = t.oid \
    WHERE below.typtype = 'd') SELECT oid FROM below WHERE typtype <> 'd') AS b ORDER BY w.n";

/// One table.
struct Known {
    relation: Relation,
    concerns: Vec<Concern>,
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

    /// The mappings that a table's rows concern.
    pub(super) fn concerns(&self, relation: u32) -> &[Concern] {
        self.known.get(&relation).map_or(&[], |known| &known.concerns)
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
        let mut concerns = self.concerns_of(&relation).await?;
        let before = self.known.remove(&relation.id);
        let is_another = before.as_ref().is_some_and(|before| before.relation != relation);
        for known in before.into_iter().flat_map(|before| before.concerns) {
            if !concerns.iter().any(|concern| concern.pattern == known.pattern) {
                // Its columns may stand elsewhere now.
                concerns.push(if is_another { known.whole() } else { known });
            }
        }
        self.known.insert(relation.id, Known { relation, concerns });
        Ok(is_another)
    }

    async fn concerns_of(&self, relation: &Relation) -> Result<Vec<Concern>, sqlx::Error> {
        let names: Vec<&str> = self.interests.iter().map(|table| table.table.as_str()).collect();
        let named: Vec<i64> =
            sqlx::query_scalar(NAMED).bind(Oid(relation.id)).bind(names).fetch_all(&self.pool).await?;
        if named.is_empty() {
            return Ok(Vec::new());
        }
        let spellings = self.spellings(relation).await?;
        let tables = named.iter().filter_map(|place| self.interests.get(usize::try_from(place - 1).ok()?));
        let interests = tables.flat_map(|table| &table.interests);
        Ok(interests.map(|interest| Concern::of(interest, relation, &spellings)).collect())
    }

    async fn spellings(&self, relation: &Relation) -> Result<Vec<Spelling>, sqlx::Error> {
        let types: Vec<Oid> = relation.columns.iter().map(|column| Oid(column.type_id)).collect();
        let found: Vec<(Oid, bool)> = sqlx::query_as(TYPES).bind(&types).fetch_all(&self.pool).await?;
        // A type may have been dropped since; then nothing stands in its place any more.
        let is_whole = found.len() == types.len();
        Ok(found
            .iter()
            .map(|(oid, by_function)| if is_whole { spelling(oid.0, *by_function) } else { Spelling::Unknown })
            .collect())
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
