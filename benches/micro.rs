//! The steps of a request's road, each by itself, many times: `scripts/bench-micro` counts their instructions, which do
//! not depend on what else the machine does. `cargo bench --bench micro -- STEP TIMES`

#![allow(missing_docs, reason = "a program, not a library")]
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program for developers")]

use std::hint::black_box;

use bytes::BytesMut;
use hearthside::command::{Request, lookup};
use hearthside::keys::{Keyspace, Pattern};
use hearthside::mapping::Kind;
use hearthside::record::{Record, Verb, View, verb_of};
use hearthside::resp::reply::ReplyScanner;
use hearthside::resp::request::{RequestScanner, Scan};
use hearthside::resp::{Proto, encode};
use hearthside::route::Router;

type Step = fn(usize);

const STEPS: [(&str, Step); 8] = [
    ("scan-request", scan_request),
    ("route", route),
    ("route-400", |times| routed(&many(400), &["HGETALL", "player:1234:d399"], times)),
    ("pass-1", |times| routed(&many(1), &["GET", "player:1234:name"], times)),
    ("pass-400", |times| routed(&many(400), &["GET", "player:1234:name"], times)),
    ("answer-hgetall", answer_hgetall),
    ("encode-record", encode_record),
    ("scan-reply", scan_reply),
];

fn request(words: &[&str]) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode::request(&mut bytes, words);
    bytes
}

fn session() -> Vec<(&'static [u8], &'static [u8])> {
    let fields: [(&str, &str); 12] = [
        ("worker_id", "worker-1"),
        ("websocket_connected", "true"),
        ("location_id", "ruins_entrance"),
        ("hp", "90"),
        ("max_hp", "100"),
        ("stamina", "80"),
        ("max_stamina", "100"),
        ("level", "7"),
        ("xp", "12345"),
        ("last_movement_time", "1790000000"),
        ("in_combat", "false"),
        ("last_heartbeat", "1790000001"),
    ];
    fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
}

fn scan_request(times: usize) {
    let (bytes, mut scanner) = (request(&["HGETALL", "player:1234:session"]), RequestScanner::default());
    for _ in 0..times {
        assert!(matches!(scanner.scan(black_box(&bytes)), Ok(Scan::Complete(_))));
    }
}

fn route(times: usize) {
    let patterns = ["location:{location_id}:cache", "player:{id:int}:session", "player:{id:int}:inventory"];
    routed(&patterns.map(str::to_owned), &["HGETALL", "player:1234:session"], times);
}

/// So many patterns that begin alike.
fn many(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("player:{{id:int}}:d{i}")).collect()
}

fn routed(patterns: &[String], words: &[&str], times: usize) {
    let patterns = patterns.iter().map(|pattern| Pattern::parse(pattern).expect("a pattern"));
    let kinds = vec![Kind::Cache; patterns.len()];
    let router = Router::new(Keyspace::new(patterns.collect()), kinds, &[]);
    let (bytes, mut scanner) = (request(words), RequestScanner::default());
    scanner.scan(&bytes).expect("a request");
    for _ in 0..times {
        let request = Request::new(black_box(&bytes), scanner.spans());
        black_box(router.route(&request, lookup(request.arg(0), request.arg(1))));
    }
}

fn answer_hgetall(times: usize) {
    let record = Record::hash(&session()).expect("a record");
    let (bytes, mut scanner) = (request(&["HGETALL", "player:1234:session"]), RequestScanner::default());
    scanner.scan(&bytes).expect("a request");
    let Some(Verb::Read(answer)) = verb_of(lookup(b"HGETALL", b"").expect("a command")) else { return };
    let mut out = BytesMut::with_capacity(4096);
    for _ in 0..times {
        out.clear();
        let view = View { record: Some(black_box(&record)), expires_in: None };
        answer(&Request::new(&bytes, scanner.spans()), &view, Proto::Resp2, &mut out).expect("a hash");
    }
}

fn encode_record(times: usize) {
    let fields = session();
    for _ in 0..times {
        black_box(Record::hash(black_box(&fields)).expect("a record"));
    }
}

fn scan_reply(times: usize) {
    let mut bytes = BytesMut::new();
    encode::bulk(&mut bytes, b"abc");
    let mut scanner = ReplyScanner::default();
    for _ in 0..times {
        assert!(scanner.scan(black_box(&bytes)).expect("a reply").end.is_some());
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let step = words.first().and_then(|name| STEPS.iter().find(|(known, _)| known == name));
    match (step, words.get(1).and_then(|times| times.parse().ok())) {
        (Some((_, run)), Some(times)) => run(times),
        _ => STEPS.iter().for_each(|(name, _)| println!("{name}")),
    }
}
