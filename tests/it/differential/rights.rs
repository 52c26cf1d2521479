//! Users of the upstream who may do only some things: a client of a random user is answered the same by the server and
//! by the sidecar, whichever of the two would answer the command (`auth.mode = "upstream"`).

use super::begin;
use super::stream::Dice;
use crate::support::redis::{Redis, Server};
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::Wire;

/// What a user may be given or denied.
const PARTS: [&str; 42] = [
    "@read",
    "@write",
    "@connection",
    "@transaction",
    "@pubsub",
    "@blocking",
    "@keyspace",
    "@scripting",
    "@fast",
    "@dangerous",
    "@admin",
    "hello",
    "auth",
    "ping",
    "echo",
    "quit",
    "reset",
    "select",
    "info",
    "command",
    "client",
    "client|id",
    "client|getname",
    "client|setname",
    "client|list",
    "client|kill",
    "client|unblock",
    "client|reply",
    "client|no-evict",
    "client|tracking",
    "multi",
    "exec",
    "discard",
    "unwatch",
    "get",
    "set",
    "mget",
    "del",
    "eval",
    "blpop",
    "subscribe",
    "acl",
];

/// What such a client does, each on a connection of its own. Left out is what the servers tell of themselves (ids,
/// ports), and what docs/COMPATIBILITY.md says of WATCH inside MULTI.
const DEEDS: [&str; 40] = [
    "PING;PING word;PING a b",
    "ECHO word;ECHO",
    "CLIENT GETNAME;CLIENT SETNAME me;CLIENT GETNAME;CLIENT SETNAME",
    "CLIENT KILL ID 99999;CLIENT UNBLOCK 99999;CLIENT REPLY ON;CLIENT REPLY NOSUCH",
    "CLIENT NO-EVICT ON;PING;GET k;CLIENT GETNAME",
    "CLIENT TRACKINGINFO;CLIENT GETREDIR;CLIENT NOSUCH;CLIENT",
    "SELECT 1;SET k 1;SELECT 99;SELECT 0;SELECT x;SELECT",
    "HELLO 3 SETNAME me;CLIENT GETNAME",
    "HELLO 9;HELLO x",
    "COMMAND COUNT",
    "GET k;SET k 1;MGET k j;DEL k;EXISTS k;TOUCH k;UNLINK k",
    "MULTI;GET k;SET k 2;EXEC;GET k",
    "MULTI;PING;ECHO word;CLIENT GETNAME;EXEC;PING",
    "MULTI;EXEC;PING",
    "MULTI;CLIENT SETNAME me;EXEC;CLIENT GETNAME",
    "MULTI;SELECT 1;SET a 1;EXEC;GET a",
    "MULTI;DISCARD;GET k",
    "MULTI;GET k;DISCARD;GET k;EXEC",
    "MULTI;RESET;GET k",
    "MULTI;SUBSCRIBE c;EXEC",
    "MULTI;MULTI;EXEC",
    "EXEC;DISCARD;UNWATCH;EXEC now;MULTI now",
    "WATCH k;GET k;UNWATCH",
    "WATCH k;MULTI;GET k;EXEC",
    "BLPOP q 0.01;WAIT 0 1",
    "XREAD BLOCK 10 STREAMS s 0",
    "KEYS nosuch;SCAN 0 MATCH nosuch COUNT 1000;SORT k",
    "ACL WHOAMI;ACL LIST now",
    "PUBLISH c word",
    "CLIENT TRACKING ON;CLIENT CACHING YES;PING;ECHO word;CLIENT GETNAME;CLIENT TRACKING OFF;PING",
    "SUBSCRIBE c;PING;GET k;UNSUBSCRIBE c;PING",
    "PSUBSCRIBE p*;PUNSUBSCRIBE p*",
    "NOSUCH word",
    "EVAL return(1) 0;EVAL return(redis.call('get','k')) 1 k",
    "SCRIPT KILL;FUNCTION KILL;SCRIPT DEBUG NO",
    "RESET;PING;GET k",
    "AUTH u no;GET k;PING",
    "AUTH u word;GET k;PING",
    "MONITOR;RESET",
    "QUIT",
];

#[test]
fn users_with_few_rights_are_answered_alike_on_the_installed_server() {
    users_with_few_rights(Server::Installed);
}

#[test]
fn users_with_few_rights_are_answered_alike_on_redis_8_2() {
    users_with_few_rights(Server::Redis82);
}

#[test]
fn users_with_few_rights_are_answered_alike_on_valkey_9_1() {
    users_with_few_rights(Server::Valkey91);
}

fn users_with_few_rights(server: Server) {
    let (mut dice, users) = begin("rights", 40);
    let (redis, twin) = (Redis::of(server, &[]), Redis::of(server, &[]));
    let builder = Sidecar::builder().redis(&redis).set("AUTH__MODE", "upstream").set("SECURITY__DENY", "");
    let sidecar = builder.expect(&[warnings::LOGIN_REFUSED, warnings::LANE_LOST]).start();
    for user in 0..users {
        let name = format!("u{user}");
        let rules = rules(&mut dice);
        for mut direct in [redis.wire(), twin.wire()] {
            let told = direct.ask(&format!("ACL SETUSER {name} on >word ~* &* {rules}"));
            assert_eq!(told, "+OK\r\n", "{rules}");
        }
        for deeds in DEEDS {
            // Redis 8.2.3 does not answer the second login of a connection that it refuses.
            if server == Server::Redis82 && deeds.contains(" no;") {
                continue;
            }
            let deeds = deeds.replace("AUTH u ", &format!("AUTH {name} "));
            let hello = dice.roll(2) == 0;
            let [ours, theirs] = [sidecar.wire(), twin.wire()].map(|wire| done(wire, &name, &deeds, hello));
            assert_eq!(ours, theirs, "{rules}: {deeds}");
            for mut direct in [redis.wire(), twin.wire()] {
                assert_eq!(direct.ask("FLUSHALL"), "+OK\r\n");
            }
        }
    }
}

/// Everything but something, or nothing but something.
fn rules(dice: &mut Dice) -> String {
    let (first, signs) = match dice.roll(2) {
        0 => ("+@all", ["-", "-", "-", "+"]),
        _ => ("-@all", ["+", "+", "+", "-"]),
    };
    let mut rules = vec![first.to_owned()];
    for _ in 0..=dice.roll(4) {
        rules.push(format!("{}{}", dice.pick(&signs), dice.pick(&PARTS)));
    }
    rules.join(" ")
}

/// The answers to the login and to what follows, until the connection ends.
fn done(mut wire: Wire, name: &str, deeds: &str, hello: bool) -> Vec<String> {
    let login = if hello { format!("HELLO 3 AUTH {name} word") } else { format!("AUTH {name} word") };
    // HELLO tells ids.
    let mut answers = vec![wire.ask(&login).starts_with('-').to_string()];
    for deed in deeds.split(';') {
        wire.send(&crate::support::wire::line(deed));
        let Some(answer) = wire.try_frame() else { break };
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let is_greeting = deed.starts_with("HELLO") && !answer.starts_with('-');
        answers.push(if is_greeting { "a greeting".to_owned() } else { answer });
    }
    answers
}
