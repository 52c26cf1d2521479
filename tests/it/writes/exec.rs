//! Owned keys inside MULTI/EXEC: one transaction of the store, true only if the upstream's part is.

use super::model::on_postgres;
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::proxy::{Proxy, Spoil};
use crate::support::redis::Redis;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

fn all(wire: &mut Wire, requests: &[&str]) -> Vec<String> {
    wire.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<u8>>());
    requests.iter().map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect()
}

#[test]
fn mixed_commands_take_their_places_and_see_each_other() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    let told = all(
        &mut wire,
        &[
            "MULTI",
            "SET a 1",
            "HSET h:1 f x other y",
            "HGET h:1 f",
            "INCR a",
            "HINCRBY h:1 f 1",
            "HINCRBY h:1 n 5",
            "EXISTS h:1",
            "SET s:1 v",
            "MGET s:1 s:2",
            "DEL h:1",
            "HLEN h:1",
            "EXPIRE s:1 100",
            "RPUSH l:1 e",
            "EXEC",
        ],
    );
    assert!(told[1..14].iter().all(|reply| reply == "+QUEUED\r\n"), "{told:?}");
    assert_eq!(
        told[14],
        "*13\r\n+OK\r\n:2\r\n$1\r\nx\r\n:2\r\n-ERR hash value is not an integer\r\n:5\r\n:1\r\n+OK\r\n*2\r\n$1\r\n\
         v\r\n$-1\r\n\
         :1\r\n:0\r\n:1\r\n:1\r\n"
    );
    assert_eq!(postgres.sql("SELECT (SELECT count(*) FROM hashes), (SELECT v FROM strings)"), "0|v");
    let told = all(&mut wire, &["TTL s:1", "GET s:1", "LRANGE l:1 0 -1"]);
    assert!(told[0].starts_with(":100") || told[0].starts_with(":9"), "{told:?}");
}

#[test]
fn a_store_only_transaction_is_one_and_needs_no_upstream() {
    let (mut redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).expect(warnings::UPSTREAM_AWAY).start();
    let mut wire = sidecar.wire();
    redis.kill();
    let commits = || postgres.sql("SELECT sum(xact_commit) FROM pg_stat_database").parse::<i64>().expect("a number");
    let told = all(&mut wire, &["MULTI", "HSET h:1 f a", "HSET h:2 f b", "SADD t:1 m", "EXEC"]);
    assert_eq!(told[4], "*3\r\n:1\r\n:1\r\n:1\r\n");
    assert!(commits() > 0);
    let same = postgres.sql("SELECT count(DISTINCT x) FROM (SELECT xmin::text AS x FROM hashes) AS rows");
    // Each write has a savepoint, whose number its row bears; its parent is one.
    assert!(matches!(same.as_str(), "1" | "2"), "{same}");
    assert_eq!(all(&mut wire, &["HGET h:1 f", "HGET h:2 f", "SCARD t:1"]), ["$1\r\na\r\n", "$1\r\nb\r\n", ":1\r\n"]);
}

#[test]
fn nothing_is_written_when_the_upstream_part_does_not_go_through() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).start();
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    assert_eq!(wire.ask("HSET h:1 f before"), ":1\r\n");
    all(&mut wire, &["WATCH a"]);
    other.ask("SET a changed");
    assert_eq!(all(&mut wire, &["MULTI", "SET a mine", "HSET h:1 f after", "EXEC"])[3], "*-1\r\n");
    assert_eq!(wire.ask("HGET h:1 f"), "$6\r\nbefore\r\n");
    // Redis refuses a command when it is queued: the whole transaction is discarded.
    let told = all(&mut wire, &["MULTI", "SET a", "HSET h:1 f after", "EXEC"]);
    assert!(told[3].starts_with("-EXECABORT"), "{told:?}");
    assert_eq!(postgres.sql("SELECT f FROM hashes"), "before");
    let loads = metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}");
    assert_eq!(wire.ask("HGET h:1 f"), "$6\r\nbefore\r\n");
    assert_eq!(
        metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}"),
        loads,
        "what was rolled back is still in memory"
    );
}

#[test]
fn nothing_runs_when_the_store_cannot() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).expect(warnings::STORE_AWAY).start();
    let mut wire = sidecar.wire();
    postgres.stop();
    let told = all(&mut wire, &["MULTI", "SET a 1", "HSET h:1 f x", "EXEC", "GET a"]);
    assert!(told[3].starts_with("-ERR hearthside: nothing of the transaction was done: "), "{told:?}");
    assert_eq!(told[4], "$-1\r\n");
    postgres.launch();
    until("the store answers", || {
        all(&mut wire, &["MULTI", "SET a 1", "HSET h:1 f x", "EXEC"])[3] == "*2\r\n+OK\r\n:1\r\n"
    });
}

/// Nobody knows what became of the upstream's part; of the store's it is known, and said.
#[test]
fn an_exec_without_an_answer_says_that_the_store_has_done_nothing() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let proxy = Proxy::to(redis.port);
    let builder = on_postgres(&redis, &postgres).expect(warnings::UPSTREAM_AWAY);
    let sidecar = builder.set("UPSTREAM__URL", format!("redis://127.0.0.1:{}", proxy.port)).start();
    for (ours, before, part) in [("SET s:1 v", "$-1\r\n", true), ("GET s:1", "$-1\r\n", false)] {
        let mut wire = sidecar.wire();
        all(&mut wire, &["MULTI", "INCR a", ours]);
        proxy.spoil(Spoil::Truncate);
        let told = wire.ask("EXEC");
        proxy.spoil(Spoil::Nothing);
        let lost = "-ERR hearthside: the upstream connection of this transaction was lost; ";
        assert!(told.starts_with(lost), "{told}");
        assert_eq!(
            told.contains("its writes to owned keys were not done, the rest may have been applied"),
            part,
            "{told}"
        );
        assert_eq!(wire.ask("GET s:1"), before);
    }
    assert_eq!(redis.wire().ask("GET a"), "$1\r\n2\r\n");
    assert_eq!(postgres.sql("SELECT count(*) FROM strings"), "0");
}

#[test]
fn a_commit_that_the_store_refuses_is_an_error_of_each_of_its_commands() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).expect(&[warnings::COMMIT_FAILED]).start();
    postgres.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$; \
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON hashes DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION refuse();",
    );
    let mut wire = sidecar.wire();
    let told = all(
        &mut wire,
        &["MULTI", "SET a 1", "HSET h:1 f x", "HGET h:1 f", "EXPIRE h:1 100", "EXISTS h:1", "GET a", "EXEC"],
    );
    let parts: Vec<&str> = told[7].split_inclusive("\r\n").collect();
    assert_eq!((parts[0], parts[1], parts[6], parts[7]), ("*6\r\n", "+OK\r\n", "$1\r\n", "1\r\n"), "{told:?}");
    for error in &parts[2..6] {
        assert!(error.starts_with("-ERR hearthside: the store's part of the transaction failed: "), "{told:?}");
        assert!(error.contains("not today"), "{told:?}");
    }
    let log = sidecar.log();
    let said = log.lines().find(|line| line.contains("the store's part of a transaction failed")).expect("a line");
    assert!(
        said.contains("mapping=\"h:{id:int}\"") && said.contains("(P0001)") && !said.contains("not today"),
        "{said}"
    );
    assert_eq!(wire.ask("EXISTS h:1"), ":0\r\n");
    assert_eq!(wire.ask("HGET h:1 f"), "$-1\r\n");
}

#[test]
fn watch_notices_any_change() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).start();
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    assert_eq!(wire.ask("HSET h:1 n 1"), ":1\r\n");
    let mut attempt = |change: &mut dyn FnMut()| {
        assert_eq!(all(&mut wire, &["WATCH h:1 pass", "HGET h:1 n"])[0], "+OK\r\n");
        change();
        all(&mut wire, &["MULTI", "HINCRBY h:1 n 1", "EXEC"])[2].clone()
    };
    assert_eq!(attempt(&mut || {}), "*1\r\n:2\r\n");
    assert_eq!(attempt(&mut || drop(other.ask("HSET h:1 n 10"))), "*-1\r\n");
    // By SQL, whether its notice has come or not.
    assert_eq!(attempt(&mut || drop(postgres.sql("UPDATE hashes SET n = 20"))), "*-1\r\n");
    assert_eq!(attempt(&mut || drop(postgres.sql("DELETE FROM hashes"))), "*-1\r\n");
    assert_eq!(attempt(&mut || drop(postgres.sql("INSERT INTO hashes (id, n) VALUES (1, 30)"))), "*-1\r\n");
    assert_eq!(attempt(&mut || drop(other.ask("SET pass x"))), "*-1\r\n");
    assert_eq!(attempt(&mut || drop(other.ask("GET pass"))), "*1\r\n:31\r\n");
    // There and back again is a change too.
    assert_eq!(
        attempt(&mut || {
            other.ask("HSET h:1 n 40");
            other.ask("HSET h:1 n 31");
        }),
        "*-1\r\n"
    );
    let told = all(&mut wire, &["WATCH h:1", "UNWATCH", "HSET h:1 n 50", "MULTI", "HINCRBY h:1 n 1", "EXEC"]);
    assert_eq!(told[5], "*1\r\n:51\r\n");
    assert_eq!(all(&mut wire, &["WATCH h:1", "HSET h:1 n 60", "MULTI", "HGET h:1 n", "EXEC"])[4], "*-1\r\n");
}

#[test]
fn counters_under_watch_lose_nothing() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).start();
    sidecar.wire().ask("HSET h:1 n 0");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut wire = sidecar.wire();
            scope.spawn(move || {
                let mut done = 0;
                while done < 20 {
                    let told = all(&mut wire, &["WATCH h:1", "HGET h:1 n"]);
                    let seen: u32 = told[1].lines().nth(1).expect("a number").parse().expect("a number");
                    let set = format!("HSET h:1 n {}", seen + 1);
                    done += u32::from(all(&mut wire, &["MULTI", &set, "EXEC"])[2].starts_with("*1"));
                }
            });
        }
    });
    assert_eq!(postgres.sql("SELECT n FROM hashes"), "80");
}

#[test]
fn a_client_that_leaves_before_exec_has_written_nothing() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).start();
    for _ in 0..20 {
        let mut wire = sidecar.wire();
        all(&mut wire, &["WATCH h:1", "MULTI", "HSET h:1 f x", "SET a 1"]);
    }
    assert_eq!(all(&mut sidecar.wire(), &["HGET h:1 f", "GET a"]), ["$-1\r\n", "$-1\r\n"]);
    until("no transaction is left open", || {
        postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'") == "0"
    });
}
