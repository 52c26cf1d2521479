//! Input that is no request, or hardly one: thousands of cases, generated and kept, whole and cut anywhere. What a real
//! Redis answers is the measure; nobody else notices.

use hearthside::resp::request::{RequestScanner, Scan};

use crate::support::admin::metric;
use crate::support::redis::Redis;
use crate::support::setting;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

/// Cases that once were wrong, or nearly: one a line, escaped as in Rust.
const KEPT: &str = include_str!("malformed.txt");

/// Requests that do little, to be spoilt.
const SOUND: [&str; 8] =
    ["PING", "ECHO a", "GET k", "SET k 1", "MGET a b c", "HGET item:apple:def name", "LRANGE l 0 -1", "STRLEN k"];

fn kept() -> Vec<Vec<u8>> {
    let unescape = |text: &str| {
        let (mut bytes, mut rest) = (Vec::new(), text.bytes());
        while let Some(byte) = rest.next() {
            bytes.push(match (byte, byte == b'\\') {
                (_, true) => match rest.next().expect("an escape") {
                    b'r' => b'\r',
                    b'n' => b'\n',
                    b'x' => {
                        let digits = [rest.next().expect("a digit"), rest.next().expect("a digit")];
                        u8::from_str_radix(std::str::from_utf8(&digits).expect("digits"), 16).expect("digits")
                    }
                    other => other,
                },
                (byte, false) => byte,
            });
        }
        bytes
    };
    KEPT.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(unescape).collect()
}

/// One case: sound requests, of which something is spoilt.
fn spoilt(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..random.usize(1..4)).flat_map(|_| line(random.choice(SOUND).expect("some"))).collect();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(0..bytes.len().max(1)).min(bytes.len().saturating_sub(1));
        match random.u8(0..9) {
            0 if !bytes.is_empty() => bytes[at] = random.u8(..),
            1 => bytes.insert(at, random.u8(..)),
            2 if bytes.len() > 1 => drop(bytes.remove(at)),
            3 => bytes.truncate(at),
            4 => drop(bytes.splice(at..at, random.choice(NUMBERS).expect("some").bytes())),
            5 => drop(bytes.splice(at..at, *b"\r\n")),
            6 => drop(bytes.splice(at..at, random.choice(FRAMES).expect("some").bytes())),
            7 => drop(bytes.splice(at..at, *b"GET \"k\x01\r\n")),
            _ => bytes.extend_from_slice(random.choice(FRAMES).expect("some").as_bytes()),
        }
    }
    bytes
}

const NUMBERS: [&str; 8] = ["-1", "0", "00", "+1", "9223372036854775808", "1048576", "99999999", "1e3"];
const FRAMES: [&str; 14] = [
    "*-1\r\n",
    "*0\r\n",
    "*1\r\n$-1\r\n",
    "*2\r\n$4\r\nPING\r\n",
    "$5\r\n",
    "+OK\r\n",
    "-ERR\r\n",
    ":1\r\n",
    ">2\r\n",
    "%1\r\n",
    "\r\n",
    "\n",
    "'",
    "*1\n$4\nPING\n",
];

fn cases() -> Vec<Vec<u8>> {
    let count = setting("HEARTHSIDE_MALFORMED", 5000) as usize;
    let mut random = fastrand::Rng::with_seed(setting("HEARTHSIDE_SEED", 20_261_122));
    let mut cases = kept();
    assert!(cases.len() > 40, "the kept ones are there");
    cases.extend(std::iter::repeat_with(|| spoilt(&mut random)).filter(|case| is_harmless(case)).take(count));
    cases
}

/// What would make either side wait, or tell something else each time, is no case for a comparison.
fn is_harmless(case: &[u8]) -> bool {
    let text = String::from_utf8_lossy(case).to_ascii_uppercase();
    !["HELLO", "CLIENT", "SUBSCRIBE", "MONITOR", "BL", "SYNC", "INFO", "TIME", "POST", "HOST:", "KEYS", "SCAN", "EXIST"]
        .iter()
        .any(|word| text.contains(word))
}

/// Everything that a scan finds in `bytes` when they come in two parts.
fn found(bytes: &[u8], split: usize) -> Vec<String> {
    let (mut scanner, mut at, mut here, mut found) = (RequestScanner::default(), 0, split, Vec::new());
    loop {
        match scanner.scan(&bytes[at..here]) {
            Ok(Scan::Incomplete) if here < bytes.len() => here = bytes.len(),
            Ok(Scan::Incomplete) => return found,
            Ok(Scan::Complete(length)) => {
                found.push(format!("request of {length}: {:?}", scanner.spans()));
                at += length;
            }
            Ok(Scan::Inline(length, words)) => {
                found.push(format!("inline of {length}: {words:?}"));
                at += length;
            }
            Ok(Scan::Empty(length)) => at += length,
            Err(fault) => {
                found.push(fault.to_string());
                return found;
            }
        }
    }
}

#[test]
fn a_case_means_the_same_at_every_split() {
    for case in cases() {
        let whole = found(&case, case.len());
        for split in 0..case.len() {
            assert_eq!(found(&case, split), whole, "{:?} split at {split}", String::from_utf8_lossy(&case));
        }
    }
}

/// What comes back for a case in two parts, up to its end.
fn answer(mut wire: Wire, case: &[u8], split: usize) -> Vec<u8> {
    let (first, second) = case.split_at(split);
    // Whoever answers a fault closes at once: the rest may not be taken any more.
    if wire.try_send(first) && wire.try_send(second) {
        wire.try_finish_sending();
    }
    wire.rest()
}

#[test]
fn a_case_is_answered_as_redis_does_and_nobody_notices() {
    let (redis, twin) = (Redis::start(), Redis::start());
    let builder = Sidecar::builder().redis(&redis).set("LIMITS__REQUEST_ARGUMENTS", i32::MAX.to_string());
    let sidecar = builder.set("SERVER__WORKERS", "1").expect(&[warnings::SPEAKS_HTTP]).start();
    twin.wire().ask("HSET item:apple:def name Apple");
    let mut other = sidecar.wire();
    let mut random = fastrand::Rng::with_seed(7);
    let (mut told, mut faults) = (0, 0);
    for (i, case) in cases().iter().enumerate() {
        let split = random.usize(0..=case.len());
        let (ours, theirs) = (answer(sidecar.wire(), case, split), answer(twin.wire(), case, split));
        let [ours, theirs] = [ours, theirs].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        // The setting stands behind Redis's words.
        let ours = ours.replace(": more than 536870912 bytes (limits.request_argument)", "");
        // A byte may make another command of one, which an owned key does not take.
        if ours.contains("hearthside: ") {
            continue;
        }
        assert_eq!(ours, theirs, "{:?} split at {split}", String::from_utf8_lossy(case));
        told += usize::from(!ours.is_empty());
        faults += usize::from(ours.contains("-ERR Protocol error"));
        if i % 50 == 0 {
            let value = i.to_string();
            assert_eq!(other.ask(&format!("ECHO {i}")), format!("${}\r\n{i}\r\n", value.len()));
        }
    }
    assert!(told > 1000 && faults > 300, "{told} cases are answered, {faults} of them with a fault");
    assert!(metric(&sidecar, "hearthside_protocol_errors_total") >= faults as f64);
    assert_eq!(metric(&sidecar, "hearthside_panics_total"), 0.0);
    assert!(metric(&sidecar, "hearthside_client_buffer_bytes") < 1e6);
}
