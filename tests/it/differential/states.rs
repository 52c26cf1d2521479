//! Transactions among what changes a connection: another database, protocol or login, replies that are off,
//! subscriptions, RESET and QUIT, at any place, in pieces cut anywhere, with a rival who breaks watches; raw replies
//! compared with a Redis's.

use super::stream::{Command, Dice, Template};
use super::{Pair, begin, told};
use crate::support::redis::Server;
use crate::support::until;
use crate::support::wire::Wire;

const COMMANDS: &str = include_str!("states.txt");
const RIVAL: [&str; 5] = ["SET s0 x", "INCR n1", "RPUSH l2 x", "DEL s1 n2", "SET s2 y"];
const ENDS: [&str; 12] = [
    "EXEC",
    "EXEC",
    "EXEC",
    "EXEC",
    "EXEC",
    "EXEC",
    "DISCARD",
    "RESET",
    "EXEC now",
    "RESET now",
    "SELECT 1",
    "HELLO 3",
];

/// A client of each.
struct Both {
    through: Wire,
    direct: Wire,
    said: Vec<Command>,
}

impl Both {
    fn of(pair: &Pair, dice: &mut Dice) -> Self {
        let (through, direct) = pair.wires(dice);
        Self { through, direct, said: Vec::new() }
    }

    /// At once to the one, in pieces to the other, some of them of a few bytes.
    fn send(&mut self, dice: &mut Dice, batch: &[Command]) {
        let bytes: Vec<u8> = batch.iter().flat_map(|command| command.encode(dice)).collect();
        self.direct.send(&bytes);
        let longest = [4, 40, 400, 1 << 20][dice.roll(4) as usize].max(bytes.len() as u64 / 500);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let cut = (dice.roll(longest) as usize + 1).min(rest.len());
            self.through.send(&rest[..cut]);
            rest = &rest[cut..];
        }
        self.said.extend_from_slice(batch);
    }

    /// Both answer alike up to a marker, which stands in a frame of its own whatever state they are in.
    fn compare(&mut self, marker: &str) {
        let [ours, theirs] = [&mut self.through, &mut self.direct].map(|wire| anonymous(frames(wire, marker)));
        assert_eq!(ours, theirs, "{}", told(&self.said));
    }
}

fn frames(wire: &mut Wire, marker: &str) -> Vec<String> {
    let mut frames = Vec::new();
    while frames.last().is_none_or(|frame: &String| !frame.contains(marker)) {
        frames.push(String::from_utf8_lossy(&wire.frame()).into_owned());
    }
    frames
}

/// HELLO tells ids, which differ.
fn anonymous(frames: Vec<String>) -> Vec<String> {
    let hidden = |frame: String| {
        let mut parts = frame.split("$2\r\nid\r\n:").map(str::to_owned).collect::<Vec<_>>();
        parts[1..].iter_mut().for_each(|part| *part = part.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned());
        parts.join("$2\r\nid\r\n:")
    };
    frames.into_iter().map(hidden).collect()
}

#[test]
fn transactions_among_changes_of_the_connection_answer_alike_on_the_installed_server() {
    transactions_among_changes(Server::Installed);
}

#[test]
fn transactions_among_changes_of_the_connection_answer_alike_on_redis_8_2() {
    transactions_among_changes(Server::Redis82);
}

#[test]
fn transactions_among_changes_of_the_connection_answer_alike_on_valkey_9_1() {
    transactions_among_changes(Server::Valkey91);
}

fn transactions_among_changes(server: Server) {
    let (mut dice, total) = begin("states", 6_000);
    let pair = Pair::start(server);
    let all = pair.templates(COMMANDS);
    let (mut rival, mut done) = (Both::of(&pair, &mut Dice(1)), 0);
    while done < total {
        let mut client = Both::of(&pair, &mut dice);
        for _ in 0..=dice.roll(12) {
            done += turn(&mut dice, &all, &mut client, &mut rival, done);
        }
        client.said.clear();
        let mut last = batch(&mut dice, &all);
        // Redis closes behind the reply, if there is one.
        last.retain(|command| !is_reply(command));
        last.push(Command::named("QUIT"));
        client.send(&mut dice, &last);
        let whole = |all: Vec<u8>| anonymous(vec![String::from_utf8_lossy(&all).into_owned()]);
        let [ours, theirs] = [client.through.rest(), client.direct.rest()].map(whole);
        assert_eq!(ours, theirs, "{}", told(&client.said));
        for wire in [&mut rival.through, &mut rival.direct] {
            until("its subscriptions are gone", || {
                let told = wire.ask("PUBSUB CHANNELS");
                told == "*0\r\n" || told == "~0\r\n"
            });
        }
    }
}

/// A batch, perhaps in two parts with a write of the rival between them; how many commands that was.
fn turn(dice: &mut Dice, all: &[Template], client: &mut Both, rival: &mut Both, done: usize) -> usize {
    client.said.clear();
    let mut batch = batch(dice, all);
    if dice.roll(2) == 0 && !batch.iter().any(is_reply) {
        let first = batch.drain(..batch.len() - open_since(&batch)).collect::<Vec<_>>();
        let marker = format!("middle{done}");
        client.send(dice, &[&first[..], &[Command::named(&format!("PING {marker}"))]].concat());
        client.compare(&marker);
        rival.said.clear();
        let marker = format!("rival{done}");
        let write = Command::named(dice.pick::<&str>(&RIVAL));
        rival.send(dice, &[write, Command::named(&format!("PING {marker}"))]);
        rival.compare(&marker);
    }
    // Whatever it left open. In RESP2 a subscriber may not switch its replies on again.
    if batch.iter().any(is_reply) {
        batch.push(Command::named("RESET"));
    }
    let marker = format!("marker{done}");
    batch.extend(["CLIENT REPLY ON", "DISCARD", "UNWATCH", &format!("PING {marker}")].map(Command::named));
    client.send(dice, &batch);
    client.compare(&marker);
    client.said.len()
}

fn is_reply(command: &Command) -> bool {
    command.text().starts_with("CLIENT REPLY")
}

/// How many of the last commands may be inside a MULTI, where a marker would only be queued.
fn open_since(batch: &[Command]) -> usize {
    let is_end = |command: &Command| matches!(command.text().as_str(), "EXEC" | "RESET" | "DISCARD");
    let Some(begin) = batch.iter().rposition(|command| command.text() == "MULTI") else { return 0 };
    let Some(end) = batch[begin..].iter().position(is_end) else {
        // It may be a second MULTI inside the first.
        return batch.len() - batch.iter().position(|command| command.text() == "MULTI").unwrap_or(begin);
    };
    batch.len() - begin - end - 1
}

/// Some commands with a transaction among them. Left out inside MULTI, as docs/COMPATIBILITY.md says: CLIENT REPLY, and
/// PUBLISH to oneself.
fn batch(dice: &mut Dice, all: &[Template]) -> Vec<Command> {
    let mut batch: Vec<Command> = (0..dice.roll(8)).map(|_| dice.pick(all).fill(dice)).collect();
    if dice.roll(3) > 0 {
        batch.push(Command::named(["WATCH s0", "WATCH n1 l2", "WATCH s2"][dice.roll(3) as usize]));
        batch.extend((0..dice.roll(3)).map(|_| dice.pick(all).fill(dice)));
    }
    batch.push(Command::named("MULTI"));
    let length = if dice.roll(30) == 0 { 100 } else { dice.roll(8) };
    batch.extend((0..length).map(|_| dice.pick(all).fill(dice)));
    if dice.roll(60) == 0 {
        let long = || ["SET", "s0", &"z".repeat(60_000)].map(|word| word.as_bytes().to_vec()).to_vec();
        batch.extend((0..20).map(|_| Command { words: long(), ..Command::named("SET") }));
    }
    batch.push(Command::named(dice.pick::<&str>(&ENDS)));
    batch.extend((0..dice.roll(3)).map(|_| dice.pick(all).fill(dice)));
    let mut in_multi = false;
    batch.retain(|command| {
        let text = command.text();
        in_multi = text == "MULTI" || in_multi && !matches!(text.as_str(), "EXEC" | "RESET");
        !in_multi || !["CLIENT REPLY", "PUBLISH"].iter().any(|out| text.starts_with(out))
    });
    batch
}
