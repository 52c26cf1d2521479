//! Postgres: loads and writes of single keys over lent connections, what reads or writes many keys over a pool, short
//! questions over another, whether the server is there over a connection of its own (`health`), changes over two
//! (`feed`). Where a pooler stands between (`sessions`), what needs a session goes past it. Knows no cache.

mod adopt;
mod adopt_statement;
mod adoption;
mod catalog;
mod conflict;
mod encoding;
mod explain;
mod expression;
mod feed;
mod flush;
mod following;
mod health;
mod hosts;
mod key_connections;
mod loading;
mod notes;
mod options;
mod params;
mod planners;
mod pool;
mod proof;
mod pulse;
mod push;
mod questions;
mod rehearsal;
mod replicas;
mod rows;
mod schema_watch;
mod sessions;
mod setup;
mod spelling;
mod statement;
mod sweep;
mod touched;
mod transaction;
mod upsert;
mod way;
mod words;
mod write;
mod zone;

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection as _, PgPool, Row as _};

pub(super) use catalog::PostgresCatalog;
pub use feed::{FeedKind, Taken};
pub(super) use transaction::PostgresTransaction;

use super::listing::{Listed, Listing};
use super::moves::Moves;
use super::retirement::Retirement;
use super::row::Row;
use super::schema::Fingerprint;
use super::standing::Standing;
use super::sweep::{Chosen, Ending, RowKey};
use super::{FlushRow, Flushed, Mark, Plan, StoreError, triggers};
use crate::config;
use crate::mapping::Mapping;
use crate::record::{RowEdit, Written};
use conflict::goes_again;
use feed::Feeds;
use health::Health;
use hosts::Hosts;
use key_connections::Lender;
use planners::Planners;
use pool::Connections;
use pulse::Pulse;
use questions::Questions;
use replicas::Replicas;
use rows::parse;
use schema_watch::SchemaWatch;
use sessions::Sessions;
use setup::CurrentSetup;
use touched::Touched;
use way::Way;

/// A connection that has not been used for so long is tested before it is used.
const IDLE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Postgres {
    /// For the statement of one key.
    lender: Lender,
    /// For what reads or writes many keys.
    pool: Connections,
    schema_watch: SchemaWatch,
    /// Connections of the pools that were opened before are not used any more.
    retirement: Retirement,
    /// For what needs a session, too. No statement over them waits for a lock of an owner's table.
    questions: Questions,
    health: Health,
    planners: Planners,
    /// How `pool` and `lender` reach their sessions.
    sessions: Sessions,
    /// What sessions are set up with.
    setup: CurrentSetup,
    /// How `pool` and `lender` reach the store; says not what names mean.
    way: Way,
    hosts: Arc<Hosts>,
    moves: Moves,
    replicas: Option<Arc<Replicas>>,
    /// The zone that the settings say; empty: it is asked for.
    timezone: String,
    feeds: Feeds,
}

impl Postgres {
    pub(super) async fn connect(settings: &config::Store) -> Result<Self, StoreError> {
        let hosts = Hosts::read(settings).map_err(|(_, error)| error)?;
        let server = hosts.find().await?;
        hosts.take(&server);
        let (options, direct) = server.lasting(settings.pooler);
        let proof::Proven { standing, setup, place } = server.proven;
        let setup = CurrentSetup::new(setup);
        let (impatient, retirement) = (planners::impatient(&direct), Retirement::default());
        let connections = |most, options| Connections::new(most, options, settings, &retirement);
        let planners = Planners::new(connections(planners::MOST, &impatient));
        let questions = Questions::new(connections(questions::MOST, &direct), settings.connect_timeout);
        let pool = connections(settings.max_connections, &options);
        let (lender, timezone) = (Lender::new(options.clone(), settings), settings.timezone.clone());
        let (way, direct) = (Way::new(options), Way::new(direct));
        let pulse = Pulse::new(way.clone(), settings.connect_timeout);
        let schema_watch = SchemaWatch::new(direct.clone(), settings.connect_timeout + settings.query_timeout);
        let health = Health::new(pulse, standing, settings.feed_url.is_empty());
        let sessions = Sessions::of(settings, setup.clone());
        let replicas = Replicas::read(settings, &direct, &setup, place)?;
        let feeds = Feeds::new(direct, questions.connections().clone(), settings);
        let store = Self {
            lender,
            pool,
            questions,
            planners,
            health,
            schema_watch,
            retirement,
            sessions,
            setup,
            way,
            hosts: Arc::new(hosts),
            moves: Moves::default(),
            replicas,
            timezone,
            feeds,
        };
        store.give_names();
        if !store.timezone.is_empty() {
            zone::canonical(&store.direct(), &store.timezone).await?;
        }
        options::warn_if_exposed("store.url", &store.way.get());
        if !settings.feed_url.is_empty() {
            options::warn_if_exposed("store.feed_url", &store.feeds.way().get());
        }
        Ok(store)
    }

    /// Connections to the server itself, for what needs a session.
    pub(super) fn direct(&self) -> PgPool {
        self.questions.connections().pool()
    }

    pub(super) const fn moves(&self) -> &Moves {
        &self.moves
    }

    pub(super) fn standing(&self) -> Standing {
        self.health.standing.get()
    }

    /// The catalog, when it is the caller's turn.
    pub(super) async fn catalog(&self) -> Result<PostgresCatalog<'_>, StoreError> {
        let (turn, pool) = (self.planners.turn().await?, self.planners.connections().pool());
        Ok(PostgresCatalog { pool, timezone: &self.timezone, _turn: turn })
    }

    /// Has the server read the statements that would write to a mapping's table.
    pub(super) async fn rehearse(&self, plan: &Plan) -> Result<(), StoreError> {
        rehearsal::rehearse(self.catalog().await?, plan).await
    }

    pub(super) async fn write(
        &self,
        plan: &Plan,
        key: &[u8],
        edit: RowEdit<'_>,
        origin: &str,
    ) -> Result<Written, StoreError> {
        let (mut sent, origin) = (0, self.feeds.origin(origin));
        loop {
            let written = self.write_once(plan, key, edit, &origin).await;
            sent += 1;
            if !goes_again(&written, sent).await {
                self.touched([key]);
                return self.noted(written);
            }
        }
    }

    async fn write_once(
        &self,
        plan: &Plan,
        key: &[u8],
        edit: RowEdit<'_>,
        origin: &str,
    ) -> Result<Written, StoreError> {
        let mut lent = self.lender.lend().await?;
        let mut unit = self.sessions.enter(&mut lent.connection).await?;
        let (questions, sessions, commits_each) = (&self.questions, &self.sessions, !unit.is_transaction());
        let mut writer = write::Writer { connection: &mut unit, sessions, questions, origin, commits_each };
        let written = writer.write(plan, key, edit).await;
        let written = unit.leave(written, StoreError::of_write).await;
        // What was refused may have left a transaction to be rolled back.
        let is_clean = match &written {
            Ok(_) => true,
            Err(StoreError::Overloaded(_) | StoreError::ReadOnly(_)) => lent.connection.ping().await.is_ok(),
            Err(error) => !error.is_final() && lent.connection.ping().await.is_ok(),
        };
        if is_clean {
            lent.give_back();
        }
        written
    }

    pub(super) async fn flush(&self, plan: &Plan, rows: &[FlushRow], mark: Mark<'_>) -> Result<Flushed, StoreError> {
        let (mut sent, origin) = (0, self.feeds.origin(mark.origin));
        let mark = Mark { origin: &origin, ..mark };
        loop {
            let flushed = flush::flush(&self.pool.pool(), &self.sessions, plan, rows, mark).await;
            sent += 1;
            if !goes_again(&flushed, sent).await {
                self.touched(rows.iter().map(|row| &row.key[..]));
                return self.noted(flushed);
            }
        }
    }

    pub(super) async fn page(
        &self,
        listing: &Listing,
        after: &[String],
        limit: usize,
    ) -> Result<Vec<Listed>, StoreError> {
        let sql = listing.sql(after.is_empty(), limit);
        let query = sqlx::query(AssertSqlSafe(sql)).persistent(self.sessions.keep_statements());
        let query = after.iter().fold(query, |query, text| query.bind(text));
        let mut connection = self.pool.pool().acquire().await?;
        let mut unit = self.sessions.enter(&mut connection).await?;
        let rows = query.fetch_all(&mut *unit).await;
        let rows = unit.leave(rows, |error| error).await?;
        let count = listing.keys.len();
        let listed = |row: &sqlx::postgres::PgRow| {
            let texts = (0..count).map(|i| row.try_get(i)).collect::<Result<_, _>>()?;
            Ok(Listed { texts, has_ended: row.try_get(count)? })
        };
        Ok(rows.iter().map(listed).collect::<Result<_, sqlx::Error>>()?)
    }

    pub(super) async fn sweep(&self, ending: Ending<'_>, chosen: Chosen<'_>) -> Result<u64, StoreError> {
        self.check_zone(ending).await?;
        let swept = sweep::sweep(&self.pool.pool(), &self.sessions, ending, chosen).await;
        self.touched_all();
        self.noted(swept)
    }

    pub(super) async fn expired(&self, ending: Ending<'_>, chosen: Chosen<'_>) -> Result<Vec<RowKey>, StoreError> {
        self.check_zone(ending).await?;
        sweep::keys(&self.pool.pool(), &self.sessions, ending, chosen).await
    }

    /// Nobody would notice otherwise that rows are judged by a zone that holds no longer.
    async fn check_zone(&self, Ending { target, expires, .. }: Ending<'_>) -> Result<(), StoreError> {
        let doubt = zone::doubt_by_now(self.questions.turn().await?.pool(), &target.table, expires).await?;
        doubt.map_or(Ok(()), |doubt| Err(StoreError::Refused(doubt)))
    }

    pub(super) async fn enroll(&self, journal: &str, strand: &str) -> Result<(), StoreError> {
        self.noted(notes::enroll(self.questions.turn().await?.pool(), journal, strand).await)
    }

    pub(super) async fn fence(&self, fence: super::Fence<'_>) -> Result<super::Raised, StoreError> {
        self.noted(notes::fence(self.questions.turn().await?.pool(), fence).await)
    }

    pub(super) async fn begin(&self, origin: &str, snapshot: bool) -> Result<PostgresTransaction, StoreError> {
        let open = self.sessions.begin(&self.pool.pool(), snapshot).await?;
        let (questions, standing) = (self.questions.clone(), self.health.standing.clone());
        let origin = self.feeds.origin(origin);
        let (sessions, touched) = (self.sessions.clone(), Touched::new(self.replicas.clone()));
        Ok(PostgresTransaction { open, sessions, questions, standing, origin, touched })
    }

    pub(super) async fn each_row(
        &self,
        plan: &Plan,
        mut add: impl FnMut(Row) -> Result<(), StoreError> + Send,
    ) -> Result<(), StoreError> {
        let mut transaction = self.sessions.begin(&self.pool.pool(), false).await?;
        // A large preload may take longer than a load of one key, but not because somebody has locked the table: a
        // start and a reload wait for it, and it is tried again.
        let patience = "SELECT set_config('lock_timeout', '1s', true), set_config('statement_timeout', '0', true)";
        let keep = self.sessions.keep_statements();
        sqlx::query(patience).persistent(keep).execute(&mut *transaction).await?;
        let mut rows = sqlx::query(AssertSqlSafe(plan.all.clone())).persistent(keep).fetch(&mut *transaction);
        while let Some(row) = rows.try_next().await? {
            add(parse(row.try_get(0)?)?)?;
        }
        Ok(())
    }

    pub(super) async fn fingerprints(&self, mappings: &[&Mapping]) -> Result<Vec<Fingerprint>, StoreError> {
        let (fingerprints, search_path) = self.schema_watch.fingerprints(mappings).await?;
        // What a migration has changed is told by nobody else.
        self.touched_all();
        if self.setup.take_path(&search_path) {
            self.give_names();
            self.retire_connections();
        }
        Ok(fingerprints)
    }

    /// Connections that are opened from now on look names up along the search path of now. A pooler's are told in each
    /// transaction.
    fn give_names(&self) {
        let setup = self.setup.get();
        let direct = setup.with_names(PgConnectOptions::clone(&self.feeds.way().get()));
        self.planners.connections().set_options(planners::impatient(&direct));
        self.questions.connections().set_options(direct);
        if self.sessions.keep_statements() {
            let options = setup.with_names(PgConnectOptions::clone(&self.way.get()));
            self.pool.set_options(options.clone());
            self.lender.set_options(options);
        }
    }

    /// Connections that are open now are closed when they are free, with the statements that they have prepared.
    pub(super) fn retire_connections(&self) {
        self.retirement.retire_all();
        self.lender.retire();
        self.replicas.iter().for_each(|replicas| replicas.retire());
    }

    /// What an operator should know of the database's encoding.
    pub(super) async fn encoding_doubt(&self) -> Result<Option<String>, StoreError> {
        encoding::doubt(&self.direct()).await
    }

    /// Why the role may not read a mapping, with the key of its block.
    pub(super) async fn denied(&self, plan: &Plan) -> Result<Option<(&'static str, String)>, StoreError> {
        let catalog = self.catalog().await?;
        let sql = if plan.one.is_empty() { &plan.all } else { &plan.one };
        triggers::denied(&catalog.pool, &plan.mapping, sql).await
    }

    /// Why the role may not write it.
    pub(super) async fn denied_to_write(&self, plan: &Plan) -> Result<Vec<(&'static str, String)>, StoreError> {
        triggers::denied_to_write(&self.catalog().await?.pool, &plan.mapping).await
    }

    pub(super) async fn missing_triggers(&self, mapping: &Mapping) -> Result<Vec<String>, StoreError> {
        let catalog = self.catalog().await?;
        self.feeds.missing(&catalog.pool, mapping).await
    }

    pub(super) const fn feeds(&self) -> &Feeds {
        &self.feeds
    }
}

/// Whether a `postgres:` URL can be read.
pub(super) fn check_url(settings: &config::Store) -> Result<(), (&'static str, StoreError)> {
    Hosts::read(settings)?;
    Hosts::of_replicas(settings).map(|_| ())
}
