//! What is told of keys, to whom, and how often.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use super::ends::Ends;
use super::{Ear, Manner, Reader, TOGETHER, Tracking};
use crate::config::{self, ByteSize};
use crate::telemetry::clock::Tick;
use crate::telemetry::locked;

/// A client that remembers what it is told.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *locked(&self.0))
    }

    fn add(&self, text: String) {
        locked(&self.0).push(text);
    }
}

impl Ear for Heard {
    fn hears(&self, key: &Bytes) {
        self.add(String::from_utf8_lossy(key).into_owned());
    }

    fn hears_of(&self, prefix: &Bytes, key: &Bytes) {
        self.add(format!("{}* {}", String::from_utf8_lossy(prefix), String::from_utf8_lossy(key)));
    }

    fn hears_all(&self) {
        self.add("all".to_owned());
    }
}

static CLIENTS: AtomicU64 = AtomicU64::new(1);

fn enter(tracking: &Arc<Tracking>, manner: Manner) -> (Arc<Reader>, Arc<Heard>, u64) {
    let (heard, client) = (Arc::new(Heard::default()), CLIENTS.fetch_add(1, SeqCst));
    (tracking.enter(heard.clone(), Manner { client, ..manner }), heard, client)
}

fn of(prefixes: &[&'static str]) -> Manner {
    Manner { prefixes: Some(prefixes.iter().map(|prefix| Bytes::from(*prefix)).collect()), ..Manner::default() }
}

fn bounded(max_keys: usize, max_bytes: usize) -> Arc<Tracking> {
    let settings = config::Tracking { max_keys, max_bytes: ByteSize(max_bytes) };
    Arc::new(Tracking::new(&settings, Arc::default()))
}

#[test]
fn each_who_has_read_a_key_is_told_once_and_nobody_else() {
    let tracking = Arc::new(Tracking::default());
    assert!(tracking.is_idle());
    tracking.changed(b"a", None);
    let (one, ones, client) = enter(&tracking, Manner::default());
    let (two, twos, _) = enter(&tracking, Manner { is_own_untold: true, ..Manner::default() });
    let (_all, alls, _) = enter(&tracking, of(&["b", "c:"]));
    for reader in [&one, &two, &one] {
        reader.reads(b"a", Tick::NEVER, || 1);
        reader.reads(b"b", Tick::NEVER, || 1);
    }
    tracking.changed(b"a", Some(client));
    tracking.changed(b"a", None);
    assert_eq!((ones.take(), twos.take(), alls.take()), (vec!["a".into()], vec!["a".into()], vec![]));
    one.reads(b"a", Tick::NEVER, || 1);
    two.leaves();
    tracking.changed(b"b", None);
    tracking.changed(b"c:1", None);
    assert_eq!((ones.take(), twos.take()), (vec!["b".into()], vec![]));
    assert_eq!(alls.take(), ["b* b", "c:* c:1"]);
    one.reads(b"x:1", Tick::NEVER, || 1);
    one.reads(b"c:1", Tick::NEVER, || 1);
    tracking.changed_where(b"c:9", |key| key.starts_with(b"c:9"));
    assert_eq!((ones.take(), alls.take()), (vec![], vec!["all".to_owned()]), "a key of these may have changed");
    tracking.changed_where(b"x", |key| key.starts_with(b"x"));
    assert_eq!((ones.take(), alls.take()), (vec!["x:1".to_owned()], vec![]));
    tracking.everything();
    tracking.changed(b"c:1", None);
    assert_eq!((ones.take(), alls.take()), (vec!["all".to_owned()], vec!["all".into(), "c:* c:1".into()]));
}

#[test]
fn one_who_is_not_to_hear_of_its_own_writes_does_not() {
    let tracking = Arc::new(Tracking::default());
    let own = Manner { is_own_untold: true, ..Manner::default() };
    let (one, ones, client) = enter(&tracking, own.clone());
    one.reads(b"a", Tick::NEVER, || 1);
    tracking.changed(b"a", Some(client));
    assert!(ones.take().is_empty() && !tracking.has(b"a"), "as in Redis, it is not tracked any more");
    one.changes(Manner { client, ..of(&[""]) });
    tracking.changed(b"a", Some(client));
    one.changes(Manner { client, is_own_untold: true, ..of(&[""]) });
    tracking.changed(b"b", Some(client));
    assert_eq!(ones.take(), ["* a"]);
    one.changes(Manner { client, ..own });
    tracking.changed(b"c", None);
    assert!(ones.take().is_empty());
}

#[test]
fn a_load_that_finds_something_else_tells() {
    let tracking = Arc::new(Tracking::default());
    let (one, ones, _) = enter(&tracking, Manner::default());
    one.reads(b"a", Tick::NEVER, || 1);
    tracking.found(b"a", || 1);
    tracking.found(b"b", || 2);
    assert!(ones.take().is_empty());
    tracking.found(b"a", || 2);
    tracking.found(b"a", || 3);
    assert_eq!(ones.take(), ["a"]);
}

#[test]
fn what_has_no_room_is_told() {
    for tracking in [bounded(10, 1 << 20), bounded(1000, 840)] {
        let (one, ones, _) = enter(&tracking, Manner::default());
        for number in 0..1000 {
            one.reads(format!("k{number}").as_bytes(), Tick::NEVER, || 1);
        }
        let told = ones.take();
        let kept = (0..1000).filter(|number| tracking.has(format!("k{number}").as_bytes())).count();
        assert!((8..=11).contains(&kept), "{kept}");
        assert_eq!(told.len() + kept, 1000);
        assert!(told.iter().all(|key| !tracking.has(key.as_bytes())));
        assert_eq!(tracking.metrics.keys.get(), kept as i64);
        one.leaves();
        assert!(tracking.is_idle());
        assert_eq!((tracking.metrics.keys.get(), tracking.metrics.bytes.get()), (0, 0));
    }
    // What is only doubted is told to those who have read it.
    let doubting = bounded(10, 1 << 20);
    let (one, ones, _) = enter(&doubting, Manner::default());
    let (all, alls, _) = enter(&doubting, of(&["k"]));
    one.reads(b"k1", Tick::NEVER, || 1);
    all.reads(b"k2", Tick::NEVER, || 1);
    for key in [b"k1", b"k2", b"k3"] {
        doubting.doubted(key);
    }
    assert_eq!((ones.take(), alls.take()), (vec!["k1".to_owned()], vec!["k* k2".to_owned()]));
    let nothing = bounded(1, 0);
    let (one, ones, _) = enter(&nothing, Manner::default());
    one.reads(b"a", Tick::NEVER, || 1);
    assert_eq!(ones.take(), ["a"]);
}

#[tokio::test]
async fn a_key_that_ends_is_told_unless_it_lives_longer() {
    let tracking = Arc::new(Tracking::default());
    let (one, ones, _) = enter(&tracking, Manner::default());
    let (all, alls, _) = enter(&tracking, of(&["a"]));
    let now = Tick::now();
    for (key, end) in [("a", now.plus(30)), ("b", now.plus(10)), ("c", Tick::NEVER), ("d", now.plus(20))] {
        one.reads(key.as_bytes(), end, || 1);
        all.reads(key.as_bytes(), end, || 1);
    }
    tracking.changed(b"d", None);
    assert_eq!(ones.take(), ["d"]);
    let mut longer = Some(now.plus(50));
    while Tick::now() < now.plus(80) || tracking.ends.len() > 0 {
        let prolonged = Mutex::new(&mut longer);
        tracking.end_next(|key| if key == b"b" { locked(&prolonged).take() } else { None }).await;
        if tracking.ends.len() == 0 {
            break;
        }
    }
    assert_eq!((ones.take(), alls.take()), (vec!["a".to_owned(), "b".to_owned()], vec!["a* a".to_owned()]));
    assert!(tracking.has(b"c") && Tick::now() >= now.plus(50));
}

/// 2,000 clients that keep 1,000 keys each, the same ones.
#[test]
fn a_further_client_of_a_key_costs_four_bytes() {
    const CLIENTS: u32 = 2000;
    const KEYS: u32 = 1000;
    let tracking = Arc::new(Tracking::default());
    let readers: Vec<_> = (0..CLIENTS).map(|_| enter(&tracking, Manner::default())).collect();
    for key in 0..KEYS {
        let key = format!("player:{key}:session");
        readers.iter().for_each(|(reader, ..)| reader.reads(key.as_bytes(), Tick::NEVER, || 1));
    }
    assert_eq!(tracking.metrics.keys.get(), i64::from(KEYS));
    let bytes = tracking.metrics.bytes.get();
    assert!(bytes < i64::from(KEYS) * (150 + 4 * 2048), "{bytes}");
    tracking.changed(b"player:7:session", None);
    assert!(readers.iter().all(|(_, heard, _)| heard.take() == ["player:7:session"]));
}

/// What two have read differs: one of them has a value that the key does not hold any more, and may hold again.
#[test]
fn a_key_of_which_two_have_read_something_else_is_told_whatever_is_found() {
    let tracking = Arc::new(Tracking::default());
    let (one, ones, _) = enter(&tracking, Manner::default());
    let (two, twos, _) = enter(&tracking, Manner::default());
    one.reads(b"a", Tick::NEVER, || 1);
    two.reads(b"a", Tick::NEVER, || 2);
    tracking.found(b"a", || 1);
    assert_eq!((ones.take(), twos.take()), (vec!["a".to_owned()], vec!["a".to_owned()]));
    // Those who have read the same are told of something else alone.
    for print in [3, 3] {
        one.reads(b"a", Tick::NEVER, || print);
        two.reads(b"a", Tick::NEVER, || print);
    }
    tracking.found(b"a", || 3);
    assert!(ones.take().is_empty() && twos.take().is_empty());
}

#[tokio::test]
async fn a_key_ends_at_the_earliest_end_that_was_read() {
    let tracking = Arc::new(Tracking::default());
    let (one, ones, _) = enter(&tracking, Manner::default());
    let (two, twos, _) = enter(&tracking, Manner::default());
    let now = Tick::now();
    one.reads(b"a", now.plus(3_600_000), || 1);
    two.reads(b"a", now.plus(20), || 1);
    two.reads(b"a", now.plus(7_200_000), || 1);
    let next = tracking.end_next(|_| None);
    tokio::time::timeout(Duration::from_secs(10), next).await.expect("the earlier end");
    assert_eq!((ones.take(), twos.take()), (vec!["a".to_owned()], vec!["a".to_owned()]));
    assert!(Tick::now() >= now.plus(20) && !tracking.has(b"a"));
}

/// Everything is forgotten while somebody reads.
#[test]
fn what_is_read_while_everything_is_forgotten_has_its_end() {
    const KEYS: usize = 3000;
    let tracking = Arc::new(Tracking::default());
    let (one, ..) = enter(&tracking, Manner::default());
    let end = Tick::now().plus(3_600_000);
    let read = || (0..KEYS).for_each(|key| one.reads(format!("k{key}").as_bytes(), end, || 1));
    for _ in 0..20 {
        read();
        std::thread::scope(|scope| {
            scope.spawn(read);
            tracking.everything();
        });
        let lost = tracking.table.ends().into_iter().filter(|(key, end)| !tracking.ends.has(key, *end));
        assert_eq!(lost.count(), 0, "they would never end");
        tracking.everything();
    }
}

#[tokio::test]
async fn who_waits_for_an_end_hears_of_an_earlier_one_also_beside_another_who_goes() {
    let ends = Ends::default();
    let mut goes = Box::pin(ends.come());
    let mut stays = Box::pin(ends.come());
    assert!(futures_util::poll!(&mut goes).is_pending() && futures_util::poll!(&mut stays).is_pending());
    ends.add(b"a", Tick::now().plus(100));
    assert!(futures_util::poll!(&mut goes).is_pending(), "it has heard of it, and waits");
    drop(goes);
    tokio::time::timeout(Duration::from_secs(10), stays).await.expect("it has heard of it, too");
}

#[tokio::test]
async fn many_ends_at_one_time_leave_others_their_turn() {
    let tracking = Arc::new(Tracking::default());
    let (one, ones, _) = enter(&tracking, Manner::default());
    let end = Tick::now().plus(1);
    (0..10 * TOGETHER).for_each(|key| one.reads(format!("k{key}").as_bytes(), end, || 1));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut next = Box::pin(tracking.end_next(|_| None));
    assert!(futures_util::poll!(&mut next).is_pending());
    assert_eq!(ones.take().len(), TOGETHER);
    next.await;
    while tracking.ends.len() > 0 {
        tracking.end_next(|_| None).await;
    }
    assert_eq!(ones.take().len(), 9 * TOGETHER);
}

#[test]
fn no_two_clients_have_one_number() {
    let tracking = Arc::new(Tracking::default());
    let (first, firsts, _) = enter(&tracking, Manner::default());
    tracking.last.store(u32::MAX - 2, SeqCst);
    let others: Vec<_> = (0..4).map(|_| enter(&tracking, Manner::default())).collect();
    let numbers: Vec<u32> = others.iter().map(|(reader, ..)| reader.number).collect();
    assert_eq!((first.number, numbers), (1, vec![u32::MAX - 1, 2, 3, 4]));
    first.reads(b"a", Tick::NEVER, || 1);
    tracking.changed(b"a", None);
    assert_eq!(firsts.take(), ["a"]);
    assert!(others.iter().all(|(_, heard, _)| heard.take().is_empty()));
}

/// The end of a key takes room, too.
#[test]
fn the_room_of_a_key_that_ends_is_counted_until_it_ends() {
    let tracking = Arc::new(Tracking::default());
    let (one, ..) = enter(&tracking, Manner::default());
    let bytes = || tracking.metrics.bytes.get();
    one.reads(b"a", Tick::NEVER, || 1);
    let plain = bytes();
    let end = Tick::now().plus(3_600_000);
    one.reads(b"a", end, || 1);
    assert!(bytes() >= plain + 32, "{} {plain}", bytes());
    assert!(!tracking.table.disarm(b"a", end.plus(1)) && tracking.table.disarm(b"a", end));
    assert_eq!(bytes(), plain);
    tracking.arm(b"a", end);
    tracking.changed(b"a", None);
    assert_eq!(bytes(), 0);
    // What has changed again and again leaves no more ends than there is room for.
    for round in 0..10_000 {
        one.reads(b"a", end.plus(round), || 1);
        tracking.changed(b"a", None);
    }
    assert!(tracking.ends.len() <= 1026, "{}", tracking.ends.len());
}
