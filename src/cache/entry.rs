//! One cached key: its record or its absence, and how long it lives.

use std::hash::BuildHasher;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use crate::config;
use crate::keys::MappingId;
use crate::record::{Record, TtlChange, View};
use crate::telemetry::clock::{Tick, millis};

static PRINTS: LazyLock<foldhash::quality::RandomState> = LazyLock::new(Default::default);

/// What is known of one key. Shared by readers; only its expiry and when it was used ever change.
#[derive(Debug)]
pub struct Entry {
    /// The record; `None`: the key is absent.
    pub record: Option<Record>,
    pub(crate) mapping: MappingId,
    pub(super) epoch: u64,
    /// When its load began: nothing in it is older.
    pub(super) loaded_at: Tick,
    /// A [`Tick`].
    expires_at: AtomicU64,
    /// A [`Use`].
    used_at: AtomicU64,
    /// How many looks at what is visible in the store had begun when it was known: of a later one it is older.
    known_at: AtomicU64,
    /// How long a read may prolong its life, in milliseconds; 0 where reads do not.
    renewal: u64,
    /// How long it is kept after its expiry, in milliseconds.
    grace: u64,
    /// A write of the key is under way: memory gives it to nobody.
    is_taken: AtomicBool,
    /// The print of the record, or 0 before somebody asks for it.
    print: AtomicU32,
}

/// When a key was read last, or rather one of its last reads; also one before this process began, for which there is no
/// [`Tick`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Use(u64);

impl Use {
    /// The beginning of the process; what comes after it is counted in milliseconds.
    const BEGIN: u64 = 1 << 32;

    const fn at(now: Tick) -> Self {
        Self(Self::BEGIN.saturating_add(now.as_ms()))
    }

    const fn earlier(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }

    /// Before the process began; `place` 0 is the latest.
    pub(super) const fn before(place: usize) -> Self {
        Self((Self::BEGIN - 1).saturating_sub(place as u64))
    }
}

impl Entry {
    /// So many looks have begun, and it is still what the store has, or had.
    pub(super) fn is_known_at(&self, looks: u64) {
        self.known_at.store(looks, Relaxed);
    }

    /// From now on memory gives it to nobody, or to everybody again.
    pub(super) fn set_taken(&self, is_taken: bool) {
        self.is_taken.store(is_taken, SeqCst);
    }

    pub(super) fn is_taken(&self) -> bool {
        self.is_taken.load(SeqCst)
    }

    /// A number of what the key holds, by which another value is told from it; never 0.
    pub(super) fn print(&self) -> u32 {
        match self.print.load(Relaxed) {
            0 => {
                let print = (PRINTS.hash_one(&self.record) as u32).max(1);
                self.print.store(print, Relaxed);
                print
            }
            print => print,
        }
    }

    /// The same entry as another one, by which memory tells who was given it before from who is given it now.
    pub(super) fn again(&self) -> Self {
        Self {
            record: self.record.clone(),
            expires_at: AtomicU64::new(self.expires_at.load(Relaxed)),
            used_at: AtomicU64::new(self.used_at.load(Relaxed)),
            known_at: AtomicU64::new(self.known_at.load(Relaxed)),
            is_taken: AtomicBool::new(self.is_taken()),
            print: AtomicU32::new(self.print.load(Relaxed)),
            ..*self
        }
    }

    /// True when it was known before this look began.
    pub(super) fn was_known_before(&self, look: u64) -> bool {
        self.known_at.load(Relaxed) < look
    }

    /// True when it was read in the last so many milliseconds.
    pub(super) fn was_read_within(&self, ms: u64, now: Tick) -> bool {
        self.used_at() >= Use::at(now).earlier(ms)
    }

    /// It is read at `now`.
    pub(super) fn use_at(&self, now: Tick) {
        self.used_at.store(Use::at(now).0, Relaxed);
    }

    pub(super) fn used_at(&self) -> Use {
        Use(self.used_at.load(Relaxed))
    }

    /// The same, not read since then.
    pub(super) fn used_last_at(self, used_at: Use) -> Self {
        Self { used_at: AtomicU64::new(used_at.0), ..self }
    }

    /// Somebody waited for it to be loaded.
    pub(super) fn is_asked_for(&self) {
        self.used_at.fetch_max(Use::at(self.loaded_at).0, Relaxed);
    }

    /// True when it was read since its load began.
    pub(super) fn was_read(&self) -> bool {
        self.used_at() > Use::at(self.loaded_at)
    }

    /// When it expires; [`Tick::NEVER`] if it does not.
    pub(super) fn expires_at(&self) -> Tick {
        Tick::from_ms(self.expires_at.load(Relaxed))
    }

    pub(super) fn is_expired(&self, now: Tick) -> bool {
        now >= self.expires_at()
    }

    /// True when its expiry is not longer than `grace` milliseconds ago, or has not come.
    pub(super) fn expired_within(&self, grace: u64, now: Tick) -> bool {
        self.record.is_some() && now < self.expires_at().plus(grace)
    }

    /// The time for which it is kept at `now`.
    pub(super) fn kept(&self, now: Tick) -> Option<Duration> {
        match self.expires_at() {
            Tick::NEVER => None,
            at => Some(Duration::from_millis(at.plus(self.grace).since(now))),
        }
    }

    /// The time left at `now`; `None` when it does not expire.
    #[must_use]
    pub fn left(&self, now: Tick) -> Option<Duration> {
        match self.expires_at() {
            Tick::NEVER => None,
            at => Some(Duration::from_millis(at.since(now))),
        }
    }

    /// The time for which it is worth keeping at `now`, a renewal by the read that asks included.
    pub(super) fn worth_keeping(&self, now: Tick) -> Option<Duration> {
        self.kept(now).map(|left| left.max(Duration::from_millis(self.renewal)))
    }

    /// What it counts against `cache.max_bytes`, without its key.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.record.as_ref().map_or(64, Record::weight)
    }

    /// The key as a command sees it at `now`.
    #[must_use]
    pub fn view(&self, now: Tick) -> View<'_> {
        View { record: self.record.as_ref(), expires_in: self.left(now) }
    }
}

/// How long the entries of one mapping live.
#[derive(Debug)]
pub(super) struct Span {
    ttl: Option<u64>,
    negative_ttl: u64,
    renew: bool,
    jitter_percent: u64,
    /// The row says when the key expires: `ttl` is what a renewal gives it.
    expires_by_column: bool,
    /// How long after its expiry a record is served while it is loaded again, in milliseconds.
    pub(super) stale: u64,
    /// How long when the store cannot be asked.
    pub(super) stale_if_error: u64,
    /// The oldest value served while changes may be missed, in milliseconds.
    pub(super) max_staleness: u64,
}

/// A renewal of a key that expires by its column moves its expiry by so many milliseconds at least: one a second is
/// enough.
const RENEWAL_STEP: u64 = 1000;

impl Span {
    pub(super) fn new(block: &config::MappingConfig, settings: &config::Cache) -> Self {
        Self {
            ttl: block.ttl.map(millis),
            negative_ttl: millis(block.negative_ttl.unwrap_or(settings.negative_ttl)),
            renew: block.renew,
            jitter_percent: u64::from(settings.ttl_jitter),
            expires_by_column: block.expires_column.is_some(),
            stale: block.stale_while_revalidate.map_or(0, millis),
            stale_if_error: block.stale_if_error.map_or(0, millis),
            max_staleness: millis(block.max_staleness.unwrap_or(settings.max_staleness)),
        }
    }

    /// A TTL shortened at random: keys loaded together do not expire together (hazard 3).
    fn jittered(&self, ttl: u64) -> u64 {
        ttl - fastrand::u64(0..=self.most_jitter(ttl))
    }

    /// The most that a TTL is shortened by, in milliseconds.
    const fn most_jitter(&self, ttl: u64) -> u64 {
        ttl / 100 * self.jitter_percent
    }

    /// An entry of a record whose load began at `loaded_at`.
    pub(crate) fn entry(&self, record: Option<Record>, mapping: MappingId, epoch: u64, loaded_at: Tick) -> Entry {
        self.entry_at(record, mapping, epoch, loaded_at, loaded_at)
    }

    /// The same, of a record that was loaded earlier and changed here: what is left of its life is counted from `now`.
    pub(super) fn entry_at(
        &self,
        record: Option<Record>,
        mapping: MappingId,
        epoch: u64,
        loaded_at: Tick,
        now: Tick,
    ) -> Entry {
        let expires_at = match &record {
            None => loaded_at.plus(self.jittered(self.negative_ttl)),
            Some(record) if self.expires_by_column => {
                record.left.map_or(Tick::NEVER, |left| now.plus(u64::try_from(left).unwrap_or(0)))
            }
            Some(_) => self.ttl.map_or(Tick::NEVER, |ttl| loaded_at.plus(self.jittered(ttl))),
        };
        let renewal = if record.is_some() && self.renew { self.ttl.unwrap_or(0) } else { 0 };
        let grace = if record.is_some() { self.stale.max(self.stale_if_error) } else { 0 };
        let (expires_at, used_at) = (AtomicU64::new(expires_at.as_ms()), AtomicU64::new(Use::at(now).0));
        let (known_at, is_taken) = (AtomicU64::new(u64::MAX), AtomicBool::new(false));
        let print = AtomicU32::new(0);
        Entry { record, mapping, epoch, loaded_at, expires_at, used_at, known_at, renewal, grace, is_taken, print }
    }

    /// Gives an entry another time to live, counted from `now`.
    pub(super) fn change_ttl(&self, entry: &Entry, life: TtlChange, now: Tick) {
        let expires_at = match life {
            TtlChange::Keep => return,
            TtlChange::Left(left) => now.plus(u64::try_from(left).unwrap_or(0)),
            TtlChange::Persist => self.ttl.map_or(Tick::NEVER, |ttl| now.plus(self.jittered(ttl))),
        };
        entry.expires_at.store(expires_at.as_ms(), Relaxed);
    }

    /// What a write left, with the time to live it asked for at `now`; `before` is what it replaces.
    pub(super) fn replacing(&self, entry: Entry, before: Option<&Entry>, life: TtlChange, now: Tick) -> Entry {
        match (life, before) {
            _ if self.expires_by_column => {}
            (TtlChange::Keep, Some(before)) if before.record.is_some() && entry.record.is_some() => {
                entry.expires_at.store(before.expires_at.load(Relaxed), Relaxed);
            }
            _ => self.change_ttl(&entry, life, now),
        }
        entry
    }

    /// Starts an entry's life again; its new expiry, if its row must get it.
    pub(super) fn renew(&self, entry: &Entry, now: Tick) -> Option<Tick> {
        if entry.renewal == 0 {
            return None;
        }
        if self.expires_by_column {
            let (expiry, before) = (now.plus(entry.renewal), entry.expires_at());
            let moves = before != Tick::NEVER && expiry >= before.plus(RENEWAL_STEP);
            return (moves && entry.expires_at.fetch_max(expiry.as_ms(), Relaxed) < expiry.as_ms()).then_some(expiry);
        }
        // What lives for as long as a renewal at this moment might give it has been renewed just now.
        if entry.expires_at() < now.plus(entry.renewal - self.most_jitter(entry.renewal)) {
            // Never back: a reader with an older clock must not shorten what another prolonged.
            entry.expires_at.fetch_max(now.plus(self.jittered(entry.renewal)).as_ms(), Relaxed);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Span;
    use crate::keys::MappingId;
    use crate::record::Record;
    use crate::telemetry::clock::Tick;

    #[test]
    fn ttl_is_shortened_never_lengthened_and_renewed_by_reads() {
        let life = Span {
            ttl: Some(10_000),
            negative_ttl: 1_000,
            renew: true,
            jitter_percent: 10,
            expires_by_column: false,
            stale: 0,
            stale_if_error: 0,
            max_staleness: 0,
        };
        for _ in 0..200 {
            let entry = life.entry(Record::string(b"v").ok(), MappingId::default(), 0, Tick::from_ms(500));
            let left = entry.left(Tick::from_ms(500)).expect("a TTL").as_millis();
            assert!((9_000..=10_000).contains(&left), "{left}");
            assert!(entry.worth_keeping(Tick::from_ms(9_000)).is_some_and(|time| time.as_millis() == 10_000));
            life.renew(&entry, Tick::from_ms(9_000));
            assert!(!entry.is_expired(Tick::from_ms(17_999)) && entry.is_expired(Tick::from_ms(19_000)));
            let renewed = entry.expires_at();
            life.renew(&entry, Tick::from_ms(9_000));
            assert_eq!(entry.expires_at(), renewed, "one renewal at a time is enough");
            life.renew(&entry, Tick::from_ms(10_001));
            assert!(entry.expires_at() > renewed);
            let absent = life.entry(None, MappingId::default(), 0, Tick::default());
            life.renew(&absent, Tick::from_ms(900));
            assert!(absent.is_expired(Tick::from_ms(1_000)));
        }
    }
}
