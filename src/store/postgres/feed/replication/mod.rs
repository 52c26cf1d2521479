//! Changes by logical replication: the rows as the server's log has them, whoever changed them and however. Each
//! connection has a slot of its own, which is gone with it. Nothing is installed but a publication, and nobody who
//! writes waits for anything (decision 0028).
//!
//! The stream (`wire`, over `stream`, after `login`) carries messages (`pgoutput`) about tables (`relations`), which
//! say what each mapping is told (`concern`) of a `transaction`, with the rows that it left (`brought`); `settling`
//! gives it on when it can be seen, looks for that as often as need be (`pace`), and says which look was the last that
//! did not see it (`looks`).

mod brought;
mod concern;
mod login;
mod looks;
mod pace;
mod pgoutput;
mod relations;
mod settling;
mod stream;
mod transaction;
mod wire;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, PgPool};
use tokio::sync::mpsc;

use super::aside::Aside;
use super::heartbeat::{Beat, Heart};
use super::{OF_STANDBY, SILENT};
use crate::config;
use crate::store::catalog::relation::quote;
use crate::store::logged::RowBudget;
use crate::store::postgres::expression::IN_LOG;
use crate::store::postgres::options::place;
use crate::store::postgres::way::Way;
use crate::store::triggers::TableInterests;
use crate::store::{Change, OnChange};
use crate::telemetry::clock::Tick;
use crate::telemetry::random_id::fresh;
use brought::Brought;
use concern::Row;
use login::Login;
use looks::Looks;
use pgoutput::{Malformed, Message, decode, decode_beginning};
use relations::Relations;
use settling::{Outlet, Settling};
use transaction::Transaction;
use wire::{Streamed, Walsender};

/// As which sidecars ask something of all, in the log.
const WORDS: &[u8] = b"hearthside.words";

/// Sends a heartbeat with this name, which no standby need confirm.
const BEAT: Beat = Beat {
    sql: "SELECT set_config('synchronous_commit', 'local', true), pg_logical_emit_message(true, $1, $2)",
    when_denied: None,
};

/// A slot begins when every transaction that was open has ended; whoever waits longer is told so.
const LONG: Duration = Duration::from_secs(10);

/// Transactions that have been read and not been given on at most.
const MOST_READ: usize = 256;

/// What a feed by replication needs.
pub(super) struct Replication<'f> {
    pub(super) way: &'f Way,
    pub(super) options: &'f PgConnectOptions,
    pub(super) settings: &'f config::Store,
    /// For questions about tables.
    pub(super) questions: &'f PgPool,
    pub(super) interests: &'f Arc<ArcSwap<Vec<TableInterests>>>,
    /// How many looks at what is visible there have been.
    pub(super) looks: &'f Arc<AtomicU64>,
    /// The keys whose changes wait until somebody reads or writes them.
    pub(super) aside: &'f Arc<Aside>,
    /// Whether it waits for transactions that were open before it, however long that takes.
    pub(super) waits: bool,
    pub(super) on_change: &'f OnChange,
}

impl Replication<'_> {
    /// Streams until something is wrong, and says what.
    pub(super) async fn listen(&self, heartbeat: &str, attempt: &mut u64) -> String {
        let (walsender, mut settling) = match self.connect().await {
            Ok(connected) => connected,
            Err(why) => return why,
        };
        // Nobody was sent what changed before the slot began.
        (self.on_change)(Change::Everything);
        (self.on_change)(Change::Alive(Tick::now()));
        tracing::info!("the change feed of Postgres is connected, by logical replication");
        *attempt = 0;
        let (reads, coming) = mpsc::channel(MOST_READ);
        let relations = Relations::new(self.questions.clone(), self.interests.load_full());
        let mut reading = Reading { walsender, relations, heartbeat, budget: RowBudget::default(), transaction: None };
        let feed = async {
            tokio::select! {
                why = self.read(&mut reading, reads) => why,
                why = settling.run(coming) => why,
            }
        };
        Heart::new(BEAT, self.way, self.settings, heartbeat).beat_beside(feed).await
    }

    async fn connect(&self) -> Result<(Walsender, Settling), String> {
        let patience = self.settings.connect_timeout;
        let late = || "the change feed could not connect in time".to_owned();
        let failed = |error: std::io::Error| format!("the change feed could not connect: {error}");
        let connecting = tokio::time::timeout(patience, self.questioner()).await;
        let Some(connection) = connecting.map_err(|_| late())?.map_err(|error| failed(std::io::Error::other(error)))?
        else {
            return Err(format!("{} {OF_STANDBY}", place(self.options)));
        };
        let login = Login::of(self.options);
        let connecting = tokio::time::timeout(patience, Walsender::connect(&login)).await;
        let mut walsender = connecting.map_err(|_| late())?.map_err(failed)?;
        let slot = format!("hearthside_{:016x}", fresh());
        let create = format!("CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT");
        create_slot(&mut walsender, &create, self.waits).await.map_err(failed)?;
        let publication = quote(&self.settings.publication).replace('\'', "''");
        let start = format!(
            "START_REPLICATION SLOT {slot} LOGICAL 0/0 \
             (proto_version '1', publication_names '{publication}', messages 'true')"
        );
        let starting = tokio::time::timeout(patience, walsender.start(&start)).await;
        starting.map_err(|_| late())?.map_err(failed)?;
        let (interests, on_change) = (self.interests.clone(), self.on_change.clone());
        let (aside, looks) = (self.aside.clone(), Looks::new(self.looks.clone()));
        let outlet = Outlet { interests, on_change, aside, looks };
        let settling = Settling::begin(connection, outlet, self.settings, slot).await?;
        Ok((walsender, settling))
    }

    /// A connection for questions about what is visible; a hot standby has none.
    async fn questioner(&self) -> Result<Option<PgConnection>, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let is_standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(&mut connection).await?;
        Ok((!is_standby).then_some(connection))
    }

    async fn read(&self, reading: &mut Reading<'_>, reads: mpsc::Sender<Transaction>) -> String {
        let silence = self.settings.heartbeat_timeout;
        loop {
            let streamed = match tokio::time::timeout(silence, reading.walsender.receive()).await {
                Err(_) => return SILENT.to_owned(),
                Ok(Err(error)) => return format!("the change feed failed: {error}"),
                Ok(Ok(streamed)) => streamed,
            };
            let done = match streamed {
                Streamed::Alive { end, wants_reply } => reading.alive(end, wants_reply).await,
                Streamed::Data { end, message, is_whole } => {
                    let decoded = if is_whole { decode(&message) } else { decode_beginning(&message) };
                    match decoded {
                        Ok(message) => reading.take(message, end, self.interests, &reads).await,
                        Err(Malformed(tag)) => Err(format!("the change feed was sent what it cannot read: {tag:#x}")),
                    }
                }
            };
            if let Err(why) = done {
                return why;
            }
        }
    }
}

/// Creates the slot. Where nothing else tells changes, it waits however long transactions are open: another attempt
/// would wait for as long.
async fn create_slot(walsender: &mut Walsender, create: &str, waits: bool) -> std::io::Result<()> {
    let creating = walsender.run(create);
    tokio::pin!(creating);
    match tokio::time::timeout(LONG, &mut creating).await {
        Ok(created) => created,
        Err(_) if !waits => Err(std::io::Error::other("a transaction that was open before it does not end")),
        Err(_) => {
            tracing::warn!(
                "the change feed waits for transactions that were open before it began to end; until then \
                 cache.max_staleness bounds what is served"
            );
            creating.await
        }
    }
}

/// The stream and what is known of it.
struct Reading<'f> {
    walsender: Walsender,
    relations: Relations,
    /// The name of our heartbeats.
    heartbeat: &'f str,
    /// How much of the rows may be held.
    budget: RowBudget,
    /// The one whose rows are coming.
    transaction: Option<Transaction>,
}

impl Reading<'_> {
    /// The server has nothing more before `end`.
    async fn alive(&mut self, end: u64, wants_reply: bool) -> Result<(), String> {
        if wants_reply || self.transaction.is_none() {
            return self.confirm(end).await;
        }
        Ok(())
    }

    async fn confirm(&mut self, end: u64) -> Result<(), String> {
        self.walsender.confirm(end).await.map_err(|error| format!("the change feed failed: {error}"))
    }

    async fn take(
        &mut self,
        message: Message<'_>,
        end: u64,
        interests: &ArcSwap<Vec<TableInterests>>,
        reads: &mpsc::Sender<Transaction>,
    ) -> Result<(), String> {
        match message {
            Message::Begin(number) => {
                let now = interests.load_full();
                if !Arc::ptr_eq(&now, self.relations.interests()) {
                    self.relations.follow(now.clone()).await.map_err(unknown)?;
                }
                self.transaction = Some(Transaction::new(number, now));
            }
            Message::Commit => {
                let Some(transaction) = self.transaction.take() else { return Ok(()) };
                if transaction.heartbeat.is_some() {
                    self.confirm(end).await?;
                }
                return reads.send(transaction).await.map_err(|_| "the change feed has ended".to_owned());
            }
            Message::Relation(relation) => {
                let id = relation.id;
                if self.relations.learn(relation).await.map_err(unknown)? {
                    self.changed_whole(id);
                    self.transaction.iter_mut().for_each(|transaction| transaction.changes_schema = true);
                }
            }
            Message::TooLong(id) => self.changed_whole(id),
            Message::Truncate(relations) => relations.into_iter().for_each(|id| self.changed_whole(id)),
            Message::Insert { relation, new } => self.changed(relation, Row::Come(&new)),
            Message::Delete { relation, old } => self.changed(relation, Row::Gone(&old)),
            Message::Update { relation, old, new } => {
                self.changed(relation, Row::Changed { old: old.as_ref(), new: &new });
            }
            Message::Emitted { prefix: b"hearthside.origin", content } => self.mark(content),
            Message::Emitted { prefix: WORDS, content } => self.hear(content),
            Message::Emitted { prefix, content } => self.beat(prefix, content),
            Message::Other => {}
        }
        Ok(())
    }

    fn changed(&mut self, relation: u32, row: Row<'_, '_>) {
        let (Some(transaction), Some(known)) = (&mut self.transaction, self.relations.known(relation)) else { return };
        let brought = Brought::new(row, known, &self.budget);
        known.concerns.iter().for_each(|concern| transaction.changed(concern, &brought));
    }

    /// Of a table that was emptied, or is another than it was.
    fn changed_whole(&mut self, relation: u32) {
        let Some(transaction) = &mut self.transaction else { return };
        let concerns = self.relations.known(relation).into_iter().flat_map(|known| &known.concerns);
        concerns.for_each(|concern| transaction.changed_whole(&concern.pattern));
    }

    /// The transaction is a sidecar's write.
    fn mark(&mut self, origin: &[u8]) {
        if let Some(transaction) = &mut self.transaction
            && let Some(origin) = std::str::from_utf8(origin).ok().and_then(|text| text.strip_prefix(IN_LOG))
        {
            transaction.is_of(origin);
        }
    }

    /// Somebody asks something of all sidecars.
    fn hear(&mut self, word: &[u8]) {
        if let Some(transaction) = &mut self.transaction {
            transaction.words.push(String::from_utf8_lossy(word).into_owned());
        }
    }

    /// Another sidecar's heartbeat has another name.
    fn beat(&mut self, name: &[u8], sent: &[u8]) {
        if name == self.heartbeat.as_bytes()
            && let Some(transaction) = &mut self.transaction
            && let Some(sent) = std::str::from_utf8(sent).ok().and_then(|text| text.parse().ok())
        {
            transaction.heartbeat = Some(Tick::from_ms(sent));
        }
    }
}

fn unknown(error: sqlx::Error) -> String {
    format!("the change feed cannot ask about a table: {error}")
}
