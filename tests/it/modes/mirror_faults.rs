//! `mirror = true`, when something goes wrong: what is brought to the upstream never comes over what clients have
//! written there, and what cannot be brought keeps nothing else.

use std::thread;
use std::time::Duration;

use super::place::{NOTES, Place, config};
use crate::support::admin::metric;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

/// Notes are mirrored, and so are names.
fn mirrored(place: &Place) -> Builder {
    let names = "\n[[caches]]\nkey = \"name:{id:int}\"\ntype = \"hash\"\ntable = \"names\"\nwrite = \"through\"\nmirror = true\n";
    let notes = config("").replace("write = \"through\"", "write = \"through\"\nmirror = true");
    place.builder("").config(&(notes + names)).expect(&[warnings::OTHER_MODE])
}

fn place() -> Place {
    let place = Place::new();
    place.sql("CREATE TABLE names (id BIGINT PRIMARY KEY, name TEXT); INSERT INTO names VALUES (1, 'a')");
    mirrored(&place).migrated();
    place
}

fn mode(sidecar: &Sidecar, words: &str) -> String {
    sidecar.wire().ask(&format!("HEARTHSIDE MODE {NOTES} {words}"))
}

fn waiting(sidecar: &Sidecar) -> f64 {
    metric(sidecar, "hearthside_mirror_waiting")
}

/// A note that belongs to the upstream when one key of a hundred is owned.
fn given_up_at_one_percent(sidecar: &Sidecar) -> u32 {
    mode(sidecar, "on 1");
    let mut wire = sidecar.wire();
    let id = (1..100).find(|id| wire.ask(&format!("EXISTS note:{id}")) == ":0\r\n").expect("one of them");
    mode(sidecar, "on 100");
    id
}

#[test]
fn a_write_that_ends_late_does_not_come_over_what_clients_write_since() {
    let place = place();
    let sidecar = mirrored(&place).start();
    let id = given_up_at_one_percent(&sidecar);
    let mut lock = place.session();
    lock.run(&format!("BEGIN; UPDATE notes SET seen = seen WHERE id = {id};"));
    let (mut late, mut wire) = (sidecar.wire(), sidecar.wire());
    late.send(&line(&format!("HSET note:{id} text late")));
    place.until_one_waits();
    assert!(mode(&sidecar, "on 1").contains("the store has not ended within 2 s"));
    assert_eq!(wire.ask(&format!("HSET note:{id} text newer")), ":1\r\n");
    lock.run("ROLLBACK;");
    assert_eq!(late.frame(), b":0\r\n");
    // What is written and owned is brought behind it.
    assert_eq!(wire.ask("HSET name:1 name b"), ":0\r\n");
    let mut redis = place.redis.wire();
    until("a later write is there", || redis.ask("HGET name:1 name") == "$1\r\nb\r\n");
    until("nothing waits", || waiting(&sidecar) == 0.0);
    assert_eq!(wire.ask(&format!("HGET note:{id} text")), "$5\r\nnewer\r\n");
}

/// Writes of `store` to thirty notes that are on their way to an upstream which does not take them yet.
fn held_up(place: &Place, sidecar: &Sidecar) -> (Wire, Wire) {
    let (mut wire, mut redis) = (sidecar.wire(), place.redis.wire());
    assert_eq!(redis.ask("CLIENT PAUSE 600000 WRITE"), "+OK\r\n");
    (1..=30).for_each(|id| assert_eq!(wire.ask(&format!("HSET note:{id} text store")), ":0\r\n"));
    until("it cannot be brought", || sidecar.log().contains("is not brought to the upstream (mirror) for now"));
    until("it is on its way", || redis.ask("CLIENT LIST").contains(" name=hearthside-mirror-"));
    (wire, redis)
}

/// Clients write there, and that stays.
fn clients_write(wire: &mut Wire, redis: &mut Wire) {
    (1..=30).for_each(|id| assert!(wire.ask(&format!("HSET note:{id} text client")).starts_with(':')));
    (1..=30).for_each(|id| assert_eq!(redis.ask(&format!("HGETALL note:{id}")).lines().nth(4), Some("client")));
}

#[test]
fn what_was_given_up_on_its_way_is_not_applied_any_more() {
    let place = place();
    let sidecar = mirrored(&place).start();
    let (mut wire, mut redis) = held_up(&place, &sidecar);
    assert!(mode(&sidecar, "off").contains("could be brought to the upstream"));
    assert_eq!(redis.ask("CLIENT UNPAUSE"), "+OK\r\n");
    clients_write(&mut wire, &mut redis);
}

#[test]
fn while_that_is_not_certain_the_keys_are_owned() {
    let place = place();
    let sidecar = mirrored(&place).expect(warnings::UPSTREAM_AWAY).start();
    let (mut wire, mut redis) = held_up(&place, &sidecar);
    // Whether something is on its way at this moment is luck: it is tried again and again.
    loop {
        place.redis.pause(true);
        if mode(&sidecar, "off").contains("mappings with mirror = true stay as they were") {
            break;
        }
        place.redis.pause(false);
        assert!(mode(&sidecar, "on").contains("note:{id:int}"));
        (1..=30).for_each(|id| assert_eq!(wire.ask(&format!("HSET note:{id} text store")), ":0\r\n"));
        until("it is on its way", || redis.ask("CLIENT LIST").contains(" name=hearthside-mirror-"));
    }
    assert_eq!(wire.ask("HGET note:1 text"), "$5\r\nstore\r\n");
    place.redis.pause(false);
    assert_eq!(redis.ask("CLIENT UNPAUSE"), "+OK\r\n");
    until("it is off", || !mode(&sidecar, "off").contains("stay as they were"));
    assert_eq!(wire.ask("HGET note:30 text"), "$5\r\nstore\r\n", "it was brought");
    clients_write(&mut wire, &mut redis);
}

#[test]
fn a_key_that_cannot_be_brought_keeps_none_of_the_others_and_a_pause_keeps_all() {
    let place = place();
    let sidecar = mirrored(&place).expect(&[warnings::UNFIT, warnings::LOAD_FAILED, warnings::HELD_BACK]).start();
    let (mut wire, mut redis) = (sidecar.wire(), place.redis.wire());
    wire.ask("HEARTHSIDE PAUSE 60000");
    assert_eq!(wire.ask("HSET name:1 name b"), ":0\r\n");
    assert_eq!(wire.ask("HSET note:1 text b"), ":0\r\n");
    until("the pause is noticed", || sidecar.log().contains("are held back (HEARTHSIDE PAUSE)"));
    until("nothing is brought", || sidecar.log().contains("is not brought to the upstream (mirror) for now"));
    until("both wait", || waiting(&sidecar) == 2.0);
    assert_eq!(redis.ask("EXISTS note:1 name:1"), ":0\r\n");
    place.sql("DROP TABLE names");
    wire.ask("HEARTHSIDE INVALIDATE name:1");
    wire.ask("HEARTHSIDE RESUME");
    until("the other one is there", || redis.ask("HGET note:1 text") == "$1\r\nb\r\n");
    assert_eq!(waiting(&sidecar), 1.0);
    // Who gives up the other mapping has everything of it.
    assert!(!mode(&sidecar, "off").contains("could be brought"));
}

#[test]
fn a_table_that_is_locked_keeps_its_own_keys_only() {
    let place = place();
    let sidecar = mirrored(&place).expect(&[warnings::HELD_BACK, warnings::LOAD_FAILED]).start();
    let (mut wire, mut redis) = (sidecar.wire(), place.redis.wire());
    wire.ask("HEARTHSIDE PAUSE 60000");
    assert_eq!(wire.ask("HSET name:1 name b"), ":0\r\n");
    wire.ask("HEARTHSIDE INVALIDATE name:1");
    let mut lock = place.session();
    lock.run("BEGIN; LOCK TABLE names IN ACCESS EXCLUSIVE MODE;");
    assert_eq!(wire.ask("HSET note:1 text b"), ":0\r\n");
    wire.ask("HEARTHSIDE RESUME");
    until("the other one is there", || redis.ask("HGET note:1 text") == "$1\r\nb\r\n");
    until("this one waits", || waiting(&sidecar) == 1.0);
    lock.run("COMMIT;");
    until("so is this one", || redis.ask("HGET name:1 name") == "$1\r\nb\r\n");
}

#[test]
fn a_deferred_write_that_rests_is_saved_before_its_mapping_is_off() {
    let place = place();
    let sidecar = mirrored(&place).expect(&[warnings::DEFERRED_WAIT]).set("JOURNAL__FLUSH_INTERVAL", "20ms").start();
    let mut wire = sidecar.wire();
    place.sql(
        "CREATE TABLE gate (open BOOL); INSERT INTO gate VALUES (false); \
         CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF NOT (SELECT open FROM gate) THEN RAISE EXCEPTION 'not now' USING ERRCODE = '55P03'; END IF; \
         RETURN NEW; END $$; CREATE TRIGGER wait BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION wait()",
    );
    assert_eq!(wire.ask("HSET note:1 seen 7"), ":0\r\n");
    until("it rests", || sidecar.log().contains(warnings::DEFERRED_WAIT));
    thread::scope(|scope| {
        let switched = scope.spawn(|| mode(&sidecar, "off"));
        until("it changes over", || {
            let mut other = sidecar.wire();
            other.send(&line("HGET note:2 text"));
            other.is_silent(Duration::from_millis(100))
        });
        place.sql("UPDATE gate SET open = true");
        let told = switched.join().expect("an answer");
        assert!(!told.contains("has not ended"), "{told}");
    });
    assert_eq!(place.sql("SELECT seen FROM notes WHERE id = 1"), "7");
}

#[test]
fn of_orders_that_cross_the_last_one_is_in_force_everywhere() {
    let place = Place::new();
    let [one, other] = [(); 2].map(|()| place.builder("").start());
    let is = |of: &Sidecar, mode: &str| {
        metric(of, &format!("hearthside_mapping_mode{{mapping=\"{NOTES}\",mode=\"{mode}\"}}")) == 1.0
    };
    for _ in 0..10 {
        thread::scope(|scope| {
            scope.spawn(|| mode(&one, "off"));
            scope.spawn(|| mode(&other, "on"));
        });
        until("both agree", || is(&one, "off") == is(&other, "off"));
    }
}

#[test]
fn what_a_client_sends_behind_an_order_is_done_as_it_says() {
    let place = Place::new();
    let sidecar = place.builder("").start();
    let (mut wire, mut redis) = (sidecar.wire(), place.redis.wire());
    let requests = [
        format!("HEARTHSIDE MODE {NOTES} off"),
        "HSET note:1 text redis".to_owned(),
        format!("HEARTHSIDE MODE {NOTES} on"),
        "HSET note:1 text store".to_owned(),
    ];
    wire.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<u8>>());
    let told: Vec<Vec<u8>> = requests.iter().map(|_| wire.frame()).collect();
    assert_eq!((told[1].as_slice(), told[3].as_slice()), (&b":1\r\n"[..], &b":0\r\n"[..]));
    assert_eq!(redis.ask("HGET note:1 text"), "$5\r\nredis\r\n");
    assert_eq!(place.text(1), "store");
}

#[test]
fn a_stop_does_not_wait_for_a_mapping_that_changes_over() {
    let place = place();
    let mut sidecar = place.builder("").start();
    let mut lock = place.session();
    lock.run("BEGIN; UPDATE notes SET seen = seen WHERE id = 1;");
    let (mut writer, mut operator) = (sidecar.wire(), sidecar.wire());
    writer.send(&line("HSET note:1 text b"));
    place.until_one_waits();
    operator.send(&line(&format!("HEARTHSIDE MODE {NOTES} off")));
    until("it changes over", || {
        let mut other = sidecar.wire();
        other.send(&line("HGET note:2 text"));
        other.is_silent(Duration::from_millis(100))
    });
    sidecar.signal("TERM");
    let told = String::from_utf8_lossy(&operator.frame()).into_owned();
    assert!(told.starts_with("-ERR hearthside: the sidecar is ending"), "{told}");
    lock.run("ROLLBACK;");
    assert_eq!(writer.frame(), b":0\r\n");
    until("it has ended", || sidecar.has_ended());
    assert!(!sidecar.log().contains("a mapping has another mode"));
}
