//! The same random commands to owned keys through a sidecar and to plain keys of a Redis: each key's events are the
//! same, in the same order, on the same channels; of a transaction all of them are. HEARTHSIDE_WRITES and
//! HEARTHSIDE_SEED make the run longer, or another.
//!
//! Commands of a pipeline that change different keys, and the keys of one DEL, are done side by side in a sidecar, so
//! that outside a transaction only each key's own order is compared. A command about the life of a key that only memory keeps is left to `verbs.rs`: it tells of
//! itself when it is answered.

use std::collections::BTreeMap;

use super::listener::{Listener, Told};
use super::place::telling;
use crate::differential::stream::{Command, Dice, Template, templates};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::setting;
use crate::support::sidecar::Builder;
use crate::support::wire::Wire;
use crate::writes::model::{config, on_postgres, on_sqlite};

const COMMANDS: &str = include_str!("../writes/model.txt");

/// One side: who writes, and who listens.
struct Side {
    wire: Wire,
    listener: Listener,
}

impl Side {
    /// Does these; what was told of them.
    fn does(&mut self, batch: &[Command], round: u64) -> Vec<Told> {
        let bytes: Vec<u8> = batch.iter().flat_map(|command| crate::support::wire::array(&command.words)).collect();
        self.wire.send(&bytes);
        batch.iter().for_each(|_| drop(self.wire.frame()));
        // Behind all of it.
        assert_eq!(self.wire.ask(&format!("SET s:last {round}")), "+OK\r\n");
        self.listener.until("s:last", "set")
    }
}

/// What was told of each key, in order.
fn by_key(told: &[Told]) -> BTreeMap<&str, Vec<String>> {
    let mut all = BTreeMap::<&str, Vec<String>>::new();
    for (channel, payload) in told {
        let (kind, of) = channel.split_once("@0__:").expect("a channel of events");
        let (key, event) = if kind == "__keyspace" { (of, payload.as_str()) } else { (payload.as_str(), of) };
        all.entry(key).or_default().push(format!("{kind} {event}"));
    }
    all
}

fn is_compared(template: &Template) -> bool {
    !template.text.starts_with("PEXPIREAT t:")
}

fn held_against_redis(builder: Builder) {
    let (sidecar, twin) = (builder.set("NOTIFY__KEYSPACE", "true").start(), telling());
    let (seed, total) = (setting("HEARTHSIDE_SEED", 0x5eed_0020), setting("HEARTHSIDE_WRITES", 3000));
    eprintln!("events: HEARTHSIDE_SEED={seed}");
    let all: Vec<Template> = templates(COMMANDS).into_iter().filter(is_compared).collect();
    let mut dice = Dice(seed);
    let side = |wire: &dyn Fn() -> Wire| Side { wire: wire(), listener: Listener::of_all(wire()) };
    let (mut ours, mut theirs) = (side(&|| sidecar.wire()), side(&|| twin.wire()));
    let (mut done, mut events) = (0, 0);
    while done < total {
        let mut batch: Vec<Command> = (0..=dice.roll(12)).map(|_| dice.pick(&all).fill(&mut dice)).collect();
        let is_transaction = dice.roll(4) == 0;
        if is_transaction {
            batch.insert(0, Command::named("MULTI"));
            batch.push(Command::named("EXEC"));
        }
        done += batch.len() as u64;
        let told = [ours.does(&batch, done), theirs.does(&batch, done)];
        let in_words = || batch.iter().map(Command::text).collect::<Vec<_>>().join("\n");
        assert_eq!(by_key(&told[0]), by_key(&told[1]), "{}", in_words());
        assert!(!is_transaction || told[0] == told[1], "{:?}\n{:?}\n{}", told[0], told[1], in_words());
        events += told[1].len();
    }
    assert!(events > 1000, "only {events} events were compared");
}

#[test]
fn events_of_random_commands_over_postgres_are_those_of_redis() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    held_against_redis(on_postgres(&redis, &postgres));
}

#[test]
fn events_of_random_deferred_commands_are_those_of_redis() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let deferred = config().replacen("write = \"through\"", "write = \"deferred\"", 2);
    // What is saved comes back over the change feed meanwhile, and is no news.
    held_against_redis(on_postgres(&redis, &postgres).config(&deferred).set("JOURNAL__FLUSH_INTERVAL", "50ms"));
}

#[test]
fn events_of_random_commands_over_sqlite_are_those_of_redis() {
    let redis = Redis::start();
    let (builder, _folder) = on_sqlite(&redis);
    held_against_redis(builder);
}
