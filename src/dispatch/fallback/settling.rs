//! Settles keys that may still be the upstream's, before a request that may change them is answered: afterwards the
//! store has what the upstream had, and the upstream has nothing that could come back.
//!
//! Invariants:
//! - what the upstream has of a key is removed there only when the store has it, or when the client wants it gone;
//! - one at a time settles a key of this sidecar, and what it writes has queued when its turn ends.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::settles::{OfMapping, Turn};
use super::theirs::{Theirs, Value};
use crate::cache::By;
use crate::command::{OwnedRequest, Request};
use crate::config::{MappingConfig, WriteMode};
use crate::dispatch::owned::write::refusal;
use crate::dispatch::{Owned, Services};
use crate::errors::fallback as errors;
use crate::errors::upstream::may_be_applied;
use crate::mapping::{Kind, Mapping};
use crate::quota::Asker;
use crate::record::{ParseExpire, Record, Shape, TtlChange, Verb, Write};
use crate::resp::{Proto, decode};
use crate::route::{Holder, OwnedKey, Route, Router, Split, SplitKey, SplitKeys};
use crate::session::Session;
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::{FallbackMetrics, FellBack};

/// So many milliseconds the upstream keeps what the store has, of a key that lives longer.
const SOON: i64 = 5_000;

/// Settles the keys of one request.
pub struct Settling {
    pub(super) owned: Arc<Owned>,
    router: Arc<Router>,
    theirs: Theirs,
    metrics: Arc<FallbackMetrics>,
    /// It is of a transaction: whatever it names is to be in the store.
    is_of_transaction: bool,
    /// The database of `upstream.url` and the client's, where these are two.
    databases: Option<(i64, i64)>,
    /// The client, where it writes.
    by: By,
}

/// Who answers a request whose keys are settled. While this is kept, nobody else settles them.
#[derive(Debug)]
pub struct Settled {
    /// The upstream does: it alone has the key.
    pub passes: bool,
    /// What was done while they were settled: this is the answer.
    pub done: Option<Bytes>,
    /// So many keys that the store has not were removed at the upstream.
    pub removed: i64,
    turns: Vec<Turn>,
}

/// A mapping, one of its keys, and the command on it.
#[derive(Clone, Copy)]
pub(super) struct Subject<'s> {
    pub(super) mapping: &'s Mapping,
    pub(super) key: &'s Bytes,
    pub(super) request: &'s Request<'s>,
    turn: &'s Turn,
}

/// Why a key is not brought over: the error for the client.
enum Obstacle {
    /// The store cannot have what the upstream has.
    Misfit(String),
    Other(String),
}

impl Obstacle {
    fn text(self) -> String {
        match self {
            Self::Misfit(text) | Self::Other(text) => text,
        }
    }
}

impl Services {
    /// Who settles the keys of a request of this client, which a transaction may have taken to database `db`.
    #[must_use]
    pub fn settling(&self, session: &Session, is_of_transaction: bool, db: Option<i64>) -> Settling {
        let (first, own) = (self.upstream.endpoint().first_database(), db.unwrap_or(session.group.db));
        Settling {
            owned: self.owned.clone(),
            router: self.router.clone(),
            theirs: Theirs::of_sidecar(self, session),
            metrics: self.metrics.fallback.clone(),
            is_of_transaction,
            databases: (first != own).then_some((first, own)),
            by: session.writer(session.spec.map_or("", |spec| &spec.name)),
        }
    }
}

impl Subject<'_> {
    pub(super) const fn config(&self) -> &MappingConfig {
        &self.mapping.config
    }

    fn pattern(&self) -> &str {
        self.mapping.pattern.text()
    }

    /// True when commands write values of the mapping to the store.
    const fn is_brought(&self) -> bool {
        matches!(self.config().write, WriteMode::Through | WriteMode::Deferred)
    }

    fn misfit(&self, why: &str) -> Obstacle {
        Obstacle::Misfit(errors::does_not_fit(&self.request.name(), self.key, self.pattern(), why))
    }

    fn unbrought(&self) -> String {
        let may_be_written = self.mapping.may_be_written();
        errors::only_upstream_has(&self.request.name(), self.key, self.pattern(), may_be_written)
    }
}

impl Settling {
    /// Settles them, in the order of their names, so that two never wait for each other.
    ///
    /// # Errors
    /// The error for the client; nothing was done of its command.
    pub async fn run(&self, request: &OwnedRequest, route: &Route) -> Result<Settled, String> {
        let mut keys = self.keys(request, route);
        keys.sort_by(|(_, a), (_, b)| a.cmp(b));
        keys.dedup();
        let mut turns = Vec::with_capacity(keys.len());
        for (mapping, key) in &keys {
            turns.push(self.owned.settles.turn(key, self.router.pattern(*mapping)).await);
        }
        let mut settled = Settled { passes: false, done: None, removed: 0, turns };
        let view = request.view();
        if matches!(route, Route::Split(SplitKeys { split: Split::Remove, keys, .. }) if has_definition(keys)) {
            // All of it is refused.
            return Ok(settled);
        }
        if let (Some((first, own)), Some((mapping, _))) = (self.databases, keys.first()) {
            return Err(errors::other_database(self.router.pattern(*mapping), first, own));
        }
        let list = &self.owned.mappings.list;
        let each = keys.iter().zip(&settled.turns);
        let subjects: Vec<Subject<'_>> = each
            .map(|((mapping, key), turn)| Subject { mapping: &list[mapping.index()], key, request: &view, turn })
            .collect();
        match route {
            Route::Split(keys) if self.is_of_transaction && keys.split == Split::Remove => {
                settled.passes = self.before_removal_is_queued(&subjects, route, keys).await?;
            }
            _ if self.is_of_transaction => {
                for subject in subjects {
                    self.before_queueing(subject, route).await?;
                }
            }
            Route::Split(_) => settled.removed = self.remove_all(&subjects).await?,
            other => {
                for subject in subjects {
                    (settled.passes, settled.done) = self.before_one(subject, other).await?;
                }
            }
        }
        Ok(settled)
    }

    /// Before a command with one key: whether the upstream is to do it, or its answer if it is done already.
    async fn before_one(&self, subject: Subject<'_>, route: &Route) -> Result<(bool, Option<Bytes>), String> {
        match route {
            Route::Cached(key, Verb::Write(verb)) => {
                let is_taken = refusal(subject.mapping, subject.request, *key, *verb).is_none();
                match verb.read(subject.request, key.spec) {
                    Ok(write) if is_taken => Ok((false, self.before_write(subject, &write, verb.deletes).await?)),
                    _ => Ok((false, None)),
                }
            }
            Route::Cached(key, Verb::Expire(parse)) => Ok((self.before_expiry(subject, *key, *parse).await?, None)),
            _ => Ok((false, None)),
        }
    }

    /// The keys of a request that may still be the upstream's.
    fn keys(&self, request: &OwnedRequest, route: &Route) -> Vec<OfMapping> {
        let view = request.view();
        let places: Vec<usize> = match route {
            Route::Split(keys) => keys.keys.iter().map(|key| key.at).collect(),
            Route::Transaction(..) => (1..view.len()).collect(),
            other => other.owned_key().map(|key| key.at).into_iter().collect(),
        };
        let of_mapping = |at| Some((self.router.falls_back(view.arg(at))?, request.key(at)));
        places.into_iter().filter_map(of_mapping).collect()
    }

    pub(super) fn count(&self, subject: Subject<'_>, outcome: FellBack) {
        self.metrics.looked(subject.pattern(), outcome);
    }

    /// True when the store has the key: as memory knows it, or past that.
    pub(super) async fn is_in_store(&self, subject: Subject<'_>) -> Result<bool, String> {
        let (id, key) = (subject.mapping.id, subject.key);
        let known = self.owned.cache.load(id, key, &mut Asker::new(None, Tick::now())).await;
        let known = known.map_err(|error| self.owned.load_error(id, &error))?;
        if known.record.is_some() {
            return Ok(true);
        }
        let again = self.owned.look_again(id, key).await.map_err(|error| self.owned.load_error(id, &error))?;
        Ok(again.record.is_some())
    }

    pub(super) async fn does_upstream_have(&self, subject: Subject<'_>) -> Result<bool, String> {
        let told = self.theirs.ask(&[b"EXISTS", subject.key], subject.key, true).await;
        let told = told.map_err(|why| errors::needs_upstream(subject.pattern(), &why))?;
        Ok(decode::integer(&told) != Some(0))
    }

    /// Nothing is written for a mapping that has another mode meanwhile.
    fn goes_on(subject: Subject<'_>) -> Result<(), String> {
        if subject.turn.is_over() {
            Err(errors::needs_upstream(subject.pattern(), errors::CHANGED_OVER))
        } else {
            Ok(())
        }
    }

    /// Removes what the upstream has of a key; how many keys those were. On the way back it gets what the store has.
    pub(super) async fn take_away(&self, subject: Subject<'_>) -> Result<i64, String> {
        Self::goes_on(subject)?;
        self.owned.cache.note_written_key(subject.key);
        let told = self.theirs.ask(&[b"UNLINK", subject.key], subject.key, false).await;
        let error = |why: String| match may_be_applied(&why) {
            true => errors::may_be_removed(subject.pattern(), &why),
            false => errors::needs_upstream(subject.pattern(), &why),
        };
        Ok(decode::integer(&told.map_err(error)?).unwrap_or_default())
    }

    /// Brings a key into the store before it is deleted. False if only the upstream has it, and the store cannot.
    pub(super) async fn could_bring(&self, subject: Subject<'_>) -> Result<bool, String> {
        match self.bring(subject).await {
            Err(Obstacle::Misfit(_)) => Ok(false),
            brought => brought.map(|_| true).map_err(Obstacle::text),
        }
    }

    /// Brings a key into the store, if only the upstream has it. True if the store had it before.
    async fn bring(&self, subject: Subject<'_>) -> Result<bool, Obstacle> {
        if self.is_in_store(subject).await.map_err(Obstacle::Other)? {
            self.count(subject, FellBack::Store);
            return Ok(true);
        }
        let config = subject.config();
        let value = self.theirs.value(config.shape, subject.key).await;
        let brought = match value.map_err(|why| Obstacle::Other(errors::needs_upstream(subject.pattern(), &why)))? {
            Value::Nothing => {
                self.count(subject, FellBack::Neither);
                return Ok(false);
            }
            _ if !subject.is_brought() => Err(Obstacle::Other(subject.unbrought())),
            Value::OtherType => {
                Err(subject.misfit(&format!("its value is no {}, as keys of the mapping are", config.shape.name())))
            }
            Value::Whole(_, Some(_)) if config.expires_column.is_none() => {
                Err(subject.misfit("it has a TTL, and the mapping has no expires_column that would keep it"))
            }
            Value::Whole(record, left) => self.insert(subject, record.living(left)).await,
        };
        self.count(subject, if brought.is_ok() { FellBack::Brought } else { FellBack::Refused });
        brought.map(|()| false)
    }

    /// The store has the key, which lives on for so long: what the upstream has ends soon, and not at once, because an
    /// import that has just copied the key would take that for a deletion.
    async fn let_end(&self, subject: Subject<'_>, life: TtlChange) -> Result<(), String> {
        if matches!(life, TtlChange::Left(left) if left <= SOON) {
            return self.take_away(subject).await.map(drop);
        }
        Self::goes_on(subject)?;
        self.owned.cache.note_written_key(subject.key);
        let soon = SOON.to_string();
        let told = self.theirs.ask(&[b"PEXPIRE", subject.key, soon.as_bytes(), b"LT"], subject.key, true).await;
        told.map(drop).map_err(|why| errors::needs_upstream(subject.pattern(), &why))
    }

    /// Writes the value into the store, where nothing of it is written over.
    async fn insert(&self, subject: Subject<'_>, record: Record) -> Result<(), Obstacle> {
        Self::goes_on(subject).map_err(Obstacle::Other)?;
        let id = subject.mapping.id;
        let adopted = self.owned.cache.adopt(id, subject.key, record).await;
        adopted.map_err(|error| {
            let text = self.owned.write_error(id, &error);
            if error.is_about_a_record() { subject.misfit(&text) } else { Obstacle::Other(text) }
        })
    }

    /// Before a write of a cached key that its mapping takes; its answer if it is done by then.
    async fn before_write(&self, subject: Subject<'_>, write: &Write, deletes: bool) -> Result<Option<Bytes>, String> {
        if subject.config().write == WriteMode::Fill {
            let replaces = write.overwrites() || deletes;
            if !replaces && self.is_theirs(subject).await? {
                self.count(subject, FellBack::Refused);
                return Err(subject.unbrought());
            }
            return self.take_away(subject).await.map(|_| None);
        }
        let was_there = match self.bring(subject).await {
            Err(Obstacle::Misfit(_)) if write.replaces() && subject.config().shape == Shape::String => {
                return self.replace(subject, write).await.map(Some);
            }
            brought => brought.map_err(Obstacle::text)?,
        };
        // What the upstream has is older, and is taken away before the key may end.
        match (was_there, deletes || write.only_removes(), write.life) {
            (true, false, TtlChange::Keep) => {}
            (true, false, life) => self.let_end(subject, life).await?,
            _ => _ = self.take_away(subject).await?,
        }
        Ok(None)
    }

    /// A value that the store cannot have is replaced by one that it can have: first there, because nothing has been
    /// replaced where the store refuses it.
    async fn replace(&self, subject: Subject<'_>, write: &Write) -> Result<Bytes, String> {
        Self::goes_on(subject)?;
        let id = subject.mapping.id;
        let written = self.owned.cache.write(id, subject.key, write, self.by.clone()).await;
        let written = written.map_err(|error| self.owned.write_error(id, &error))?;
        self.take_away(subject).await?;
        let mut answer = BytesMut::new();
        write.answer(&written, Proto::Resp2, &mut answer);
        Ok(answer.freeze())
    }

    /// True when only the upstream has the key.
    pub(super) async fn is_theirs(&self, subject: Subject<'_>) -> Result<bool, String> {
        Ok(!self.is_in_store(subject).await? && self.does_upstream_have(subject).await?)
    }

    /// Before a change of when a key expires. True when the upstream is to change it: the key stays there.
    async fn before_expiry(&self, subject: Subject<'_>, key: OwnedKey, parse: ParseExpire) -> Result<bool, String> {
        let gives_value = key.spec.name == "getex";
        let life = parse(subject.request, key.spec).ok().and_then(|command| command.wanted());
        let ends_row = life.filter(|_| subject.mapping.expires_rows(gives_value));
        if let Some(life) = ends_row
            && subject.is_brought()
        {
            match (self.bring(subject).await.map_err(Obstacle::text)?, life) {
                (true, TtlChange::Keep) => {}
                (true, life) => self.let_end(subject, life).await?,
                (false, _) => drop(self.take_away(subject).await?),
            }
            return Ok(false);
        }
        let is_in_store = self.is_in_store(subject).await?;
        // Nobody imports these: what the upstream has would be there when the row has ended.
        if is_in_store && ends_row.is_some_and(|life| life != TtlChange::Keep) {
            self.take_away(subject).await?;
        }
        let is_theirs = !is_in_store && self.does_upstream_have(subject).await?;
        self.count(subject, if is_theirs { FellBack::Upstream } else { FellBack::Store });
        Ok(is_theirs)
    }

    /// Before a key is queued or watched: what is asked of it later is asked of the store alone.
    pub(super) async fn before_queueing(&self, subject: Subject<'_>, route: &Route) -> Result<(), String> {
        if subject.mapping.kind == Kind::Definition {
            let snapshot = self.owned.definitions.snapshot();
            let is_there = snapshot.get(subject.mapping.id, subject.key).is_some();
            if !is_there && self.does_upstream_have(subject).await? {
                self.count(subject, FellBack::Refused);
                return Err(subject.unbrought());
            }
            return Ok(());
        }
        let was_there = self.bring(subject).await.map_err(Obstacle::text)?;
        let only_looks = match route {
            Route::Cached(_, verb) => matches!(verb, Verb::Read(_) | Verb::Inspect(_)),
            Route::Split(keys) => keys.split != Split::Remove,
            _ => true,
        };
        if was_there && only_looks { Ok(()) } else { self.take_away(subject).await.map(|_| ()) }
    }
}

fn has_definition(keys: &[SplitKey]) -> bool {
    keys.iter().any(|key| matches!(key.holder, Holder::Definitions(_)))
}
