//! Where the keys of a request stand: the same argument lists to the command table and to COMMAND GETKEYSANDFLAGS of
//! a real server. Where the two differ the server is asked to do it: it must refuse the request, or touch a key that
//! we name and its own COMMAND GETKEYS does not.

use std::collections::BTreeMap;

use hearthside::command::{self, Request, Spec, lookup};
use hearthside::resp::reply::elements;
use hearthside::resp::request::RequestScanner;

use super::begin;
use super::stream::Dice;
use crate::support::redis::{Redis, Server};
use crate::support::wire::{Wire, array, line};

/// Commands whose keys depend on their other arguments, as they are meant to be sent.
const FORMS: [&str; 31] = [
    "GEORADIUS k0 1 1 10 km STORE k1",
    "GEORADIUS k0 1 1 10 km COUNT 2 ANY ASC STORE k1 STOREDIST k2",
    "GEORADIUS k0 1 1 10 km WITHDIST STOREDIST k1 STORE k2 STORE k3",
    "GEORADIUSBYMEMBER k0 store 10 km STORE k1",
    "GEORADIUSBYMEMBER k0 k1 10 km STOREDIST store STORE k2",
    "GEORADIUS_RO k0 1 1 10 km ASC",
    "SORT k0 BY store GET store LIMIT 0 5 ALPHA STORE k1",
    "SORT k0 STORE k1 DESC STORE k2 GET #",
    "SORT_RO k0 BY k1 GET store",
    "XREAD COUNT 2 BLOCK 1 STREAMS k0 k1 0 0",
    "XREAD STREAMS streams block 0 0",
    "XREADGROUP GROUP k0 streams BLOCK 1 STREAMS k1 >",
    "XREADGROUP GROUP streams block COUNT 1 NOACK STREAMS k0 k1 > 0",
    "XREADGROUP COUNT 1 GROUP k0 streams STREAMS k1 >",
    "XREADGROUP BLOCK 1 NOACK GROUP group count STREAMS k0 >",
    "MIGRATE 127.0.0.1 1 k0 0 10",
    "MIGRATE 127.0.0.1 1 . 0 10 COPY REPLACE KEYS k0 k1",
    "MIGRATE 127.0.0.1 1 . 0 10 AUTH keys KEYS k0 keys",
    "MIGRATE 127.0.0.1 1 . 0 10 AUTH2 keys keys KEYS k0 k1 k2",
    "EVAL k0 2 k1 k2 k3",
    "FCALL_RO k0 1 k1 k2",
    "ZUNIONSTORE k0 2 k1 k2 WEIGHTS 1 2 AGGREGATE MAX",
    "ZINTER 2 k0 k1 WITHSCORES",
    "ZINTERCARD 1 k0 LIMIT 2",
    "ZMPOP 2 k0 k1 MIN COUNT 3",
    "BLMPOP 0 2 k0 k1 LEFT",
    "LMPOP 1 k0 RIGHT COUNT 2",
    "SET k0 get GET",
    "BITFIELD k0 GET u8 0 SET u8 0 1",
    "COPY k0 k1 DB 1 REPLACE",
    "OBJECT ENCODING k0",
];

/// What looks like an option, or like a number of keys.
const WORDS: [&str; 44] = [
    "STORE",
    "store",
    "STOREDIST",
    "storedist",
    "STREAMS",
    "streams",
    "BLOCK",
    "block",
    "COUNT",
    "GROUP",
    "group",
    "NOACK",
    "KEYS",
    "keys",
    "AUTH",
    "auth2",
    "COPY",
    "REPLACE",
    "BY",
    "GET",
    "get",
    "LIMIT",
    "WEIGHTS",
    "SAMPLES",
    "DB",
    "CLAIM",
    "-1",
    "0",
    "1",
    "1",
    "2",
    "2",
    "3",
    "5",
    "+1",
    "01",
    "2x",
    " 1",
    "4294967298",
    "99999999999",
    "9223372036854775807",
    "0.5",
    ">",
    "",
];

fn word(dice: &mut Dice) -> Vec<u8> {
    match dice.roll(5) {
        0..2 => format!("k{}", dice.roll(6)).into_bytes(),
        _ => dice.pick(&WORDS).as_bytes().to_vec(),
    }
}

/// A form with some of its words changed, doubled or left out, or a command with any words behind it.
fn list(dice: &mut Dice, specs: &[&'static Spec]) -> Vec<Vec<u8>> {
    if dice.roll(2) == 0 {
        let name = dice.pick(specs).name.replace('|', " ");
        let mut words: Vec<Vec<u8>> = name.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        words.extend((0..dice.roll(10)).map(|_| word(dice)));
        return words;
    }
    // A point stands for an argument without text.
    let form = dice.pick(&FORMS).split(' ').map(|word| if word == "." { Vec::new() } else { word.as_bytes().to_vec() });
    let mut words: Vec<Vec<u8>> = form.collect();
    for _ in 0..dice.roll(5) {
        let at = 1 + dice.roll(words.len() as u64 - 1) as usize;
        match dice.roll(4) {
            0 => words[at] = word(dice),
            1 => words.insert(at, word(dice)),
            2 if words.len() > 2 => drop(words.remove(at)),
            _ => {
                let again = words[at].clone();
                let to = 1 + dice.roll(words.len() as u64) as usize;
                words.insert(to.min(words.len()), again);
            }
        }
    }
    words
}

/// The keys by the command table, sorted, and the command's row.
fn ours(words: &[Vec<u8>]) -> (Vec<Vec<u8>>, Option<&'static Spec>) {
    let raw = array(words);
    let mut scanner = RequestScanner::default();
    scanner.scan(&raw).expect("a request");
    let request = Request::new(&raw, scanner.spans());
    let spec = lookup(request.arg(0), request.arg(1));
    let mut keys: Vec<Vec<u8>> =
        spec.map_or_else(Vec::new, |spec| request.key_positions(spec)).iter().map(|at| words[*at].clone()).collect();
    keys.sort();
    (keys, spec)
}

fn text(element: &[u8]) -> Vec<u8> {
    let from = if element[0] == b'$' { element.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1) } else { 1 };
    element[from..element.len() - 2].to_vec()
}

/// A key, and what is done with it.
type Flagged = (Vec<u8>, Vec<Vec<u8>>);

/// The keys by the server, each with its flags; `None` when it refuses the list.
fn theirs(frame: &[u8]) -> Option<Vec<Flagged>> {
    if frame.starts_with(b"-ERR The command has no key arguments") {
        return Some(Vec::new());
    }
    let pairs = elements(frame)?;
    let pair = |pair: &&[u8]| {
        let parts = elements(pair).expect("a key and its flags");
        let flags = elements(parts[1]).expect("flags").into_iter().map(text).collect();
        (text(parts[0]), flags)
    };
    Some(pairs.iter().map(pair).collect())
}

/// What the server says when it is asked to do it: true when it refuses, or touches keys that we name.
fn is_settled(server: &mut Wire, words: &[Vec<u8>], keys: &[Vec<u8>]) -> bool {
    server.ask("FLUSHALL");
    let (name, first) = (words[0].to_ascii_lowercase(), words.get(1).cloned().unwrap_or_default());
    if name.starts_with(b"georadius") {
        for member in [&b"m"[..], words.get(2).map_or(&b"m"[..], |word| word)] {
            server.call(&[b"GEOADD", &first[..], b"1", b"1", member]);
        }
    } else if name == b"sort" {
        server.call(&[b"RPUSH", &first[..], b"1"]);
    }
    // In a transaction nothing waits.
    server.send(&[line("MULTI"), array(words), line("EXEC")].concat());
    let frames: Vec<_> = (0..3).map(|_| server.frame()).collect();
    let Some(done) = elements(&frames[2]) else { return frames[1].starts_with(b"-ERR") };
    let done = String::from_utf8_lossy(done[0]).into_owned();
    if let Some(missing) = done.strip_prefix("-NOGROUP No such key '") {
        return keys.iter().any(|key| missing.as_bytes().starts_with(&[&key[..], b"'"].concat()));
    }
    if done.starts_with('-') {
        return done.starts_with("-ERR") || done.starts_with("-NOSCRIPT");
    }
    let there = server.ask("KEYS *");
    let there = elements(there.as_bytes()).expect("an array").into_iter().map(text);
    there.filter(|key| *key != first).all(|key| keys.contains(&key))
}

#[test]
fn keys_are_found_where_a_server_finds_them_on_the_installed_server() {
    keys_are_found(Server::Installed);
}

#[test]
fn keys_are_found_where_a_server_finds_them_on_redis_8_2() {
    keys_are_found(Server::Redis82);
}

#[test]
fn keys_are_found_where_a_server_finds_them_on_valkey_9_1() {
    keys_are_found(Server::Valkey91);
}

fn keys_are_found(server: Server) {
    let (mut dice, total) = begin("keys", 25_000);
    let redis = Redis::of(server, &[]);
    let (mut oracle, mut server) = (redis.wire(), redis.wire());
    let mut specs = sorted();
    specs.retain(|spec| oracle.ask(&format!("COMMAND INFO {}", spec.name)) != "*1\r\n*-1\r\n");
    let (mut told, mut refused, mut settled, mut wrong) = (0, 0, BTreeMap::<String, usize>::new(), Vec::new());
    let mut done = 0;
    while done < total {
        let lists: Vec<_> = (0..500).map(|_| list(&mut dice, &specs)).collect();
        let asked =
            |words: &Vec<Vec<u8>>| array(&[&[b"COMMAND".to_vec(), b"GETKEYSANDFLAGS".to_vec()], &words[..]].concat());
        oracle.send(&lists.iter().flat_map(asked).collect::<Vec<u8>>());
        for words in &lists {
            let Some(theirs) = theirs(&oracle.frame()) else {
                refused += 1;
                continue;
            };
            told += 1;
            let (keys, spec) = ours(words);
            let mut names: Vec<_> = theirs.iter().map(|(name, _)| name.clone()).collect();
            names.sort();
            let shown = || words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ");
            if keys != names {
                if is_settled(&mut server, words, &keys) {
                    *settled.entry(String::from_utf8_lossy(&words[0]).to_lowercase()).or_default() += 1;
                } else {
                    wrong.push(format!("{}: ours {keys:?}, theirs {names:?}", shown()));
                }
            }
            // What only reads may be sent twice. PFCOUNT may rewrite what it has cached of a sum, to the same.
            // Of the keys of vector sets Redis says what it says of any module's: that they may be written.
            let is_told = |spec: &Spec| spec.name != "pfcount" && !(spec.name.starts_with('v') && spec.arity == -1);
            let reads = spec.is_some_and(|spec| spec.flags.readonly && is_told(spec));
            if reads && theirs.iter().any(|(_, flags)| !flags.is_empty() && !flags.contains(&b"RO".to_vec())) {
                wrong.push(format!("{}: does not only read: {theirs:?}", shown()));
            }
        }
        done += lists.len();
    }
    eprintln!(
        "keys: {done} lists, {told} compared, {refused} refused by the server, differences settled by it: {settled:?}"
    );
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert!(told * 2 > done, "most lists are ones that a server understands");
}

/// The table's rows, in an order that does not depend on the run.
fn sorted() -> Vec<&'static Spec> {
    let mut specs: Vec<_> = command::all().collect();
    specs.sort_unstable_by_key(|spec| spec.id);
    specs
}

/// What COMMAND GETKEYS of Redis itself does not see: here the server says by what it does which key is touched.
#[test]
fn keys_that_the_server_touches_and_does_not_name_are_found() {
    let redis = Redis::start();
    let mut server = redis.wire();
    for (text, key) in [
        ("GEORADIUS k0 1 1 10 km STORE k1 STORE k2", "k2"),
        ("GEORADIUS k0 1 1 10 km STORE STOREDIST STOREDIST k2", "k2"),
        ("GEORADIUSBYMEMBER k0 m 10 km STOREDIST k1 STOREDIST k2", "k2"),
        ("SORT k0 STORE GET STORE k2", "k2"),
        ("XREADGROUP COUNT 1 GROUP g streams STREAMS k2 >", "k2"),
        ("XREADGROUP BLOCK 1 NOACK GROUP g streams STREAMS k2 >", "k2"),
    ] {
        let words: Vec<Vec<u8>> = text.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let named = server.call(&[&[b"COMMAND".to_vec(), b"GETKEYS".to_vec()], &words[..]].concat());
        assert!(
            !String::from_utf8_lossy(&named).contains(key),
            "{text}: this server names it; nothing is left to show"
        );
        let (keys, _) = ours(&words);
        assert!(keys.contains(&key.as_bytes().to_vec()), "{text}: {keys:?}");
        assert!(is_settled(&mut server, &words, &[key.as_bytes().to_vec()]), "{text}: that is what it touches");
    }
}
