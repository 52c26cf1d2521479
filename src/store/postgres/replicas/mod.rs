//! Loads from hot standbys (`store.read_url`): only where it is certain that the standby has everything that this
//! sidecar has shown, written or been told of a key. Else, and whenever anything is in doubt, the primary is asked
//! (decision 0031). Knows no cache.
//!
//! Invariants:
//! - whoever has seen anything of a key's row at the primary, or at a standby, raises the key's mark before anybody is
//!   told; a standby is read only if it has reached a sounding that was sent after that;
//! - what a standby shows is used only if the primary shows it, too: a load there may be the next one;
//! - between the end of a change feed and the word that everything may have changed no standby is read;
//! - a standby that does not answer holds up one load at most: it is not read again before it has answered somebody
//!   whom no client waits for.

mod marks;
mod session;
mod soundings;
mod views;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use sqlx::Row as _;
use sqlx::postgres::PgConnectOptions;

use super::hosts::{Hosts, Server};
use super::key_connections::has_died;
use super::options::place;
use super::params::{self, Bound};
use super::pulse::Pulse;
use super::rows::{fetch, parse_all};
use super::sessions::Sessions;
use super::setup::CurrentSetup;
use super::way::Way;
use crate::config;
use crate::store::replica_reads::ReplicaReads;
use crate::store::row::Row;
use crate::store::{Change, OnChange, Plan, StoreError};
use crate::telemetry::clock::{Tick, millis};
use crate::telemetry::planted::is_planted;
use marks::Marks;
use session::Session;
use soundings::{Place, Soundings};
use views::Views;

/// What a sounding asks the primary.
const SOUND: &str = "SELECT system_identifier, \
    ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint, \
    pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint FROM pg_control_system()";

/// Soundings are sent so far apart at least.
const PACE: Duration = Duration::from_millis(50);

/// A standby that is away is tried again so often.
const RETRY: Duration = Duration::from_secs(1);

const AHEAD: &str = "it shows commits that the primary does not show yet: they wait for a synchronous standby";

const BEHIND: &str = "it has not replayed what the primary had a moment ago, or follows another timeline";

/// How the standby is reached, and sessions of it that are free.
type Open = (Option<Arc<PgConnectOptions>>, Vec<Session>);

/// Rows of keys, in their order, and since when nothing in them can be older.
pub(in crate::store) type Answer = (Vec<Option<Vec<Row>>>, Tick);

#[derive(Debug)]
pub(in crate::store) struct Replicas {
    hosts: Hosts,
    /// What names mean in sessions.
    setup: CurrentSetup,
    /// The primary's database, and the role of its login.
    whose: String,
    marks: Marks,
    soundings: Soundings,
    views: Views,
    primary: Pulse,
    feed_is_up: AtomicBool,
    /// A standby has answered, and has not failed since.
    is_up: AtomicBool,
    /// The log says that none does.
    is_said: AtomicBool,
    /// Why the last load that was meant for a standby went to the primary.
    why_not: ArcSwapOption<String>,
    open: Mutex<Open>,
    /// Loads there, and loads that the primary was asked for instead.
    counts: [AtomicU64; 2],
    /// How long a standby may take.
    patience: Duration,
    /// How old a sounding may be, in milliseconds.
    most_age: u64,
}

impl Replicas {
    /// Those of the settings, if they name any.
    ///
    /// # Errors
    /// [`StoreError::Refused`].
    pub(super) fn read(
        settings: &config::Store,
        direct: &Way,
        setup: &CurrentSetup,
        whose: String,
    ) -> Result<Option<Arc<Self>>, StoreError> {
        let Some(hosts) = Hosts::of_replicas(settings).map_err(|(_, error)| error)? else { return Ok(None) };
        Ok(Some(Arc::new(Self {
            hosts,
            setup: setup.clone(),
            whose,
            marks: Marks::default(),
            soundings: Soundings::default(),
            views: Views::new(direct.clone(), settings.connect_timeout / 2),
            primary: Pulse::new(direct.clone(), settings.connect_timeout),
            feed_is_up: AtomicBool::new(false),
            is_up: AtomicBool::new(false),
            is_said: AtomicBool::new(false),
            why_not: ArcSwapOption::empty(),
            open: Mutex::default(),
            counts: Default::default(),
            patience: settings.connect_timeout,
            most_age: millis(settings.heartbeat_interval),
        })))
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These keys were read, or written: at the primary, or at a standby.
    pub(in crate::store) fn touched<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) {
        let next = self.soundings.next();
        keys.into_iter().for_each(|key| self.marks.raise(key, next));
    }

    /// Anything may have been.
    pub(in crate::store) fn touched_all(&self) {
        self.marks.raise_all(self.soundings.next());
    }

    /// Marks what is told, before anybody else hears of it.
    pub(super) fn hearing(self: &Arc<Self>, on_change: OnChange) -> OnChange {
        let replicas = self.clone();
        Arc::new(move |change| {
            match &change {
                Change::Keys(keys, _) => replicas.touched(keys.iter().map(|key| &key[..])),
                Change::Rows(rows, _) => replicas.touched(rows.iter().map(|row| &row.key[..])),
                // Whoever reads one of them asks whether it can be seen, and the standby may not have it.
                Change::Coming(coming) => replicas.touched(coming.keys.iter().map(|key| &key[..])),
                Change::Alive(_) => replicas.feed_is_up.store(true, SeqCst),
                Change::Retained(_) => {}
                Change::Gap(_) | Change::StillGap(_) => {
                    replicas.feed_is_up.store(false, SeqCst);
                    replicas.touched_all();
                }
                _ => replicas.touched_all(),
            }
            on_change(change);
        })
    }

    /// The rows of these keys, if a standby is certain to have them as they are.
    pub(in crate::store) async fn rows_of(&self, plan: &Plan, keys: &[&[u8]]) -> Option<Answer> {
        let mark = self.marks.of(keys.iter().copied());
        let answer = match self.may_have(mark) {
            true => self.ask(plan, keys, mark).await,
            false => None,
        };
        let count = usize::from(answer.is_none());
        self.counts.get(count).into_iter().for_each(|count| _ = count.fetch_add(keys.len() as u64, Relaxed));
        self.touched(answer.is_some().then_some(keys).into_iter().flatten().copied());
        answer
    }

    /// Whether it is of any use to ask a standby. Where soundings alone are lacking, another one is sent for those who
    /// come later.
    fn may_have(&self, mark: u64) -> bool {
        let newest = self.soundings.newest();
        let is_sounded = newest.is_some_and(|newest| self.is_good(newest, mark));
        if !is_sounded {
            self.soundings.want();
        }
        is_sounded && self.feed_is_up.load(SeqCst) && self.is_up.load(SeqCst)
    }

    fn is_good(&self, sounding: soundings::Sounding, mark: u64) -> bool {
        sounding.number >= mark && Tick::now().since(sounding.sent) <= self.most_age
    }

    async fn ask(&self, plan: &Plan, keys: &[&[u8]], mark: u64) -> Option<Answer> {
        match tokio::time::timeout(self.patience, self.ask_session(plan, keys, mark)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if has_died(&error) => {
                self.is_away(&StoreError::from(error).to_string());
                None
            }
            // Its replay was in the way, or it has another schema than the primary by now.
            Ok(Err(error)) => {
                tracing::debug!(%error, "a load at a standby failed; the primary is asked");
                None
            }
            Err(_) => {
                self.is_away("no answer within store.connect_timeout");
                None
            }
        }
    }

    async fn ask_session(&self, plan: &Plan, keys: &[&[u8]], mark: u64) -> Result<Option<Answer>, sqlx::Error> {
        let (options, idle) = {
            let mut open = self.open();
            (open.0.clone(), open.1.pop())
        };
        let Some(options) = options else { return Ok(None) };
        let mut session = match idle {
            Some(session) => session,
            None => Session::open(options).await?,
        };
        if !session.reached.is_some_and(|reached| self.is_good(reached, mark)) && !session.ask(&self.soundings).await? {
            self.is_away("it is no hot standby any more");
            return Ok(None);
        }
        let reached = if is_planted("standby-not-asked") { self.soundings.newest() } else { session.reached };
        let Some(as_of) = reached.filter(|reached| self.is_good(*reached, mark)) else {
            return Ok(self.passed_over(session, BEHIND));
        };
        let rows = read(&mut session, plan, keys).await?;
        // What it shows after a promotion is not the primary's.
        if !session.ask(&self.soundings).await? {
            self.is_away("it is no hot standby any more");
            return Ok(None);
        }
        match self.views.not_over(session.end).await {
            None => return Ok(self.passed_over(session, "the primary does not say what can be seen")),
            Some(running) if session.has_one_of(&running).await? => return Ok(self.passed_over(session, AHEAD)),
            Some(_) => {}
        }
        self.give_back(session);
        self.why_not.store(None);
        Ok(rows.map(|rows| (rows, as_of.sent)))
    }

    /// The primary is asked instead, for this reason.
    fn passed_over(&self, session: Session, why: &str) -> Option<Answer> {
        self.why_not.store(Some(Arc::new(why.to_owned())));
        self.give_back(session);
        None
    }

    fn give_back(&self, session: Session) {
        let mut open = self.open();
        if open.0.as_ref().is_some_and(|options| Arc::ptr_eq(options, &session.options)) {
            open.1.push(session);
        }
    }

    /// No load is sent there until it has answered again.
    fn is_away(&self, why: &str) {
        *self.open() = (None, Vec::new());
        self.why_not.store(Some(Arc::new(why.to_owned())));
        self.is_up.store(false, SeqCst);
        if !self.is_said.swap(true, SeqCst) {
            tracing::warn!(why, "no standby of store.read_url can be read; loads go to the primary");
        }
    }

    /// Sessions that are open now are not used any more: names mean something else, or statements have changed.
    pub(super) fn retire(&self) {
        let mut open = self.open();
        open.1.clear();
        if let Some(options) = &mut open.0 {
            *options = Arc::new(self.setup.get().with_names(PgConnectOptions::clone(options)));
        }
    }

    /// Asks what it must know of both sides. For ever.
    pub(super) async fn run(&self) {
        tokio::join!(self.look(), self.views.run());
    }

    /// Sends soundings when they are wanted, and looks for a standby while there is none.
    async fn look(&self) {
        loop {
            let is_up = self.is_up.load(SeqCst);
            tokio::select! {
                () = self.soundings.is_wanted() => self.sound().await,
                () = tokio::time::sleep(RETRY), if !is_up => {}
            }
            if !self.is_up.load(SeqCst) {
                self.find().await;
            }
            tokio::time::sleep(PACE).await;
        }
    }

    async fn sound(&self) {
        let sounding = self.soundings.begin();
        let asking = tokio::time::timeout(self.patience, self.primary.run(SOUND, &[])).await;
        let row = match asking.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok(row) => row,
            Err(error) => return tracing::debug!(%error, "the primary was not asked how far its log goes"),
        };
        if let (Ok(system), Ok(timeline), Ok(end)) = (row.try_get(0), row.try_get(1), row.try_get(2)) {
            self.soundings.end(sounding, Place { system, timeline, end });
        }
    }

    /// A standby of the same database, in which the same role logs in: another one may see other rows.
    async fn standby(&self) -> Result<Server, StoreError> {
        let server = self.hosts.find().await?;
        let (whose, is) = (&self.whose, &server.proven.place);
        match is == whose {
            true => Ok(server),
            false => Err(StoreError::Refused(format!("it must lead to the same as store.url: {is} is not {whose}"))),
        }
    }

    async fn find(&self) {
        match self.standby().await {
            Err(error) => self.is_away(&error.to_string()),
            Ok(server) => {
                let options = server.proven.setup.lasting(server.options);
                let place = place(&options);
                self.why_not.store(None);
                *self.open() = (Some(Arc::new(self.setup.get().with_names(options))), Vec::new());
                self.is_said.store(false, SeqCst);
                self.is_up.store(true, SeqCst);
                tracing::info!(place, "a standby of store.read_url is read");
            }
        }
    }

    /// What an operator should know.
    pub(super) fn told(&self) -> ReplicaReads {
        let [there, elsewhere] = [0, 1].map(|at: usize| self.counts.get(at).map_or(0, |count| count.load(Relaxed)));
        let why_not = self.why_not.load_full().map(|why| why.as_ref().clone());
        ReplicaReads { is_up: self.is_up.load(SeqCst), why_not, there, elsewhere }
    }

    /// Why none of them can be read now, if that is so.
    pub(in crate::store) async fn doubt(&self) -> Option<String> {
        let error = self.standby().await.err()?;
        Some(format!("store.read_url: no standby can be read, and loads go to the primary: {error}"))
    }
}

/// The rows of keys by the statement of one, or of several; none where some text is no value.
async fn read(
    session: &mut Session,
    plan: &Plan,
    keys: &[&[u8]],
) -> Result<Option<Vec<Option<Vec<Row>>>>, sqlx::Error> {
    let bound: Option<Vec<Vec<Bound>>> = keys.iter().map(|key| params::bind(plan, key)).collect();
    let Some(bound) = bound else { return Ok(None) };
    let texts: Vec<Option<Vec<String>>> = match &bound[..] {
        [one] => vec![Some(fetch(&Sessions::Own, &mut session.connection, &plan.one, one).await?)],
        several => {
            let values: Vec<&Vec<Bound>> = several.iter().collect();
            fetch(&Sessions::Own, &mut session.connection, &plan.several, &params::arrays(&plan.params, &values))
                .await?
        }
    };
    let rows = |texts: Option<Vec<String>>| texts.map(|texts| parse_all(&texts)).transpose();
    Ok(texts.into_iter().map(rows).collect::<Result<Vec<_>, _>>().ok())
}
