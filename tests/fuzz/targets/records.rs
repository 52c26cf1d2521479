//! Commands on records: each is answered with one whole reply, or an error, in either protocol.
#![no_main]

use std::time::Duration;

use bytes::BytesMut;
use hearthside::command::{Request, lookup};
use hearthside::record::{Record, Verb, View, verb_of};
use hearthside::resp::reply::ReplyScanner;
use hearthside::resp::request::{RequestScanner, Scan};
use hearthside::resp::{Proto, encode};
use libfuzzer_sys::fuzz_target;

const COMMANDS: [&str; 24] = [
    "HGET", "HMGET", "HGETALL", "HEXISTS", "HLEN", "HKEYS", "HVALS", "HSTRLEN", "HRANDFIELD", "HSCAN", "LRANGE", "LLEN",
    "LINDEX", "LPOS", "GET", "STRLEN", "GETRANGE", "SMEMBERS", "SISMEMBER", "SMISMEMBER", "SCARD", "SRANDMEMBER", "SSCAN", "TTL",
];

fuzz_target!(|input: (u8, u8, Vec<&[u8]>, Vec<&[u8]>)| {
    let (command, shape, elements, arguments) = input;
    let pairs: Vec<(&[u8], &[u8])> = elements.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let record = match shape % 4 {
        0 => Record::hash(&pairs),
        1 => Record::list(&elements),
        2 => Record::set(&elements),
        _ => Record::string(elements.first().copied().unwrap_or_default()),
    };
    let Ok(record) = record else { return };
    let name = COMMANDS[usize::from(command) % COMMANDS.len()];
    let words: Vec<&[u8]> = [name.as_bytes(), b"key"].into_iter().chain(arguments).collect();
    let (mut raw, mut scanner) = (BytesMut::new(), RequestScanner::default());
    encode::request(&mut raw, &words);
    assert!(matches!(scanner.scan(&raw), Ok(Scan::Complete(_))));
    let request = Request::new(&raw, scanner.spans());
    let Some(spec) = lookup(request.arg(0), request.arg(1)).filter(|spec| spec.accepts(request.len())) else { return };
    let Some(Verb::Read(answer) | Verb::Inspect(answer)) = verb_of(spec) else { return };
    for (proto, record) in [(Proto::Resp2, Some(&record)), (Proto::Resp3, Some(&record)), (Proto::Resp2, None)] {
        let mut out = BytesMut::new();
        let view = View { record, expires_in: Some(Duration::from_secs(7)) };
        if answer(&request, &view, proto, &mut out).is_ok() {
            let step = ReplyScanner::default().scan(&out).expect("a reply");
            assert!(step.end.is_some() && step.used == out.len(), "{:?}", String::from_utf8_lossy(&out));
        }
    }
});
