//! How often a transaction waits for the upstream. The proxy before it keeps every answer back until something has been
//! asked: a sidecar that waits for an answer before it asks that waits for ever.

use std::fmt::Write;

use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::wire::{Wire, line};
use crate::writes::model::on_postgres;

/// A sidecar behind a proxy, and a client whose connection upstream waits in the pool.
struct Far {
    proxy: Proxy,
    _sidecar: Sidecar,
    wire: Wire,
    redis: Redis,
}

impl Far {
    fn start() -> Self {
        let redis = Redis::start();
        let builder = Sidecar::builder();
        Self::with(redis, builder)
    }

    fn with(redis: Redis, builder: Builder) -> Self {
        let proxy = Proxy::to(redis.port);
        let url = format!("redis://127.0.0.1:{}", proxy.port);
        let sidecar = builder.set("UPSTREAM__URL", url).set("SERVER__WORKERS", "1").start();
        let mut wire = sidecar.wire();
        let warm = ask_all(&mut wire, &["WATCH warm", "MULTI", "GET warm", "EXEC"]);
        assert_eq!(warm[3], "*1\r\n$-1\r\n");
        Self { proxy, wire, redis, _sidecar: sidecar }
    }
}

fn lines<A: AsRef<str>>(requests: &[A]) -> Vec<u8> {
    requests.iter().flat_map(|request| line(request.as_ref())).collect()
}

fn replies(wire: &mut Wire, count: usize) -> Vec<String> {
    (0..count).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect()
}

fn ask_all<A: AsRef<str>>(wire: &mut Wire, requests: &[A]) -> Vec<String> {
    wire.send(&lines(requests));
    replies(wire, requests.len())
}

/// MULTI, so many INCRs, and EXEC.
fn increments(count: usize) -> Vec<String> {
    let commands = (0..count).map(|_| "INCR n".to_owned());
    std::iter::once("MULTI".to_owned()).chain(commands).chain(["EXEC".to_owned()]).collect()
}

fn counted(from: usize, count: usize) -> String {
    (from..from + count).fold(format!("*{count}\r\n"), |mut all, n| {
        let _ = write!(all, ":{n}\r\n");
        all
    })
}

#[test]
fn a_watched_transaction_in_one_write_waits_for_one_answer() {
    let mut far = Far::start();
    let all = [vec!["WATCH k".to_owned()], increments(1000)].concat();
    far.proxy.answer_after("EXEC");
    let told = ask_all(&mut far.wire, &all);
    assert!(told[..2].iter().all(|reply| reply == "+OK\r\n"), "{:?}", &told[..2]);
    assert!(told[2..1002].iter().all(|reply| reply == "+QUEUED\r\n"));
    assert_eq!(told[1002], counted(1, 1000));
}

#[test]
fn watch_and_then_the_rest_are_two_answers() {
    let mut far = Far::start();
    for round in 0..3 {
        far.proxy.answer_after("WATCH");
        assert_eq!(far.wire.ask("WATCH k"), "+OK\r\n");
        far.proxy.answer_after("EXEC");
        let told = ask_all(&mut far.wire, &increments(100));
        assert_eq!(told[101], counted(round * 100 + 1, 100));
    }
}

#[test]
fn an_inline_transaction_waits_for_one_answer() {
    let mut far = Far::start();
    far.proxy.answer_after("EXEC");
    far.wire.send(b"WATCH k\r\nMULTI\r\nINCR n\r\nINCR n\r\nEXEC\r\n");
    assert_eq!(replies(&mut far.wire, 5)[4], counted(1, 2));
}

#[test]
fn a_transaction_of_more_than_a_mebibyte_waits_for_one_answer() {
    let mut far = Far::start();
    let value = "v".repeat(1300);
    let sets = (0..1000).map(|i| format!("SET k{i} {value}"));
    let all: Vec<String> = std::iter::once("MULTI".to_owned()).chain(sets).chain(["EXEC".to_owned()]).collect();
    far.proxy.answer_after("EXEC");
    let told = ask_all(&mut far.wire, &all);
    assert!(told[1..1001].iter().all(|reply| reply == "+QUEUED\r\n"));
    assert_eq!(told[1001], format!("*1000\r\n{}", "+OK\r\n".repeat(1000)));
}

#[test]
fn reads_of_owned_keys_among_the_commands_wait_for_one_answer() {
    let mut far = Far::start();
    let pair = ["INCR n", "HGET player:1:session hp"];
    let all = [vec!["WATCH k", "MULTI"], pair.repeat(50), vec!["EXEC"]].concat();
    far.proxy.answer_after("EXEC");
    let told = ask_all(&mut far.wire, &all);
    assert!(told[2..102].iter().all(|reply| reply == "+QUEUED\r\n"));
    let pairs = (1..=50).fold("*100\r\n".to_owned(), |all, n| format!("{all}:{n}\r\n$2\r\n99\r\n"));
    assert_eq!(told[102], pairs);
}

/// The store's part is prepared when every command is known to be queued; then EXEC is asked.
#[test]
fn writes_of_owned_keys_wait_for_what_is_queued_and_for_exec() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = on_postgres(&redis, &postgres);
    let mut far = Far::with(redis, builder);
    let pair = ["INCR n", "SET s:1 v"];
    far.proxy.answer_after("\r\nlast\r\n");
    far.wire.send(&lines(&[vec!["WATCH k", "MULTI"], pair.repeat(50), vec!["GET last", "EXEC"]].concat()));
    let told = replies(&mut far.wire, 104);
    assert!(told[2..103].iter().all(|reply| reply == "+QUEUED\r\n"), "{told:?}");
    assert!(told[103].starts_with("*101\r\n:1\r\n+OK\r\n:2\r\n"), "{told:?}");
    assert_eq!(postgres.sql("SELECT v FROM strings"), "v");
}

/// A write that Redis would not queue is known before the store is asked for anything.
#[test]
fn the_store_is_not_asked_when_a_command_was_not_queued() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = on_postgres(&redis, &postgres);
    let mut far = Far::with(redis, builder);
    postgres.sql(
        "BEGIN; CREATE TABLE seen (x int); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS \
                  $$ BEGIN RAISE EXCEPTION 'asked'; END $$; CREATE TRIGGER noted BEFORE INSERT ON strings \
                  FOR EACH ROW EXECUTE FUNCTION note(); COMMIT",
    );
    let told = ask_all(&mut far.wire, &["MULTI", "SET a 1", "SET s:1 v", "INCR", "NOSUCH", "EXEC", "EXEC"]);
    assert_eq!(told[5], "-EXECABORT Transaction discarded because of previous errors.\r\n");
    assert_eq!(told[6], "-ERR EXEC without MULTI\r\n");
    assert_eq!(ask_all(&mut far.wire, &["GET a", "GET s:1"]), ["$-1\r\n", "$-1\r\n"]);
}

#[test]
fn what_follows_watch_does_not_overtake_it() {
    let mut far = Far::start();
    let calls = |redis: &Redis, name: &str| redis.wire().ask("INFO commandstats").contains(&format!("cmdstat_{name}:"));
    far.redis.wire().ask("CONFIG RESETSTAT");
    far.proxy.answer_after("never asked");
    far.wire.send(&lines(&["WATCH k", "GET k"]));
    until("it watches", || calls(&far.redis, "watch"));
    assert!(far.wire.is_silent(std::time::Duration::from_millis(50)));
    assert!(!calls(&far.redis, "get"), "a read that overtakes WATCH may read what is not watched");
    far.proxy.answer();
    assert_eq!(replies(&mut far.wire, 2), ["+OK\r\n", "$-1\r\n"]);
    // And nothing of a transaction overtakes what the client sent over the lanes before.
    let told = ask_all(&mut far.wire, &["SET k 1", "GET k", "MULTI", "INCR k", "EXEC", "GET k"]);
    assert_eq!(
        told[1..],
        ["$1\r\n1\r\n", "+OK\r\n", "+QUEUED\r\n", "*-1\r\n", "$1\r\n1\r\n"],
        "its own write broke its watch"
    );
}
