//! A hot standby as the store: it is read from, writes are refused and deferred writes kept, and a promotion is all
//! that is needed. So it is where a setting makes a primary take reads only.

use tempfile::TempDir;

use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;

/// What was seen last is deferred, the name is written through.
const PLAYERS: &str = "[[caches]]\nkey = \"p:{id:int}\"\ntype = \"hash\"\ntable = \"players\"\nwrite = \"through\"\n\
    deferred = [\"seen\"]\ndelete = \"row\"\n";

/// Parts that outlive a sidecar.
struct Place {
    redis: Redis,
    primary: Postgres,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let (redis, primary) = (Redis::start(), Postgres::start());
        primary.sql(
            "CREATE TABLE players (id BIGINT PRIMARY KEY, name TEXT, seen BIGINT); \
             INSERT INTO players SELECT i, 'p' || i, 0 FROM generate_series(1, 9) AS i",
        );
        let place = Self { redis, primary, folder: tempfile::tempdir().expect("a folder") };
        drop(place.over(&place.primary).migrated());
        place
    }

    fn over(&self, postgres: &Postgres) -> Builder {
        let journal = self.folder.path().join("journal.db").display().to_string();
        let builder = Sidecar::builder().redis(&self.redis).postgres(postgres).config(PLAYERS);
        builder.set("JOURNAL__PATH", journal).expect(warnings::READS_ONLY)
    }

    fn standby(&self) -> Postgres {
        let standby = self.primary.standby();
        standby.catch_up_with(&self.primary);
        standby
    }
}

/// Starts it without waiting for the change feed.
fn started(builder: Builder) -> Sidecar {
    let mut sidecar = builder.spawn();
    sidecar.wait_ready();
    sidecar
}

fn seen(postgres: &Postgres, id: u32) -> String {
    postgres.sql(&format!("SELECT seen FROM players WHERE id = {id}"))
}

fn is_writable(sidecar: &Sidecar) -> bool {
    metric(sidecar, "hearthside_store_writable") == 1.0
}

/// Writes go through, deferred ones are saved, and changes are heard.
fn is_whole(sidecar: &Sidecar, postgres: &Postgres) {
    let mut wire = sidecar.wire();
    until("it takes writes", || is_writable(sidecar) && wire.ask("HSET p:8 name again").starts_with(':'));
    has_saved_and_hears(sidecar, postgres);
    assert_eq!(request(sidecar, "GET", "/readyz"), (200, "ready\n".into()));
}

/// What was just written to the player with key 8 is there, changes are heard, and nothing waits.
pub fn has_saved_and_hears(sidecar: &Sidecar, postgres: &Postgres) {
    let mut wire = sidecar.wire();
    assert_eq!(postgres.sql("SELECT name FROM players WHERE id = 8"), "again");
    until("the feed is up", || metric(sidecar, "hearthside_change_feed_up") == 1.0);
    wire.ask("HGET p:9 name");
    postgres.sql("UPDATE players SET name = 'told' WHERE id = 9");
    until("changes are heard", || wire.ask("HGET p:9 name") == "$4\r\ntold\r\n");
    until("nothing waits", || metric(sidecar, "hearthside_deferred_keys") == 0.0);
    assert_eq!(metric(sidecar, "hearthside_put_aside_total"), 0.0);
}

#[test]
fn a_standby_is_read_from_and_says_why_it_takes_no_writes() {
    let place = Place::new();
    let standby = place.standby();
    let sidecar = started(place.over(&standby));
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET p:1 name"), "$2\r\np1\r\n");
    for _ in 0..20 {
        for write in ["HSET p:1 name x", "HSET p:77 name x", "DEL p:1"] {
            let told = wire.ask(write);
            assert!(told.starts_with("-READONLY hearthside: the mapping 'p:{id:int}' was not written: "), "{told}");
            assert!(told.contains("hot standby") && told.contains("25006") && told.contains("store.url"), "{told}");
        }
    }
    wire.ask("MULTI");
    wire.ask("HSET p:1 name x");
    let told = wire.ask("EXEC");
    let undone = "-READONLY hearthside: nothing of the transaction was done: ";
    assert!(told.starts_with(undone) && told.contains("hot standby"), "{told}");
    assert_eq!(wire.ask("HGET p:2 name"), "$2\r\np2\r\n", "refusals open no breaker");
    let (status, body) = request(&sidecar, "GET", "/readyz?verbose");
    assert!(status == 200 && body.contains("hot standby: reads only"), "{body}");
    assert!(!is_writable(&sidecar) && metric(&sidecar, "hearthside_store_up") == 1.0);
    assert!(wire.ask("INFO hearthside").contains("hearthside_store_writable:0"));
    standby.promote();
    is_whole(&sidecar, &standby);
    let log = sidecar.log();
    for once in ["hot standby: reads only", "the store takes writes again", "the change feed cannot be connected"] {
        assert_eq!(log.matches(once).count(), 1, "{once}: {log}");
    }
    assert!(log.contains("is a hot standby, which tells no changes"), "{log}");
}

#[test]
fn what_is_deferred_on_a_standby_survives_a_kill_and_is_saved_after_a_promotion() {
    let place = Place::new();
    let standby = place.standby();
    let mut first = started(place.over(&standby));
    assert_eq!(first.wire().ask("HSET p:1 seen 5"), ":0\r\n");
    until("it knows", || request(&first, "GET", "/readyz?verbose").1.contains("hot standby: reads only"));
    first.kill();
    let second = started(place.over(&standby));
    let mut wire = second.wire();
    assert_eq!(wire.ask("HMGET p:1 name seen"), "*2\r\n$2\r\np1\r\n$1\r\n5\r\n", "what was acknowledged is read");
    assert_eq!(wire.ask("HGET p:2 seen"), "$1\r\n0\r\n");
    assert_eq!(wire.ask("HSET p:2 seen 6"), ":0\r\n");
    assert_eq!((seen(&standby, 1), seen(&standby, 2)), ("0".into(), "0".into()));
    standby.promote();
    is_whole(&second, &standby);
    assert_eq!((seen(&standby, 1), seen(&standby, 2)), ("5".into(), "6".into()));
}

#[test]
fn a_batch_that_was_applied_before_a_failover_is_not_saved_again() {
    let place = Place::new();
    let postgres = &place.primary;
    let proxy = Proxy::to(postgres.port);
    let mut first = started(place.over(postgres).set("STORE__URL", postgres.url_at(proxy.port)));
    let late = proxy.trap("\"k\":[");
    assert_eq!(first.wire().ask("HSET p:1 seen 5"), ":0\r\n");
    until("the flush is on its way", || late.has_caught());
    first.kill();
    late.release();
    until("the flush went through", || seen(postgres, 1) == "5");
    postgres.sql("UPDATE players SET seen = 9 WHERE id = 1");
    postgres.demote();
    let second = started(place.over(postgres));
    let mut wire = second.wire();
    assert_eq!(wire.ask("HGET p:2 seen"), "$1\r\n0\r\n");
    assert_eq!(wire.ask("HSET p:2 seen 6"), ":0\r\n");
    postgres.promote();
    is_whole(&second, postgres);
    assert_eq!((seen(postgres, 1), seen(postgres, 2)), ("9".into(), "6".into()));
    assert_eq!(wire.ask("HGET p:1 seen"), "$1\r\n9\r\n");
}

#[test]
fn a_primary_that_becomes_a_standby_and_a_primary_again_is_followed() {
    let place = Place::new();
    let postgres = &place.primary;
    let sidecar = place.over(postgres).expect(warnings::STORE_AWAY).start();
    let mut wire = sidecar.wire();
    for round in 1..3 {
        is_whole(&sidecar, postgres);
        postgres.demote();
        until("it knows", || request(&sidecar, "GET", "/readyz").1.contains("hot standby: reads only"));
        until("it is read from", || wire.ask("HGET p:3 name") == "$2\r\np3\r\n");
        assert!(wire.ask("HSET p:3 name x").starts_with("-READONLY "));
        assert_eq!(wire.ask(&format!("HSET p:3 seen {round}")), ":0\r\n");
        postgres.promote();
        until("it is saved", || seen(postgres, 3) == round.to_string());
    }
    is_whole(&sidecar, postgres);
}

#[test]
fn a_setting_that_forbids_writes_is_told_and_its_end_is_seen_by_every_session() {
    let place = Place::new();
    let postgres = &place.primary;
    let sidecar = place.over(postgres).expect(warnings::STORE_AWAY).start();
    let mut wire = sidecar.wire();
    let set = |value: &str| {
        postgres.sql(&format!(
            "BEGIN READ WRITE; ALTER DATABASE postgres SET default_transaction_read_only = {value}; COMMIT"
        ));
    };
    // Once the sidecar's sessions keep the setting that they were opened with, and once they are opened anew.
    for round in 1..3 {
        is_whole(&sidecar, postgres);
        postgres.sql(&format!("UPDATE players SET seen = 0 WHERE id = {round}"));
        set("on");
        postgres.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE application_name = 'hearthside' AND query NOT LIKE '%pg_is_in_recovery%'",
        );
        until("writes are refused", || {
            let told = wire.ask("HSET p:4 name x");
            told.starts_with("-READONLY ") && told.contains("default_transaction_read_only")
        });
        assert_eq!(wire.ask(&format!("HSET p:{round} seen 7")), ":0\r\n");
        if round == 2 {
            until("it knows", || request(&sidecar, "GET", "/readyz").1.contains("the store takes reads only"));
        }
        set("off");
        until("it is saved", || seen(postgres, round) == "7");
    }
    is_whole(&sidecar, postgres);
}

#[test]
fn mappings_are_not_changed_while_what_is_deferred_waits_for_a_standby() {
    let place = Place::new();
    let standby = place.standby();
    let sidecar = started(place.over(&standby).expect(&[warnings::FAULTY_RELOAD, warnings::NO_TRIGGERS]));
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HSET p:1 seen 5"), ":0\r\n");
    sidecar.configure(&PLAYERS.replace("p:{id", "q:{id"));
    sidecar.signal("HUP");
    until("it is refused", || sidecar.log().contains("mappings are not changed while deferred writes wait"));
    assert_eq!(wire.ask("HMGET p:1 name seen"), "*2\r\n$2\r\np1\r\n$1\r\n5\r\n", "what was there is served");
    standby.promote();
    until("it is saved", || seen(&standby, 1) == "5");
    sidecar.signal("HUP");
    until("the other mapping is there", || wire.ask("HGET q:1 name") == "$2\r\np1\r\n");
}

/// Has another configuration read; what becomes of it is counted under this outcome.
fn reload(sidecar: &Sidecar, mappings: &str, outcome: &str) {
    let count = || metric(sidecar, &format!("hearthside_config_reloads_total{{outcome=\"{outcome}\"}}"));
    let before = count();
    sidecar.configure(mappings);
    sidecar.signal("HUP");
    until("it is read", || count() > before);
}

#[test]
fn mappings_are_changed_on_a_standby_while_nothing_waits() {
    let place = Place::new();
    let mut first = started(place.over(&place.primary));
    assert_eq!(first.wire().ask("HSET p:1 seen 5"), ":0\r\n");
    until("it is saved", || seen(&place.primary, 1) == "5");
    assert_eq!(first.stop(), Some(0));
    let standby = place.standby();
    let second = started(place.over(&standby));
    reload(&second, &format!("{PLAYERS}ttl = \"1h\"\n"), "ok");
    assert_eq!(second.wire().ask("HSET p:2 seen 6"), ":0\r\n");
    standby.promote();
    is_whole(&second, &standby);
    assert_eq!((seen(&standby, 1), seen(&standby, 2)), ("5".into(), "6".into()));
}

#[test]
fn what_waits_on_a_standby_for_a_mapping_that_is_not_there_is_saved_when_it_is() {
    let place = Place::new();
    let standby = place.standby();
    let mut first = started(place.over(&standby));
    assert_eq!(first.wire().ask("HSET p:1 seen 5"), ":0\r\n");
    first.kill();
    let others = PLAYERS.replace("p:{id", "q:{id");
    let expected = [warnings::WAITS_FOR_A_MAPPING, warnings::FAULTY_RELOAD, warnings::NO_TRIGGERS];
    let second = started(place.over(&standby).config(&others).expect(&expected));
    reload(&second, PLAYERS, "error");
    let why = "mappings are not changed while deferred writes wait: the store is a hot standby";
    assert!(second.log().contains(why), "{}", second.log());
    standby.promote();
    until("it takes writes", || is_writable(&second));
    until("the configuration is in force", || {
        second.signal("HUP");
        metric(&second, "hearthside_config_reloads_total{outcome=\"ok\"}") >= 1.0
    });
    until("it is saved", || seen(&standby, 1) == "5");
    is_whole(&second, &standby);
}

#[test]
fn a_read_that_is_in_the_way_of_the_replay_is_sent_again() {
    let place = Place::new();
    let standby = place.primary.standby_with("-c max_standby_streaming_delay=0");
    standby.catch_up_with(&place.primary);
    let slow = "[[caches]]\nkey = \"slow:{id:int}\"\ntype = \"string\"\nvalue = \"name\"\nttl = \"1m\"\n\
        query = \"SELECT name, pg_advisory_xact_lock(7) FROM players WHERE id = $1\"\n";
    let sidecar = started(place.over(&standby).config(slow).set("STORE__QUERY_TIMEOUT", "20s"));
    let mut holder = standby.session();
    holder.run("SELECT pg_advisory_lock(7);");
    let mut wire = sidecar.wire();
    let asking = std::thread::spawn(move || wire.ask("GET slow:1"));
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'";
    until("it reads", || standby.sql(waits) == "1");
    place.primary.sql("DELETE FROM players WHERE id > 5");
    place.primary.sql("VACUUM players");
    until("the replay has ended it", || standby.log().contains("due to conflict with recovery"));
    holder.run("SELECT pg_advisory_unlock(7);");
    assert_eq!(asking.join().expect("answered"), "$2\r\np1\r\n");
}

#[test]
fn commands_over_a_standby_say_what_it_is() {
    let place = Place::new();
    let standby = place.standby();
    let told = |builder: &Builder, arguments: &[&str]| {
        let done = builder.execute(arguments);
        let told = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
        assert!(!told.contains("panicked"), "{told}");
        (done.status.code(), told)
    };
    let over = place.over(&standby);
    let (code, text) = told(&over, &["check", "--connect"]);
    assert!(code == Some(0) && text.contains("hot standby: reads only") && text.contains("ok: 1"), "{text}");
    assert_eq!(told(&over, &["triggers", "--install"]), (Some(0), "nothing to do\n".into()));
    let (code, text) = told(&over, &["migrate"]);
    assert!(code == Some(1) && text.contains("the store takes reads only"), "{text}");
    place
        .primary
        .sql("DROP TABLE players CASCADE; CREATE TABLE players (id BIGINT PRIMARY KEY, name TEXT, seen BIGINT)");
    standby.catch_up_with(&place.primary);
    for what in ["--install", "--remove"] {
        let (code, text) = told(&over, &["triggers", what]);
        assert!(code == Some(1) && text.contains("the store takes reads only"), "{what}: {text}");
    }
    for (url, feed_url) in [(&standby, &place.primary), (&place.primary, &standby)] {
        let mixed = place.over(url).set("STORE__FEED_URL", feed_url.url());
        let (code, text) = told(&mixed, &["check", "--connect"]);
        assert!(code == Some(2) && text.contains("one leads to a hot standby"), "{text}");
    }
}

#[test]
fn a_standby_is_sent_nothing_that_it_would_refuse() {
    let place = Place::new();
    place.primary.sql("ALTER TABLE players ADD COLUMN ends TIMESTAMPTZ");
    let standby = place.standby();
    let ends = PLAYERS.to_owned() + "expires_column = \"ends\"\n";
    let builder = place.over(&standby).config(&ends).set("STORE__SWEEP_INTERVAL", "20ms").set("LOG__LEVEL", "debug");
    let sidecar = started(builder.set("STORE__SWEEP_GRACE", "0s").set("JOURNAL__FLUSH_INTERVAL", "20ms"));
    assert_eq!(sidecar.wire().ask("HSET p:1 seen 5"), ":0\r\n");
    until("the feed has been tried often", || sidecar.log().contains("attempt=6"));
    assert!(!standby.log().contains("ERROR"), "{}", standby.log());
    standby.promote();
    is_whole(&sidecar, &standby);
    standby.sql("UPDATE players SET ends = now() - interval '1 hour' WHERE id = 2");
    until("rows are removed again", || standby.sql("SELECT count(*) FROM players") == "8");
}
