//! Transactions of every form, with owned keys among the others: watched and not, broken by a rival, with errors
//! inside, discarded, aborted, nested, in one write and in pieces; raw replies compared with a Redis's.

use super::stream::{Command, Compare, Dice, Template, templates};
use super::{begin, compare, is_known, send, told};
use crate::support::redis::{Redis, Server};
use crate::support::wire::Wire;
use crate::writes::model::on_sqlite;

const COMMANDS: &str = include_str!("transactions.txt");
const WATCHED: [&str; 8] = ["s0", "n1", "l2", "s:0", "s:1", "h:0", "s0 s:0", "nosuch"];
const RIVAL: [&str; 5] = ["SET s0 x", "INCR n1", "RPUSH l2 x", "SET s:0 x", "HSET h:0 f x"];
const ENDS: [&str; 7] = ["EXEC", "EXEC", "EXEC", "EXEC", "EXEC", "DISCARD", "EXEC now"];

/// One who does the same at both.
struct Both {
    through: Wire,
    direct: Wire,
    /// What it has said in this transaction.
    said: Vec<Command>,
}

impl Both {
    fn ask(&mut self, dice: &mut Dice, batch: &[Command]) {
        send(dice, batch, &mut self.through, &mut self.direct);
        self.said.extend_from_slice(batch);
        for command in batch {
            compare(command, Compare::Exact, &self.through.frame(), &self.direct.frame(), || told(&self.said));
        }
    }
}

#[test]
fn transactions_of_every_form_answer_alike_on_the_installed_server() {
    transactions_of_every_form(Server::Installed);
}

#[test]
fn transactions_of_every_form_answer_alike_on_redis_8_2() {
    transactions_of_every_form(Server::Redis82);
}

#[test]
fn transactions_of_every_form_answer_alike_on_valkey_9_1() {
    transactions_of_every_form(Server::Valkey91);
}

fn transactions_of_every_form(server: Server) {
    let (mut dice, total) = begin("transactions", 20_000);
    let (redis, twin) = (Redis::of(server, &[]), Redis::of(server, &[]));
    let (builder, _folder) = on_sqlite(&redis);
    let sidecar = builder.start();
    is_known(&sidecar, &twin);
    let both = || Both { through: sidecar.wire(), direct: twin.wire(), said: Vec::new() };
    let (all, mut rival, mut done) = (templates(COMMANDS), both(), 0);
    while done < total {
        let mut client = both();
        if dice.roll(2) == 0 {
            client.through.ask("HELLO 3");
            client.direct.ask("HELLO 3");
        }
        for _ in 0..30 {
            done += transaction(&mut dice, &all, &mut client, &mut rival);
        }
    }
}

/// One transaction, and how many commands it was.
fn transaction(dice: &mut Dice, all: &[Template], client: &mut Both, rival: &mut Both) -> usize {
    client.said.clear();
    let mut batch = Vec::new();
    for _ in 0..dice.roll(3) {
        batch.push(dice.pick(all).fill(dice));
    }
    if dice.roll(3) > 0 {
        batch.push(Command::named(&format!("WATCH {}", dice.pick(&WATCHED))));
        if dice.roll(2) == 0 {
            // It may break its own watch. One of an owned key is broken by any write, also one that changes nothing
            // (docs/CONSISTENCY.md).
            let passing: Vec<Template> = all.iter().filter(|one| !one.text.contains(":")).copied().collect();
            batch.push(dice.pick(&passing).fill(dice));
        }
    }
    let mut total = batch.len();
    if dice.roll(2) == 0 {
        client.ask(dice, &std::mem::take(&mut batch));
        if dice.roll(2) == 0 {
            let write = Command::named(dice.pick::<&str>(&RIVAL));
            rival.ask(dice, &[write]);
            total += 1;
        }
    }
    let mut rest = vec![Command::named("MULTI")];
    let length = if dice.roll(20) == 0 { 200 } else { dice.roll(10) };
    rest.extend((0..length).map(|_| dice.pick(all).fill(dice)));
    rest.push(Command::named(dice.pick::<&str>(&ENDS)));
    if dice.roll(4) == 0 {
        rest.push(dice.pick(all).fill(dice));
    }
    // Whatever it left open.
    rest.extend(["DISCARD", "UNWATCH"].map(Command::named));
    total += rest.len();
    batch.extend(rest);
    client.ask(dice, &batch);
    total
}
