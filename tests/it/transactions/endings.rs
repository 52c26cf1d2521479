//! How a transaction ends, whatever ends it: in the client's eyes as in Redis, and with nothing left on a connection
//! that another client is lent afterwards.

use crate::support::admin::metric;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

fn all(wire: &mut Wire, requests: &[&str]) -> Vec<String> {
    wire.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<u8>>());
    requests.iter().map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect()
}

/// A client that is lent what others have given back, and finds it clean.
fn finds_nothing(sidecar: &Sidecar) {
    let mut wire = sidecar.wire();
    let told = all(&mut wire, &["WATCH fresh", "MULTI", "INCR fresh", "HGET item:apple:def name", "EXEC"]);
    assert_eq!(told[..4], ["+OK\r\n", "+OK\r\n", "+QUEUED\r\n", "+QUEUED\r\n"]);
    assert!(told[4].starts_with("*2\r\n:"), "{told:?}");
}

/// RESET with arguments is an error, after which a client is what it was.
#[test]
fn a_reset_that_is_refused_ends_no_transaction() {
    let (redis, twin) = (Redis::start(), Redis::start());
    let sidecar = Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "1").start();
    for requests in [
        &["MULTI", "SET a 1", "RESET now", "SET b 1", "EXEC", "GET a", "GET b"][..],
        &["WATCH k", "RESET now", "SET k 1", "MULTI", "GET k", "EXEC", "GET k"],
        &["WATCH k", "MULTI", "SET k 2", "reset x y", "DISCARD", "SET k 3", "SET k 4"],
    ] {
        let (mut through, mut direct) = (sidecar.wire(), twin.wire());
        assert_eq!(all(&mut through, requests), all(&mut direct, requests), "{requests:?}");
        let one_by_one = |wire: &mut Wire| requests.iter().map(|request| wire.ask(request)).collect::<Vec<_>>();
        assert_eq!(one_by_one(&mut through), one_by_one(&mut direct), "{requests:?}");
        finds_nothing(&sidecar);
    }
}

/// The upstream may refuse to end what a client has ended.
#[test]
fn what_the_upstream_does_not_end_is_left_to_nobody() {
    let redis = Redis::start();
    redis.wire().ask("ACL SETUSER service on >word ~* &* +@all -discard -unwatch");
    let url = format!("redis://service:word@127.0.0.1:{}", redis.port);
    let sidecar = Sidecar::builder().set("UPSTREAM__URL", url).set("SERVER__WORKERS", "1").start();
    let mut wire = sidecar.wire();
    assert_eq!(all(&mut wire, &["MULTI", "SELECT 0", "SET a 1", "DISCARD"])[3], "+OK\r\n");
    finds_nothing(&sidecar);
    assert_eq!(all(&mut wire, &["WATCH a", "UNWATCH"]), ["+OK\r\n"; 2]);
    redis.wire().ask("SET a 2");
    finds_nothing(&sidecar);
    assert_eq!(wire.ask("GET a"), "$1\r\n2\r\n");
}

/// A client that holds too much is closed in the middle of EXEC's reply, behind which its connection was moved.
#[test]
fn a_transaction_whose_reply_is_too_much_leaves_its_connection_to_nobody() {
    let redis = Redis::start();
    let config = "[[definitions]]\nkey = \"big:{id}\"\ntype = \"hash\"\n\
                  query = \"SELECT 'one' AS id, hex(zeroblob(524288)) AS text\"\n\
                  [[definitions]]\nkey = \"item:{id}:def\"\ntype = \"hash\"\n\
                  query = \"SELECT 'apple' AS id, 'Apple' AS name\"\n";
    let builder = Sidecar::builder().redis(&redis).config(config).set("SERVER__WORKERS", "1");
    let sidecar = builder.set("LIMITS__BUFFERS", "8mb").expect(&[warnings::DOES_NOT_READ]).start();
    for state in ["SELECT 5", "SUBSCRIBE c", "CLIENT NO-EVICT ON"] {
        let mut deaf = sidecar.wire();
        let big = ["HGET big:one text"; 20];
        let requests = [&["MULTI", "SET a 1"][..], &big, &[state, "SET b 1", "EXEC"]].concat();
        deaf.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<u8>>());
        deaf.rest();
        until("it is gone", || metric(&sidecar, "hearthside_clients") == 0.0);
        finds_nothing(&sidecar);
        let mut wire = sidecar.wire();
        assert_eq!(all(&mut wire, &["WATCH w", "MULTI", "SET here yes", "EXEC"])[3], "*1\r\n+OK\r\n");
        assert_eq!(redis.wire().ask("GETDEL here"), "$3\r\nyes\r\n", "after {state}");
        assert_eq!(redis.wire().ask("PUBLISH c hello"), ":0\r\n", "after {state}");
    }
}

/// A request that waits until what is on the other road has been answered is one request all the same.
#[test]
fn who_watches_pays_for_each_request_once() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).set("LIMITS__REQUESTS_PER_SECOND", "100").start();
    let mut wire = sidecar.wire();
    let requests = ["WATCH a", "GET a"].repeat(45);
    let told = all(&mut wire, &requests);
    assert!(told.iter().all(|reply| reply == "+OK\r\n" || reply == "$-1\r\n"), "{told:?}");
    let mut inline = sidecar.wire();
    inline.send(&b"WATCH a\r\nGET a\r\n".repeat(45));
    for _ in 0..45 {
        assert_eq!([inline.frame(), inline.frame()], [b"+OK\r\n".to_vec(), b"$-1\r\n".to_vec()]);
    }
}

#[test]
fn a_transaction_that_comes_in_pieces_is_paid_for_once() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).set("LIMITS__REQUESTS_PER_SECOND", "4").start();
    let mut wire = sidecar.wire();
    wire.send(&[line("MULTI"), line("SET a 1")].concat());
    assert_eq!(wire.frame(), b"+OK\r\n");
    wire.send(&[line("EXEC"), line("PING")].concat());
    let told: Vec<Vec<u8>> = (0..3).map(|_| wire.frame()).collect();
    assert_eq!(told[2], b"+PONG\r\n", "the fourth");
}

/// Also in a transaction that is passed on as a whole.
#[test]
fn an_argument_past_its_limit_is_refused_inside_multi() {
    let redis = Redis::start();
    for (setting, value) in [("LIMITS__REQUEST_ARGUMENT", "1kb"), ("LIMITS__REQUEST_ARGUMENTS", "5")] {
        let sidecar = Sidecar::builder().redis(&redis).set(setting, value).start();
        let long =
            if value == "5" { format!("MSET k{}", " v k".repeat(6)) } else { format!("SET k {}", "v".repeat(2000)) };
        for requests in [&[long.as_str()][..], &["MULTI", &long, "EXEC"], &["MULTI", "SET a 1", &long, "EXEC"]] {
            let mut wire = sidecar.wire();
            wire.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<u8>>());
            let told = String::from_utf8_lossy(&wire.rest()).into_owned();
            assert!(told.contains("-ERR Protocol error: "), "{setting}: {told}");
        }
        assert_eq!(redis.wire().ask("DBSIZE"), ":0\r\n");
    }
}

/// What would switch replies on says nothing where it is an error, or is only queued.
#[test]
fn an_error_is_not_told_to_who_wants_no_replies() {
    let (redis, twin) = (Redis::start(), Redis::start());
    let sidecar = Sidecar::builder().redis(&redis).start();
    for silent in ["RESET now", "CLIENT REPLY", "CLIENT REPLY ON now"] {
        for within in [&[silent][..], &["MULTI", silent, "DISCARD"]] {
            let requests = [&["CLIENT REPLY OFF"][..], within, &["CLIENT REPLY ON", "PING end"]].concat();
            let heard = [sidecar.wire(), twin.wire()].map(|mut wire| {
                wire.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<u8>>());
                [wire.frame(), wire.frame()].map(|frame| String::from_utf8_lossy(&frame).into_owned())
            });
            assert_eq!(heard, [["+OK\r\n", "$3\r\nend\r\n"]; 2], "{requests:?}");
        }
    }
}
