//! The change feeds of Postgres, which report [`Change`]s: `notify` listens for what triggers send, `outbox` reads what
//! they write, too, and `replication` reads the server's log. What receives the changes does not know which feed
//! reported them. Here is what they share: an attempt follows the other, and heartbeats prove that a feed is alive.
//!
//! Invariants:
//! - a feed never reconnects by itself: a connection that ends, errs or is silent past the deadline is a gap, and a new
//!   one is opened (hazards 5 and 6);
//! - a gap ends with the word that everything may have changed, before the feed vouches for anything again (hazard 4).

mod ability;
mod aside;
mod choice;
mod heartbeat;
mod next_notice;
mod notify;
mod outbox;
mod replication;
mod snapshot;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use arc_swap::ArcSwap;
use sqlx::PgPool;

use crate::config;
use crate::mapping::Mapping;
use crate::store::postgres::expression::IN_LOG;
use crate::store::postgres::pool::Connections;
use crate::store::postgres::way::Way;
use crate::store::triggers::{Lack, Means, Report, TableInterests};
use crate::store::{Change, OnChange, StoreError, publication, triggers};
use crate::telemetry::random_id::fresh;
use ability::Ability;
use aside::Aside;
pub use choice::Taken;
use replication::Replication;

const SILENT: &str = "the change feed was silent past its deadline";

const CLOSED: &str = "the change feed cannot be connected; it is tried again";

/// What is said of a standby, behind its place.
const OF_STANDBY: &str = "is a hot standby, which tells no changes (no LISTEN) until it is promoted";

/// How changes are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedKind {
    /// By notices that triggers send.
    Notify,
    /// By rows that triggers write while much changes, else by notices.
    Outbox,
    /// By the server's log.
    Replication,
}

impl FeedKind {
    /// As `store.feed` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Outbox => "outbox",
            Self::Replication => "replication",
        }
    }
}

/// The feed of a store.
#[derive(Debug)]
pub(in crate::store) struct Feeds {
    /// How the server itself is reached; says not what names mean.
    way: Way,
    /// For questions about tables.
    questions: Connections,
    wanted: config::Feed,
    /// What is taken where that leaves it open.
    taken: ArcSwap<Taken>,
    publication: String,
    /// The mappings that changes are told for.
    followed: ArcSwap<Vec<Mapping>>,
    /// What a feed that reads rows tells of them.
    interests: Arc<ArcSwap<Vec<TableInterests>>>,
    /// How many looks at what is visible a feed that reads rows has begun.
    looks: Arc<AtomicU64>,
    /// The keys whose changes it has put aside until it looks again.
    aside: Arc<Aside>,
    /// How long the server may take for the answers about one mapping.
    patience: Duration,
}

impl Feeds {
    /// The feed that the settings name.
    pub(super) fn new(way: Way, questions: Connections, settings: &config::Store) -> Self {
        Self {
            way,
            questions,
            wanted: settings.feed,
            taken: ArcSwap::from_pointee(Taken::fixed(settings.feed)),
            publication: settings.publication.clone(),
            followed: ArcSwap::default(),
            interests: Arc::default(),
            looks: Arc::default(),
            aside: Arc::default(),
            patience: settings.connect_timeout + settings.query_timeout,
        }
    }

    pub(super) const fn way(&self) -> &Way {
        &self.way
    }

    /// How many looks at what is visible have begun.
    pub(in crate::store) fn looks(&self) -> u64 {
        self.looks.load(SeqCst)
    }

    /// Somebody is about to read or write a key.
    pub(in crate::store) fn is_of_interest(&self, key: &[u8]) {
        self.aside.is_of_interest(key);
    }

    pub(in crate::store) fn kind(&self) -> FeedKind {
        self.taken.load().kind
    }

    /// Which feed is taken, and why.
    pub(in crate::store) fn taken(&self) -> Taken {
        Taken::clone(&self.taken.load())
    }

    /// What the server and the role lack for the feed that the settings demand, a line each.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn lacks(&self) -> Result<Vec<String>, StoreError> {
        match self.wanted {
            config::Feed::Notify | config::Feed::Auto => Ok(Vec::new()),
            config::Feed::Outbox => triggers::lacks_of_outbox(&self.questions.pool()).await,
            config::Feed::Replication => Ok(Ability::ask(&self.questions.pool(), &self.publication).await?.lacks()),
        }
    }

    /// What an operator should know of the feed, a line each.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) async fn doubts(&self) -> Result<Vec<String>, StoreError> {
        let Taken { kind, why, has_fallback } = self.taken();
        let (is_open, mut lines) = (self.wanted == config::Feed::Auto, Vec::new());
        match kind {
            FeedKind::Notify if is_open => {
                lines.push(format!("store.feed = \"auto\" takes the notices of triggers: {why}"));
            }
            FeedKind::Notify => {}
            FeedKind::Outbox => lines.extend(triggers::doubts_of_outbox(&self.questions.pool()).await?),
            FeedKind::Replication => {
                let ability = Ability::ask(&self.questions.pool(), &self.publication).await?;
                lines.extend(ability.doubts().map(str::to_owned));
                if is_open {
                    let otherwise = if has_fallback { "triggers tell them" } else { "nothing tells them" };
                    lines.push(format!(
                        "store.feed = \"auto\" takes logical replication: {why}; when it cannot be had, {otherwise}"
                    ));
                }
            }
        }
        Ok(lines)
    }

    /// The text by which a write's changes are told apart, as statements take it (`expression.rs`).
    pub(super) fn origin(&self, origin: &str) -> String {
        match self.kind() {
            FeedKind::Notify | FeedKind::Outbox => origin.to_owned(),
            FeedKind::Replication => format!("{IN_LOG}{origin}"),
        }
    }

    /// From now on changes are told for these mappings.
    pub(in crate::store) fn follow<'m>(&self, mappings: impl IntoIterator<Item = &'m Mapping>) {
        let mappings: Vec<Mapping> = mappings.into_iter().cloned().collect();
        self.interests.store(Arc::new(triggers::by_table(&mappings)));
        self.followed.store(Arc::new(mappings));
        // What is aside may concern others.
        self.aside.ask();
    }

    /// What is missing for a mapping to be told of every change, a line each; over connections of `pool`.
    ///
    /// # Errors
    /// The catalog cannot be asked.
    pub(super) async fn missing(&self, pool: &PgPool, mapping: &Mapping) -> Result<Vec<String>, StoreError> {
        match self.kind() {
            FeedKind::Notify => triggers::missing(pool, mapping, Means::Notices).await,
            FeedKind::Outbox => triggers::missing(pool, mapping, Means::Outbox).await,
            FeedKind::Replication => publication::missing(pool, mapping, &self.publication).await,
        }
    }

    /// The same of several mappings, a line for each table.
    ///
    /// # Errors
    /// As [`Feeds::missing`].
    pub(in crate::store) async fn missing_of(&self, mappings: &[&Mapping]) -> Result<Vec<Lack>, StoreError> {
        let pool = self.questions.pool();
        match self.kind() {
            FeedKind::Notify => triggers::missing_of(&pool, mappings, Means::Notices).await,
            FeedKind::Outbox => triggers::missing_of(&pool, mappings, Means::Outbox).await,
            FeedKind::Replication => publication::missing_of(&pool, mappings, &self.publication).await,
        }
    }

    /// Makes what is missing. `patience` is how long one attempt waits for a table's lock.
    ///
    /// # Errors
    /// As [`Feeds::missing`]; what concerns one table is in the report.
    pub(in crate::store) async fn install(
        &self,
        mappings: &[Mapping],
        patience: Duration,
    ) -> Result<Report, StoreError> {
        let pool = self.questions.pool();
        match self.made().await? {
            FeedKind::Notify => triggers::install(&pool, mappings, Means::Notices, patience).await,
            FeedKind::Outbox => triggers::install(&pool, mappings, Means::Outbox, patience).await,
            FeedKind::Replication => publication::install(&pool, mappings, &self.publication, patience).await,
        }
    }

    /// What `hearthside triggers --install` makes: where it is left open, the publication may not be there yet.
    async fn made(&self) -> Result<FeedKind, StoreError> {
        Ok(match self.wanted {
            config::Feed::Notify => FeedKind::Notify,
            config::Feed::Outbox => FeedKind::Outbox,
            config::Feed::Replication => FeedKind::Replication,
            config::Feed::Auto => {
                let ability = Ability::ask(&self.questions.pool(), &self.publication).await?;
                if ability.lacks_for_good().is_empty() { FeedKind::Replication } else { FeedKind::Notify }
            }
        })
    }

    /// Gives `on_change` every change, for ever.
    pub(super) async fn watch(&self, settings: &config::Store, on_change: OnChange) {
        // Attempts since the feed was last connected.
        let mut attempt = 1_u64;
        let (mut said_standby, mut refused) = (false, None);
        loop {
            let is_asked = self.choose_again(refused.as_deref(), &on_change).await;
            // Two machines that go on from one memory never share a connection: one of them at least comes by here,
            // and does not take the other's word, by another clock, for its own.
            let heartbeat = format!("hearthside_heartbeat_{:016x}", fresh());
            let why = self.listen(settings, &heartbeat, &on_change, &mut attempt).await;
            let is_standby = why.ends_with(OF_STANDBY);
            let is_refused = attempt > 0 && self.kind() == FeedKind::Replication && !is_standby;
            refused = (is_asked && is_refused).then(|| why.clone());
            match attempt {
                0 => {}
                // The gap goes on; the cache is emptied when it ends.
                1 | 20 if !is_standby => tracing::warn!(%why, attempt, "{CLOSED}"),
                _ if is_standby && !said_standby => tracing::warn!(%why, attempt, "{CLOSED}"),
                _ => tracing::debug!(%why, attempt, "{CLOSED}"),
            }
            on_change(if attempt == 0 { Change::Gap(why) } else { Change::StillGap(why) });
            said_standby = is_standby;
            attempt += 1;
            tokio::time::sleep(backoff(attempt)).await;
        }
    }

    /// Asks again which feed serves what is followed. True where the server has answered.
    async fn choose_again(&self, refused: Option<&str>, on_change: &OnChange) -> bool {
        match self.choose(&self.followed.load_full(), refused).await {
            Ok(is_another) => {
                if is_another {
                    on_change(Change::OtherFeed);
                }
                true
            }
            Err(error) => {
                tracing::debug!(%error, "the server cannot be asked which change feed it has");
                false
            }
        }
    }

    /// Gives changes on until something is wrong, and says what.
    async fn listen(
        &self,
        settings: &config::Store,
        heartbeat: &str,
        on_change: &OnChange,
        attempt: &mut u64,
    ) -> String {
        let (way, taken) = (&self.way, self.taken());
        match taken.kind {
            FeedKind::Notify => notify::listen(way, settings, heartbeat, on_change, attempt).await,
            FeedKind::Outbox => outbox::listen(way, settings, heartbeat, on_change, attempt).await,
            FeedKind::Replication => {
                let (options, questions) = (&*way.get(), &self.questions.pool());
                let (interests, looks, aside) = (&self.interests, &self.looks, &self.aside);
                let waits = !taken.has_fallback;
                let replication =
                    Replication { way, options, settings, questions, interests, looks, aside, waits, on_change };
                replication.listen(heartbeat, attempt).await
            }
        }
    }
}

/// min(attempt x 100, 3000) ms, with jitter.
fn backoff(attempt: u64) -> Duration {
    let most = (attempt * 100).min(3000);
    Duration::from_millis(fastrand::u64(most / 2..=most))
}
