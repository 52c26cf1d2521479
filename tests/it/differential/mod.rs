//! Pass-through: the same random commands to a Redis directly and through the sidecar to its twin, raw replies
//! compared byte for byte. HEARTHSIDE_COMMANDS and HEARTHSIDE_SEED make the run longer, or another.

mod blocked;
mod clients;
mod keys;
mod monitor;
mod rights;
mod states;
pub mod stream;
mod transactions;

use hearthside::command;
use hearthside::resp::reply::{Frame, ReplyScanner};

use crate::support::redis::{Redis, Server};
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::{Wire, line};
use crate::support::{setting, until};
use stream::{Command, Compare, Dice, Template, templates};

const ALL: &str = include_str!("commands.txt");
const SUBSCRIBER: &str = include_str!("subscriber.txt");

/// Waits until the sidecar knows who the upstream is, and which commands it has: what it answers itself depends on it.
fn is_known(sidecar: &Sidecar, twin: &Redis) {
    let of_server = |told: String| {
        let (before, after) = told.split_once("\r\nid\r\n").expect("HELLO tells the id");
        // The id itself differs.
        [before, after.split_once("\r\n").expect("a number").1].map(str::to_owned)
    };
    let theirs = of_server(twin.wire().ask("HELLO"));
    until("the upstream is known", || of_server(sidecar.wire().ask("HELLO")) == theirs);
}

/// A Redis with a sidecar before it, and its twin without.
struct Pair {
    server: Server,
    sidecar: Sidecar,
    twin: Redis,
    _redis: Redis,
}

impl Pair {
    fn start(server: Server) -> Self {
        let arguments = ["--enable-debug-command", "yes"];
        let (redis, twin) = (Redis::of(server, &arguments), Redis::of(server, &arguments));
        let sidecar =
            Sidecar::builder().redis(&redis).set("SECURITY__DENY", "").expect(&[warnings::LOGIN_REFUSED]).start();
        is_known(&sidecar, &twin);
        Self { server, sidecar, twin, _redis: redis }
    }

    /// The commands that are sent. Redis 8.2.3 does not answer a login that it refuses while earlier replies wait to be
    /// sent, as they do in a pipeline (`addAuthErrReply` in acl.c); the sidecar does.
    fn templates(&self, text: &'static str) -> Vec<Template> {
        let mut all = templates(text);
        all.retain(|one| self.server != Server::Redis82 || !one.text.contains("AUTH no"));
        all
    }

    /// A client of each, perhaps in RESP3.
    fn wires(&self, dice: &mut Dice) -> (Wire, Wire) {
        let (mut through, mut direct) = (self.sidecar.wire(), self.twin.wire());
        if dice.roll(2) == 0 {
            // HELLO tells ids, which differ.
            through.ask("HELLO 3");
            direct.ask("HELLO 3");
        }
        (through, direct)
    }
}

fn begin(name: &str, default: u64) -> (Dice, usize) {
    let seed = setting("HEARTHSIDE_SEED", 0x9e37_79b9_7f4a_7c15);
    eprintln!("{name}: HEARTHSIDE_SEED={seed}");
    (Dice(seed), (setting("HEARTHSIDE_COMMANDS", 50_000) * default / 50_000) as usize)
}

#[test]
fn random_commands_of_every_kind_answer_alike_on_the_installed_server() {
    random_commands(Server::Installed);
}

#[test]
fn random_commands_of_every_kind_answer_alike_on_redis_8_2() {
    random_commands(Server::Redis82);
}

#[test]
fn random_commands_of_every_kind_answer_alike_on_valkey_9_1() {
    random_commands(Server::Valkey91);
}

fn random_commands(server: Server) {
    let (mut dice, total) = begin("commands", if server == Server::Installed { 40_000 } else { 15_000 });
    let pair = Pair::start(server);
    let all = pair.templates(ALL);
    let mut done = 0;
    while done < total {
        let (mut through, mut direct) = pair.wires(&mut dice);
        let mut queued = None;
        for _ in 0..20 {
            let batch = batch(&mut dice, &all);
            send(&mut dice, &batch, &mut through, &mut direct);
            for command in &batch {
                queued = queued_until(queued, command);
                let how = if command.text() == "EXEC" { queued.take() } else { None };
                let how = how.unwrap_or(command.compare);
                compare(command, how, &through.frame(), &direct.frame(), || told(&batch));
            }
            done += batch.len();
        }
    }
}

/// Statuses and errors of megabytes, which come now and then.
const LONG: [&str; 2] = ["EVAL return{ok=string.rep('s',1100000)} 0", "EVAL return{err=string.rep('e',1200000)} 0"];

/// Some commands, and now and then a whole transaction.
fn batch(dice: &mut Dice, all: &[Template]) -> Vec<Command> {
    let mut batch = Vec::new();
    for _ in 0..=dice.roll(60) {
        if dice.roll(2500) == 0 {
            batch.push(Command::named(LONG[dice.roll(2) as usize]));
        }
        if dice.roll(15) > 0 {
            batch.push(dice.pick(all).fill(dice));
            continue;
        }
        batch.push(Command::named("MULTI"));
        for _ in 0..dice.roll(8) {
            batch.push(dice.pick(all).fill(dice));
        }
        batch.push(Command::named("EXEC"));
    }
    batch
}

/// How a reply of EXEC is compared: by its kind when one of the commands since MULTI is.
fn queued_until(queued: Option<Compare>, command: &Command) -> Option<Compare> {
    match command.text().as_str() {
        "MULTI" => queued.or(Some(Compare::Exact)),
        "DISCARD" | "RESET" | "EXEC now" => None,
        _ if command.compare == Compare::Exact => queued,
        _ => queued.map(|_| Compare::Kind),
    }
}

/// At once to the one, in random pieces to the other.
fn send(dice: &mut Dice, batch: &[Command], through: &mut Wire, direct: &mut Wire) {
    let bytes: Vec<u8> = batch.iter().flat_map(|command| command.encode(dice)).collect();
    direct.send(&bytes);
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let cut = if dice.roll(8) == 0 { rest.len() } else { (dice.roll(400) as usize + 1).min(rest.len()) };
        through.send(&rest[..cut]);
        rest = &rest[cut..];
    }
}

fn told(batch: &[Command]) -> String {
    batch.iter().map(Command::text).collect::<Vec<_>>().join("\n")
}

fn compare(command: &Command, how: Compare, ours: &[u8], theirs: &[u8], context: impl Fn() -> String) {
    let alike = match how {
        Compare::Exact => ours == theirs,
        Compare::Kind => ours[0] == theirs[0] && (ours[0] != b'-' || ours == theirs),
        Compare::Unordered => parts(ours) == parts(theirs),
    };
    assert!(
        alike,
        "{}\nours:   {}\ntheirs: {}\nin\n{}",
        command.text(),
        String::from_utf8_lossy(ours),
        String::from_utf8_lossy(theirs),
        context()
    );
}

/// The header and the elements of an aggregate, sorted.
pub fn parts(frame: &[u8]) -> Vec<Vec<u8>> {
    let header = frame.iter().position(|b| *b == b'\n').map_or(frame.len(), |at| at + 1);
    let (first, mut rest) = frame.split_at(header);
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let Ok(scanned) = ReplyScanner::default().scan(rest) else { return vec![frame.to_vec()] };
        if scanned.end != Some(Frame::Reply) {
            return vec![frame.to_vec()];
        }
        parts.push(rest[..scanned.used].to_vec());
        rest = &rest[scanned.used..];
    }
    parts.sort();
    parts.insert(0, first.to_vec());
    parts
}

#[test]
fn subscribers_and_their_publishers_see_the_same_on_the_installed_server() {
    subscribers(Server::Installed);
}

#[test]
fn subscribers_and_their_publishers_see_the_same_on_redis_8_2() {
    subscribers(Server::Redis82);
}

#[test]
fn subscribers_and_their_publishers_see_the_same_on_valkey_9_1() {
    subscribers(Server::Valkey91);
}

fn subscribers(server: Server) {
    let (mut dice, total) = begin("subscribers", 10_000);
    let pair = Pair::start(server);
    let all = pair.templates(SUBSCRIBER);
    let (mut publish_through, mut publish_direct) = (pair.sidecar.wire(), pair.twin.wire());
    let mut done = 0;
    while done < total {
        let (mut through, mut direct) = pair.wires(&mut dice);
        for _ in 0..10 {
            let mut batch = subscriber_batch(&mut dice, &all);
            let marker = format!("marker{done}");
            // Whatever state the client is in, these end in a frame that holds the marker. In RESP2 a subscriber may
            // not switch its replies on again.
            if batch.iter().any(|command| command.text().starts_with("CLIENT REPLY")) {
                batch.push(Command::named("RESET"));
            }
            batch.extend(["CLIENT REPLY ON", "DISCARD", &format!("PING {marker}")].map(Command::named));
            send(&mut dice, &batch, &mut through, &mut direct);
            compare_until(&marker, &mut through, &mut direct, &batch, server);
            done += batch.len();
            let channel = format!("PUBLISH c{} {marker}", dice.roll(3));
            assert_eq!(publish_through.ask(&channel), publish_direct.ask(&channel), "{}", told(&batch));
            // A message that is on its way may come behind what the sidecar answers itself (docs/COMPATIBILITY.md).
            let heard = format!("heard{done}");
            for wire in [&mut through, &mut direct] {
                wire.send(&line(&format!("PING {heard}")));
            }
            compare_until(&heard, &mut through, &mut direct, &batch, server);
        }
        drop((through, direct));
        for publisher in [&mut publish_through, &mut publish_direct] {
            for (what, none) in [("CHANNELS", "*0\r\n"), ("SHARDCHANNELS", "*0\r\n"), ("NUMPAT", ":0\r\n")] {
                until("their subscriptions are gone", || publisher.ask(&format!("PUBSUB {what}")) == none);
            }
        }
    }
}

/// Left out inside MULTI, as docs/COMPATIBILITY.md says: CLIENT REPLY, which the sidecar obeys after EXEC and Redis
/// within it, and PUBLISH to oneself, which it refuses.
fn subscriber_batch(dice: &mut Dice, all: &[Template]) -> Vec<Command> {
    let (mut batch, mut in_multi) = (Vec::new(), false);
    for _ in 0..=dice.roll(20) {
        let command = dice.pick(all).fill(dice);
        let text = command.text();
        in_multi = text == "MULTI" || in_multi && !matches!(text.as_str(), "EXEC" | "RESET");
        if !in_multi || !["CLIENT REPLY", "PUBLISH", "SPUBLISH"].iter().any(|out| text.starts_with(out)) {
            batch.push(command);
        }
    }
    batch
}

/// Redis invalidates for a connection also what it read before its last TRACKING OFF or RESET; through the sidecar that
/// was another connection. So there may be fewer, and none that Redis does not send.
fn without_old_invalidations(frames: Vec<String>, all: &[String]) -> Vec<String> {
    let (pushed, rest): (Vec<_>, Vec<_>) = frames.into_iter().partition(|frame| frame.contains("\r\ninvalidate\r\n"));
    assert!(all.is_empty() || pushed.iter().all(|frame| all.contains(frame)), "{pushed:?} but not {all:?}");
    rest
}

/// Both are sent the same, up to the frame that holds the marker.
fn compare_until(marker: &str, through: &mut Wire, direct: &mut Wire, batch: &[Command], server: Server) {
    let (ours, theirs) = (until_marker(through, marker), until_marker(direct, marker));
    let (ours, theirs) = (without_old_invalidations(ours, &theirs), without_old_invalidations(theirs, &[]));
    let [ours, theirs] = [ours, theirs].map(|frames| in_order(frames, server));
    assert_eq!(ours, theirs, "{}", told(batch));
}

/// A message to oneself comes behind the reply to its PUBLISH from a newer server, and may then come behind replies
/// that the sidecar gives itself: what is pushed is compared apart from what is answered.
fn in_order(frames: Vec<String>, server: Server) -> Vec<String> {
    if server == Server::Installed {
        return frames;
    }
    let is_message = |frame: &String| frame.contains("message\r\n") && !frame.starts_with('$');
    let (mut pushed, rest): (Vec<_>, Vec<_>) = frames.into_iter().partition(is_message);
    pushed.extend(rest);
    pushed
}

fn until_marker(wire: &mut Wire, marker: &str) -> Vec<String> {
    let mut frames = Vec::new();
    loop {
        let frame = String::from_utf8_lossy(&wire.frame()).into_owned();
        let is_last = frame.contains(marker) && !frame.contains("message");
        // In which order everything is unsubscribed depends on a server's own hashing.
        let unsubscribed =
            frame.contains("unsubscribe\r\n").then(|| frame.rsplit(':').next().map(str::to_owned)).flatten();
        // CLIENT CACHING is about the next command, which for Redis may be one that the sidecar answers itself.
        let frame = match frame.contains("caching-yes") {
            true => frame.replace("$11\r\ncaching-yes\r\n", "").replacen("flags\r\n*3", "flags\r\n*2", 1).replacen(
                "flags\r\n~3",
                "flags\r\n~2",
                1,
            ),
            false => frame,
        };
        frames.push(unsubscribed.map_or_else(|| frame.clone(), |count| format!("unsubscribed, {count}")));
        if is_last {
            return frames;
        }
    }
}

#[test]
fn every_command_is_compared_or_has_its_reason() {
    let sent: Vec<String> =
        templates(ALL).iter().chain(&templates(SUBSCRIBER)).map(|t| t.text.to_lowercase()).collect();
    let excused: Vec<&str> = ALL.lines().filter_map(|line| line.strip_prefix("! ")?.split(' ').next()).collect();
    let mut missing: Vec<&str> = command::all()
        .filter(|spec| spec.since != "the sidecar" && !excused.contains(&spec.name.as_str()))
        .map(|spec| spec.name.as_str())
        .filter(|name| {
            let words = name.replace('|', " ");
            !sent.iter().any(|text| *text == words || text.starts_with(&format!("{words} ")))
        })
        .collect();
    missing.sort_unstable();
    assert_eq!(missing, [""; 0]);
}
