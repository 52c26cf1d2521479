//! Loads from a hot standby (`store.read_url`): it is read while it has everything, and nothing older is ever shown
//! when it has not: its replay stands still, it ends, hangs, or is promoted by mistake.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use super::{Over, Pair, is_whole};
use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

const ROWS: &str = "[[caches]]\nkey = \"r:{id:int}\"\ntype = \"hash\"\ntable = \"rows\"\nwrite = \"through\"\n\
    ttl = \"1h\"\n";

const KEYS: u64 = 300;

fn pair(feed: &'static str) -> Pair {
    let pair = Pair::new(feed);
    pair.primary.sql(&format!(
        "CREATE TABLE rows (id BIGINT PRIMARY KEY, n BIGINT); \
         INSERT INTO rows SELECT i, 0 FROM generate_series(1, {KEYS}) AS i"
    ));
    drop(reading(&pair, pair.standby.port).migrated());
    pair.standby.catch_up_with(&pair.primary);
    pair
}

/// A sidecar over the primary, with a standby at this port for loads.
fn reading(pair: &Pair, port: u16) -> Builder {
    let builder = pair.over(pair.primary.port).config(&format!("{}\n{ROWS}", super::PLAYERS));
    let builder = builder.set("STORE__URL", pair.primary.url()).set("STORE__READ_URL", pair.primary.url_at(port));
    builder.expect(&[warnings::NO_STANDBY])
}

fn loads(sidecar: &Sidecar) -> f64 {
    metric(sidecar, "hearthside_replica_loads_total")
}

/// Forgets a key and loads it again.
fn load(wire: &mut Wire, id: u64) -> u64 {
    wire.ask(&format!("DEL r:{id}"));
    shown(wire, id)
}

fn shown(wire: &mut Wire, id: u64) -> u64 {
    let reply = wire.ask(&format!("HGET r:{id} n"));
    reply.lines().nth(1).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("r:{id}: {reply}"))
}

/// Loads keys until the standby is asked.
fn is_read(sidecar: &Sidecar) {
    let (mut wire, before, mut id) = (sidecar.wire(), loads(sidecar), 0);
    until("the standby is read", || {
        id = id % KEYS + 1;
        load(&mut wire, id);
        loads(sidecar) > before
    });
}

fn verbose(sidecar: &Sidecar) -> String {
    request(sidecar, "GET", "/readyz?verbose").1
}

fn pause(standby: &Postgres, paused: bool) {
    let verb = if paused { "pause" } else { "resume" };
    standby.sql(&format!("SELECT pg_wal_replay_{verb}()"));
    if paused {
        until("its replay stands still", || standby.sql("SELECT pg_get_wal_replay_pause_state()") == "paused");
    }
}

/// While this is there commits wait for a standby that is away.
struct Waiting<'p>(&'p Postgres);

impl<'p> Waiting<'p> {
    fn begin(primary: &'p Postgres) -> Self {
        let waiting = Self(primary);
        waiting.for_standby("away");
        waiting
    }

    fn for_standby(&self, name: &str) {
        self.0.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"));
        self.0.sql("SELECT pg_reload_conf()");
        until("it is in force", || self.0.sql("SHOW synchronous_standby_names") == name);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.for_standby("");
    }
}

/// A commit that waits for a synchronous standby is in the log, and another standby shows it: before the primary does.
#[test]
fn what_the_primary_does_not_show_yet_is_not_shown() {
    for feed in ["notify", "replication"] {
        let pair = pair(feed);
        let sidecar = reading(&pair, pair.standby.port).start();
        is_read(&sidecar);
        let read = "SELECT n FROM rows WHERE id = 5";
        thread::scope(|scope| {
            let waiting = Waiting::begin(&pair.primary);
            let writing = scope.spawn(|| pair.primary.sql("UPDATE rows SET n = 77 WHERE id = 5"));
            until("the standby shows it", || pair.standby.sql(read) == "77");
            let (mut wire, mut last, before) = (sidecar.wire(), 0, loads(&sidecar));
            // A key that was not loaded lately is read at the standby, where that may be.
            for id in (1..=KEYS).cycle().take(2 * KEYS as usize) {
                for id in [id, 5] {
                    wire.ask(&format!("HEARTHSIDE INVALIDATE r:{id}"));
                    let now = shown(&mut wire, id);
                    if id == 5 {
                        assert!(now >= last, "{feed}: {now} was shown after {last}");
                        last = now;
                    }
                }
            }
            assert_eq!((last, pair.primary.sql(read).as_str()), (0, "0"), "{feed}");
            drop(waiting);
            writing.join().expect("it has written");
            until("it shows here, too", || {
                wire.ask("HEARTHSIDE INVALIDATE r:5");
                shown(&mut wire, 5) == 77
            });
            let mut ids = (1..=KEYS).cycle();
            until("the standby is read", || {
                let id = ids.next().expect("endless");
                wire.ask(&format!("HEARTHSIDE INVALIDATE r:{id}"));
                shown(&mut wire, id);
                loads(&sidecar) > before
            });
        });
        is_read(&sidecar);
    }
}

/// Keys are written by SQL and through the sidecar, forgotten and loaded again, while the replay stands still now and
/// then: no key ever goes back.
fn nothing_goes_back(feed: &'static str) {
    let pair = pair(feed);
    let (sidecar, is_over) = (reading(&pair, pair.standby.port).start(), AtomicBool::new(false));
    is_read(&sidecar);
    thread::scope(|scope| {
        let _over = Over(&is_over);
        scope.spawn(|| {
            let (mut session, mut wire) = (pair.primary.session(), sidecar.wire());
            for (number, id) in (1..=KEYS).cycle().step_by(7).enumerate() {
                if is_over.load(SeqCst) {
                    return;
                }
                let before = load(&mut wire, id);
                session.run(&format!("UPDATE rows SET n = n + 1 WHERE id = {id};"));
                if number % 64 == 0 {
                    until("the sidecar follows", || shown(&mut wire, id) > before);
                }
            }
        });
        for thread in 0..2 {
            let (sidecar, is_over) = (&sidecar, &is_over);
            scope.spawn(move || {
                let (mut wire, mut seen) = (sidecar.wire(), vec![0; KEYS as usize + 1]);
                for id in (1..=KEYS).filter(|id| id % 2 == thread).cycle() {
                    if is_over.load(SeqCst) {
                        return;
                    }
                    let last = &mut seen[id as usize];
                    if fastrand::u8(..) < 16 {
                        let reply = wire.ask(&format!("HINCRBY r:{id} n 1"));
                        *last = reply.trim_start_matches(':').trim_end().parse().expect(&reply);
                    }
                    let now = load(&mut wire, id);
                    assert!(now >= *last, "r:{id} was {last}, and is {now}");
                    *last = now;
                }
            });
        }
        for _ in 0..4 {
            let before = loads(&sidecar);
            until("the standby is read", || loads(&sidecar) > before + 100.0);
            pause(&pair.standby, true);
            until("it is seen to be behind", || verbose(&sidecar).contains("the last load went to the primary"));
            pause(&pair.standby, false);
        }
    });
    assert!(metric(&sidecar, "hearthside_replica_refusals_total") > 0.0);
}

#[test]
fn no_key_goes_back_whatever_the_standby_lacks_with_notices() {
    nothing_goes_back("notify");
}

#[test]
fn no_key_goes_back_whatever_the_standby_lacks_with_replication() {
    nothing_goes_back("replication");
}

#[test]
fn a_standby_whose_replay_stands_still_hides_no_write() {
    let pair = pair("notify");
    let sidecar = reading(&pair, pair.standby.port).start();
    is_read(&sidecar);
    pause(&pair.standby, true);
    let mut wire = sidecar.wire();
    for id in 1..50 {
        wire.ask(&format!("HSET r:{id} n 7"));
        assert_eq!(load(&mut wire, id), 7, "an own write");
    }
    pair.primary.sql("UPDATE rows SET n = 9 WHERE id >= 50");
    until("the last is told", || wire.ask(&format!("HGET r:{KEYS} n")) == "$1\r\n9\r\n");
    for id in 50..=KEYS {
        assert_eq!(load(&mut wire, id), 9, "a change that was told");
    }
    pause(&pair.standby, false);
    is_read(&sidecar);
}

/// The standby is read for all keys but those that are told.
fn only_what_is_told_goes_to_the_primary(feed: &'static str) {
    let pair = pair(feed);
    let builder = reading(&pair, pair.standby.port).set("STORE__SCHEMA_INTERVAL", "1h");
    let builder = builder.set("STORE__HEARTBEAT_INTERVAL", "60s").set("STORE__HEARTBEAT_TIMEOUT", "120s");
    let sidecar = builder.start();
    is_read(&sidecar);
    let mut wire = sidecar.wire();
    assert_eq!(shown(&mut wire, 1), 0);
    pause(&pair.standby, true);
    for n in 1..=3 {
        pair.primary.sql(&format!("UPDATE rows SET n = {n} WHERE id <= 3"));
        until("it is told", || shown(&mut wire, 1) == n);
    }
    until("what was loaded is counted", || metric(&sidecar, "hearthside_replica_refusals_total") > 0.0);
    let before = loads(&sidecar);
    for id in 1..=100 {
        assert_eq!(wire.ask(&format!("HGET r:{} n", 10 * KEYS + id)), "$-1\r\n");
    }
    // A few of them may share a mark with one that was loaded a moment ago.
    until("the standby is read for the others", || loads(&sidecar) >= before + 90.0);
    assert_eq!(load(&mut wire, 1), 3);
}

#[test]
fn what_notices_tell_keeps_no_other_key_from_a_standby() {
    only_what_is_told_goes_to_the_primary("notify");
}

#[test]
fn what_replication_tells_keeps_no_other_key_from_a_standby() {
    only_what_is_told_goes_to_the_primary("replication");
}

#[test]
fn a_standby_that_ends_or_hangs_is_done_without_and_read_again() {
    let pair = pair("notify");
    let proxy = Proxy::to(pair.standby.port);
    let sidecar = reading(&pair, proxy.port).start();
    is_read(&sidecar);
    let mut wire = sidecar.wire();
    for hangs in [true, false] {
        if hangs {
            proxy.hold(true);
        } else {
            pair.standby.stop();
        }
        until("it is seen to be away", || {
            (1..20).for_each(|id| _ = load(&mut wire, id));
            metric(&sidecar, "hearthside_replica_up") == 0.0
        });
        assert!(verbose(&sidecar).contains("none is read, loads go to the primary"), "{}", verbose(&sidecar));
        assert_eq!(request(&sidecar, "GET", "/readyz"), (200, "ready\n".into()));
        if hangs {
            proxy.hold(false);
        } else {
            pair.standby.launch();
        }
        is_read(&sidecar);
    }
}

#[test]
fn a_standby_that_is_promoted_by_mistake_is_not_read() {
    let pair = pair("notify");
    let sidecar = reading(&pair, pair.standby.port).start();
    is_read(&sidecar);
    pair.standby.promote();
    pair.standby.sql("UPDATE rows SET n = 666");
    let mut wire = sidecar.wire();
    for _ in 0..3 {
        (1..=KEYS).for_each(|id| assert_eq!(load(&mut wire, id), 0));
    }
    until("it is said", || metric(&sidecar, "hearthside_replica_up") == 0.0);
    until("it is said why", || verbose(&sidecar).contains("takes writes"));
}

#[test]
fn what_a_failover_leaves_on_the_old_timeline_is_not_read() {
    let pair = pair("notify");
    let replica = pair.primary.standby();
    replica.catch_up_with(&pair.primary);
    let url = pair.url(pair.primary.port, "target_session_attrs=read-write");
    let sidecar = reading(&pair, replica.port).set("STORE__URL", url).start();
    is_read(&sidecar);
    // What the new primary lacks the old one has sent to the replica.
    pair.standby.catch_up_with(&pair.primary);
    pair.standby.sql("ALTER SYSTEM SET primary_conninfo = ''");
    pair.standby.sql("SELECT pg_reload_conf()");
    until("one follows", || pair.primary.sql("SELECT count(*) FROM pg_stat_replication") == "1");
    pair.primary.sql("UPDATE rows SET n = 666");
    replica.catch_up_with(&pair.primary);
    pair.primary.stop();
    pair.standby.promote();
    is_whole(&sidecar, &pair.standby);
    let mut wire = sidecar.wire();
    for _ in 0..3 {
        (1..=KEYS).for_each(|id| assert_eq!(load(&mut wire, id), 0));
    }
}

#[test]
fn a_url_for_reads_that_cannot_serve_is_told() {
    let pair = pair("notify");
    let check = |read_url: String, arguments: &[&str]| {
        let done = reading(&pair, 1).set("STORE__READ_URL", read_url).execute(arguments);
        String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout)
    };
    let told = check(pair.primary.url() + "?target_session_attrs=primary", &["check"]);
    assert!(told.contains("store.read_url: leads to hot standbys"), "{told}");
    let told = check(pair.primary.url(), &["check", "--connect"]);
    assert!(told.contains("store.read_url: no standby can be read, and loads go to the primary"), "{told}");
    pair.primary.sql("CREATE ROLE other LOGIN");
    pair.standby.catch_up_with(&pair.primary);
    let told = check(pair.standby.url().replace("postgres@", "other@"), &["check", "--connect"]);
    assert!(told.contains("role other is not database postgres, role postgres"), "{told}");
    let told = check(pair.standby.url(), &["check", "--connect"]);
    assert!(!told.contains("store.read_url"), "{told}");
}
