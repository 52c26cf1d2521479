//! Who sees a write, and when: the client itself, others, another sidecar; and that its own notice costs nothing.

use std::thread;

use super::model::on_postgres;
use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::sidecar::{Sidecar, demo};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::line;

const LOADS: &str = "hearthside_loads_total{outcome=\"ok\"}";

#[test]
fn a_write_is_in_memory_and_its_own_notice_does_not_take_it_out() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HSET h:1 f a other b"), ":2\r\n");
    let before = metric(&sidecar, LOADS);
    for i in 0..20 {
        assert_eq!(wire.ask(&format!("HINCRBY h:1 n {i}")), format!(":{}\r\n", i * (i + 1) / 2));
        assert_eq!(wire.ask("HGET h:1 f"), "$1\r\na\r\n");
    }
    // Behind a change of another key all notices of these writes have come.
    assert_eq!(wire.ask("HGET h:2 f"), "$-1\r\n");
    postgres.sql("INSERT INTO hashes (id, f) VALUES (2, 'told')");
    until("the change shows", || wire.ask("HGET h:2 f") == "$4\r\ntold\r\n");
    assert_eq!(wire.ask("HMGET h:1 f n other"), "*3\r\n$1\r\na\r\n$3\r\n190\r\n$1\r\nb\r\n");
    assert_eq!(metric(&sidecar, LOADS) - before, 1.0, "only the key that psql changed was loaded");
    assert_eq!(postgres.sql("SELECT f, n, more FROM hashes WHERE id = 1"), "a|190|{\"other\": \"b\"}");
}

#[test]
fn what_the_owners_triggers_change_behind_a_write_is_seen() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).start();
    postgres.sql(
        "CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN \
         UPDATE hashes SET g = ''behind'' WHERE id = NEW.id AND g IS NULL; RETURN NULL; END';\
         CREATE TRIGGER later AFTER INSERT OR UPDATE ON hashes FOR EACH ROW EXECUTE FUNCTION later();\
         CREATE FUNCTION first() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := 7; RETURN NEW; END';\
         CREATE TRIGGER first BEFORE INSERT ON hashes FOR EACH ROW EXECUTE FUNCTION first();",
    );
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HSET h:1 f a"), ":1\r\n");
    assert_eq!(wire.ask("HGET h:1 n"), "$1\r\n7\r\n");
    until("what the trigger did behind it shows", || wire.ask("HGET h:1 g") == "$6\r\nbehind\r\n");
}

#[test]
fn a_pipeline_reads_what_it_wrote() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecar = on_postgres(&redis, &postgres).start();
    let (mut wire, mut sent, mut expected) = (sidecar.wire(), Vec::new(), String::new());
    for i in 1..=200 {
        sent.extend(line("HINCRBY h:1 n 1"));
        sent.extend(line("HGET h:1 n"));
        sent.extend(line("GET elsewhere"));
        expected.push_str(&format!(":{i}\r\n${}\r\n{i}\r\n$-1\r\n", i.to_string().len()));
    }
    wire.send(&sent);
    let told: Vec<u8> = (0..600).flat_map(|_| wire.frame()).collect();
    assert_eq!(String::from_utf8_lossy(&told), expected);
}

#[test]
fn increments_of_two_sidecars_all_count() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let sidecars = [on_postgres(&redis, &postgres).start(), {
        let builder = Sidecar::builder().redis(&redis).postgres(&postgres);
        builder.config(&super::model::config()).start()
    }];
    thread::scope(|scope| {
        for i in 0..8 {
            let mut wire = sidecars[i % 2].wire();
            scope.spawn(move || {
                for _ in 0..50 {
                    assert!(wire.ask("HINCRBY h:1 n 1").starts_with(':'));
                    assert!(wire.ask("HINCRBY h:1 count 2").starts_with(':'));
                    assert!(wire.ask("INCR s:a").starts_with(':'));
                }
            });
        }
    });
    for sidecar in &sidecars {
        let mut wire = sidecar.wire();
        until("every increment shows", || wire.ask("HMGET h:1 n count") == "*2\r\n$3\r\n400\r\n$3\r\n800\r\n");
        until("every increment shows", || wire.ask("GET s:a") == "$3\r\n400\r\n");
    }
}

#[test]
fn a_write_whose_answer_is_lost_leaves_nothing_old_in_memory() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    demo(&redis, &postgres);
    postgres.sql("ALTER TABLE sessions ADD COLUMN note TEXT");
    let proxy = Proxy::to(postgres.port);
    let config = "[[caches]]\nkey = \"player:{character_id:int}:session\"\ntype = \"hash\"\ntable = \"sessions\"\n\
        write = \"through\"\n";
    let builder = Sidecar::builder().redis(&redis).config(config);
    let installed = builder.execute(&["check"]);
    assert!(installed.status.success());
    let sidecar = builder
        .set("STORE__URL", postgres.url_at(proxy.port))
        .expect(warnings::STORE_AWAY)
        .expect(&[warnings::NO_TRIGGERS])
        .start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET player:1:session note"), "$-1\r\n");
    // The row is locked, so the write waits in Postgres when its connection is cut: it is applied, and nobody is told.
    let mut lock = postgres.session();
    lock.run("BEGIN; UPDATE sessions SET hp = hp WHERE character_id = 1;");
    wire.send(&line("HSET player:1:session note written"));
    until("the write waits", || {
        postgres.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == "1"
    });
    proxy.cut();
    let told = String::from_utf8_lossy(&wire.frame()).into_owned();
    assert!(told.contains("may have been applied"), "{told}");
    lock.run("COMMIT;");
    until("what was applied shows", || wire.ask("HGET player:1:session note") == "$7\r\nwritten\r\n");
}

#[test]
fn two_sidecars_that_count_their_writes_alike_see_each_others() {
    // As two machines that go on from one memory do.
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let one = on_postgres(&redis, &postgres).start();
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres);
    let two = builder.config(&super::model::config()).start();
    let (mut first, mut second) = (one.wire(), two.wire());
    for i in 1..=5 {
        assert_eq!(first.ask(&format!("HSET h:1 n {i}")), format!(":{}\r\n", i32::from(i == 1)));
        assert_eq!(second.ask(&format!("HSET h:1 n {}", i + 10)), ":0\r\n");
        let newest = format!("$2\r\n{}\r\n", i + 10);
        assert_eq!(second.ask("HGET h:1 n"), newest);
        until("the write of the other shows", || first.ask("HGET h:1 n") == newest);
    }
}
