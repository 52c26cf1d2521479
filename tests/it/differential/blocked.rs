//! Clients that wait and clients that end the wait, on both sides.

use super::stream::Dice;
use super::{Pair, begin};
use crate::support::redis::Server;
use crate::support::until;
use crate::support::wire::{Wire, array, line};

/// What waits, and what ends the wait.
const PAIRS: [(&str, &str); 14] = [
    ("BLPOP q 0", "RPUSH q a b"),
    ("BRPOP q other 5", "LPUSH other a b"),
    ("BLMOVE q r LEFT RIGHT 0", "RPUSH q a"),
    ("BRPOPLPUSH q r 0", "RPUSH q a"),
    ("BLMPOP 0 2 q other LEFT COUNT 2", "RPUSH other a b c"),
    ("BZPOPMIN z 0", "ZADD z 1.5 a 2 b"),
    ("BZPOPMAX z 0", "ZADD z 1.5 a 2 b"),
    ("BZMPOP 0 1 z MIN COUNT 2", "ZADD z 1 a 2 b"),
    ("XREAD BLOCK 0 STREAMS x $", "XADD x 9-9 f v"),
    ("XREADGROUP GROUP g c BLOCK 0 STREAMS xg >", "XADD xg 9-9 f v"),
    ("XREADGROUP GROUP g streams BLOCK 0 STREAMS xg >", "XADD xg 9-9 f v"),
    ("XREADGROUP BLOCK 0 COUNT 1 GROUP g streams STREAMS xg >", "XADD xg 9-9 f v"),
    ("BLPOP q 0", "SET q string"),
    ("XREADGROUP GROUP g c BLOCK 0 STREAMS xg >", "DEL xg"),
];

#[test]
fn those_who_wait_are_answered_alike_on_the_installed_server() {
    those_who_wait(Server::Installed);
}

#[test]
fn those_who_wait_are_answered_alike_on_redis_8_2() {
    those_who_wait(Server::Redis82);
}

#[test]
fn those_who_wait_are_answered_alike_on_valkey_9_1() {
    those_who_wait(Server::Valkey91);
}

fn those_who_wait(server: Server) {
    let (mut dice, total) = begin("blocked", 400);
    let pair = Pair::start(server);
    let (mut through, mut direct) = (pair.sidecar.wire(), pair.twin.wire());
    for _ in 0..total / PAIRS.len() + 1 {
        for (wait, end) in PAIRS {
            let hello = ["HELLO 2", "HELLO 3"][dice.roll(2) as usize];
            let ours = waited(pair.sidecar.wire(), &mut through, (hello, wait, end), &mut Dice(dice.roll(1 << 40) + 1));
            let theirs = waited(pair.twin.wire(), &mut direct, (hello, wait, end), &mut dice);
            assert_eq!(ours, theirs, "{hello}, {wait}, {end}");
        }
    }
}

/// What a client is answered that waits between two other commands, and what is left afterwards.
fn waited(mut waiting: Wire, other: &mut Wire, (hello, wait, end): (&str, &str, &str), dice: &mut Dice) -> Vec<String> {
    other.ask("DEL q r other z x xg");
    other.ask("XGROUP CREATE xg g $ MKSTREAM");
    waiting.ask(hello);
    let words: Vec<&str> = wait.split(' ').collect();
    let bytes = [array(&["SET", "before", "1"]), array(&words), array(&["GET", "before"])].concat();
    let cut = dice.roll(bytes.len() as u64) as usize;
    waiting.send(&bytes[..cut]);
    waiting.send(&bytes[cut..]);
    let mut told = vec![String::from_utf8_lossy(&waiting.frame()).into_owned()];
    until("it waits", || other.ask("INFO clients").contains("blocked_clients:1"));
    told.push(other.ask(end));
    if end == "SET q string" {
        // A wait is not ended by a key of another type; by its client's leaving it is.
        drop(waiting);
        until("it does not wait any more", || other.ask("INFO clients").contains("blocked_clients:0"));
        return told;
    }
    (0..2).for_each(|_| told.push(String::from_utf8_lossy(&waiting.frame()).into_owned()));
    told.extend(["LRANGE q 0 -1", "LRANGE r 0 -1", "ZRANGE z 0 -1", "XLEN x"].map(|left| other.ask(left)));
    told
}

/// What takes the stream or its group away from one who waits for it, and what brings it back.
const REMOVALS: [&str; 7] =
    ["FLUSHALL", "FLUSHDB", "DEL xg", "UNLINK xg", "XGROUP DESTROY xg g", "SWAPDB 0 1", "RENAME xg other"];

/// Who is seen to wait (CLIENT LIST) waits at the upstream, so what is sent after that comes behind the command. A
/// server that did not run while both came reads them in an order of its own, which is seen now and then.
#[test]
fn what_is_sent_after_a_client_is_seen_to_wait_comes_behind_its_command() {
    let pair = Pair::start(Server::Installed);
    let told = |mut waiting: Wire, other: &mut Wire, removal: &str| {
        other.ask("FLUSHALL");
        other.ask("XGROUP CREATE xg g $ MKSTREAM");
        waiting.send(&line("XREADGROUP GROUP g c BLOCK 0 STREAMS xg >"));
        until("it is seen to wait", || other.ask("CLIENT LIST TYPE normal").contains(" flags=b "));
        let removed = other.ask(removal);
        (removed, String::from_utf8_lossy(&waiting.frame()).into_owned())
    };
    let (mut through, mut direct) = (pair.sidecar.wire(), pair.twin.wire());
    let mut others = Vec::new();
    for round in 0..100 {
        for removal in REMOVALS {
            let ours = told(pair.sidecar.wire(), &mut through, removal);
            let theirs = told(pair.twin.wire(), &mut direct, removal);
            if ours != theirs {
                // What it is answered when the stream is gone before it comes.
                assert!(ours.0 == theirs.0 && ours.1.starts_with("-NOGROUP "), "round {round}: {removal}: {ours:?}");
                others.push(format!("round {round}: {removal}: {ours:?}, directly {theirs:?}"));
            }
        }
    }
    assert!(others.len() <= 2, "{others:#?}");
}
