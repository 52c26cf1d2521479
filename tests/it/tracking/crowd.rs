//! Clients that keep copies of their own while rows change under them: by SQL, through the sidecar, and by time. No read
//! is older than one before it, and in the end no copy differs from the store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::place::{Place, tracking};
use crate::support::pushes;
use crate::support::setting;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::{Wire, line};

const KEYS: u64 = 24;

/// A client with copies of its own.
struct Keeper {
    wire: Wire,
    /// The version of each key that it keeps.
    copies: HashMap<String, u64>,
    /// The newest version that it has seen of each.
    seen: HashMap<String, u64>,
    hits: u64,
}

impl Keeper {
    fn of(sidecar: &Sidecar, options: &str) -> Self {
        let wire = tracking(sidecar, options);
        Self { wire, copies: HashMap::new(), seen: HashMap::new(), hits: 0 }
    }

    fn forget(&mut self, frame: &str) {
        match pushes::named(frame) {
            None => self.copies.clear(),
            Some(keys) => keys.iter().for_each(|key| _ = self.copies.remove(*key)),
        }
    }

    /// Reads some keys in one pipeline, and keeps what it is answered.
    fn read(&mut self, keys: &[String]) {
        let wanted: Vec<&String> = keys.iter().filter(|key| !self.copies.contains_key(*key)).collect();
        self.hits += (keys.len() - wanted.len()) as u64;
        if wanted.is_empty() {
            // As a library does it, which is told between its commands.
            self.wire.send(&line("PING"));
        }
        let all: Vec<u8> = wanted.iter().flat_map(|key| line(&format!("HGET {key} n"))).collect();
        self.wire.send(&all);
        let (mut at, count) = (0, wanted.len().max(1));
        while at < count {
            let frame = String::from_utf8_lossy(&self.wire.frame()).into_owned();
            if frame.starts_with('>') {
                self.forget(&frame);
                continue;
            }
            at += 1;
            if wanted.is_empty() {
                continue;
            }
            let key = wanted[at - 1];
            let version = frame.split("\r\n").nth(1).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{frame}"));
            let before = self.seen.insert(key.clone(), version).unwrap_or(0);
            assert!(version >= before, "{key} was {before} and is {version}");
            self.copies.insert(key.clone(), version);
        }
    }

    /// All that it has been told.
    fn settle(&mut self) {
        for frame in super::place::told(&mut self.wire) {
            self.forget(&frame);
        }
    }
}

#[test]
fn no_copy_is_older_than_what_was_told() {
    let place = Place::new();
    place.postgres.sql("INSERT INTO hashes SELECT i::text, '0', '0' FROM generate_series(1, 24) AS i");
    place.postgres.sql(
        "CREATE TABLE versions (id TEXT PRIMARY KEY, n BIGINT); INSERT INTO versions SELECT i::text, 0 FROM \
         generate_series(1, 24) AS i",
    );
    let config = super::place::CONFIG.to_owned()
        + "\n[[caches]]\nkey = \"v:{id}\"\ntype = \"hash\"\ntable = \"versions\"\nwrite = \"through\"\nttl = \"2s\"\n";
    let sidecar = place.builder().config(&config).set("CACHE__REFRESH", "100ms").migrated().start();
    let (stop, changes, reads) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let seconds = setting("HEARTHSIDE_TRACKING_SECONDS", 6);
    let is_over = || stop.load(SeqCst);
    let mut keepers: Vec<Keeper> = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut session = place.postgres.session();
                while !is_over() {
                    let id = fastrand::u64(1..=KEYS);
                    session.run(&format!("UPDATE versions SET n = n + 1 WHERE id = '{id}';"));
                    changes.fetch_add(1, SeqCst);
                }
            });
        }
        scope.spawn(|| {
            let mut wire = sidecar.wire();
            while !is_over() {
                let told = wire.ask(&format!("HINCRBY v:{} n 1", fastrand::u64(1..=KEYS)));
                assert!(told.starts_with(':'), "{told}");
                changes.fetch_add(1, SeqCst);
            }
        });
        let manners = ["", "", " BCAST PREFIX v:", " NOLOOP", ""];
        let keeping = manners.map(|manner| {
            let (sidecar, reads) = (&sidecar, &reads);
            scope.spawn(move || {
                let mut keeper = Keeper::of(sidecar, manner);
                while !is_over() {
                    let count = fastrand::usize(1..6);
                    let keys: Vec<String> = (0..count).map(|_| format!("v:{}", fastrand::u64(1..=KEYS))).collect();
                    let mut keys = keys;
                    keys.sort();
                    keys.dedup();
                    keeper.read(&keys);
                    reads.fetch_add(keys.len() as u64, SeqCst);
                }
                keeper
            })
        });
        let begun = Instant::now();
        until("they have worked", || begun.elapsed() > Duration::from_secs(seconds.min(15)));
        while begun.elapsed() < Duration::from_secs(seconds) {
            thread::sleep(Duration::from_millis(100));
        }
        stop.store(true, SeqCst);
        keeping.into_iter().map(|one| one.join().expect("no read went back")).collect()
    });
    let rows = place.postgres.sql("SELECT string_agg(id || '=' || n, ' ') FROM versions");
    let truth: HashMap<String, u64> = rows
        .split(' ')
        .filter_map(|row| row.split_once('='))
        .map(|(id, n)| (format!("v:{id}"), n.parse().expect("a number")))
        .collect();
    assert_eq!(truth.len(), KEYS as usize);
    for keeper in &mut keepers {
        until("no copy differs from the store", || {
            keeper.settle();
            keeper.copies.iter().all(|(key, version)| truth[key] == *version)
        });
    }
    let hits: u64 = keepers.iter().map(|keeper| keeper.hits).sum();
    let (changes, reads) = (changes.into_inner(), reads.into_inner());
    assert!(changes > 50 && reads > 500 && hits > 0, "{changes} changes, {reads} reads, {hits} from copies");
    eprintln!("{changes} changes, {reads} reads, {hits} of them from copies");
}
