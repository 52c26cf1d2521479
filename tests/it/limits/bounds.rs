//! Limits: the newcomer beyond one is refused, and those who are in go on.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use crate::support::admin::{metric, request, request_with};
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, array, connect_narrow, line};

/// What Redis says, to the letter: redis-py and others compare the whole text.
const FULL: &str = "-ERR max number of clients reached\r\n";
/// What a newcomer is told, and that it is closed then.
fn refused(sidecar: &Sidecar) -> Option<String> {
    let mut newcomer = sidecar.wire();
    let told = newcomer.rest();
    (!told.is_empty()).then(|| String::from_utf8_lossy(&told).into_owned())
}

/// How many may come in at once, all of them served.
fn come_in(sidecar: &Sidecar, count: usize) -> Vec<Wire> {
    let mut all: Vec<Wire> = (0..count).map(|_| sidecar.wire()).collect();
    for wire in &mut all {
        assert_eq!(wire.ask("HGET item:apple:def name"), "$5\r\nApple\r\n");
    }
    all
}

#[test]
fn clients_beyond_the_limit_are_refused_until_somebody_leaves() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).set("LIMITS__CLIENTS", "3").expect(&[warnings::NO_ROOM]).start();
    let mut inside = come_in(&sidecar, 3);
    assert_eq!(refused(&sidecar).as_deref(), Some(FULL));
    let said = sidecar.log().lines().find(|line| line.contains(warnings::NO_ROOM)).map(str::to_owned).expect("a line");
    assert!(said.contains("limits.clients") && said.contains("address=\"127.0.0.1:"), "{said}");
    assert_eq!(refused(&sidecar).as_deref(), Some(FULL));
    assert_eq!(sidecar.log().matches(warnings::NO_ROOM).count(), 1, "the next one is only counted");
    assert_eq!(metric(&sidecar, "hearthside_clients_refused_total{reason=\"clients\"}"), 2.0);
    assert_eq!(metric(&sidecar, "hearthside_clients"), 3.0);
    for (i, wire) in inside.iter_mut().enumerate() {
        assert_eq!(wire.ask(&format!("ECHO still-{i}")), format!("$7\r\nstill-{i}\r\n"), "those inside go on");
    }
    inside.pop();
    until("its place is free", || metric(&sidecar, "hearthside_clients") == 2.0);
    come_in(&sidecar, 1);
}

#[test]
fn one_address_may_not_take_every_place() {
    let redis = Redis::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s.sock");
    let both = format!("127.0.0.1:0, unix://{}", path.display());
    let builder = Sidecar::builder().redis(&redis).set("SERVER__LISTEN", both);
    let sidecar = builder.set("LIMITS__CLIENTS_PER_ADDRESS", "2").expect(&[warnings::NO_ROOM]).start();
    let _inside = come_in(&sidecar, 2);
    assert_eq!(refused(&sidecar).as_deref(), Some(FULL));
    assert!(sidecar.log().contains("limits.clients_per_address"), "{}", sidecar.log());
    assert_eq!(metric(&sidecar, "hearthside_clients_refused_total{reason=\"clients_per_address\"}"), 1.0);
    let mut local = Wire::unix(&path.display().to_string());
    assert_eq!(local.ask("HGET item:apple:def name"), "$5\r\nApple\r\n", "a Unix socket has no address");
}

#[test]
fn where_few_files_may_be_open_fewer_clients_are_let_in() {
    let redis = Redis::start();
    let one = Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "1");
    let few = one.set("UPSTREAM__PINNED_MAX", "10").open_files(158);
    let sidecar = few.expect(&[warnings::NO_ROOM]).start();
    assert!(sidecar.log().contains("too few files may be open"), "{}", sidecar.log());
    // Half of them.
    let _inside = come_in(&sidecar, 79);
    assert_eq!(refused(&sidecar).as_deref(), Some(FULL));
}

#[test]
fn the_admin_port_asks_for_its_token() {
    let redis = Redis::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    std::fs::write(&path, "open sesame\n").expect("written");
    // Readiness and what it waits for are seen by the probes alone here.
    let sidecar = Sidecar::builder()
        .redis(&redis)
        .set("ADMIN__TOKEN_FILE", path.display().to_string())
        .expect(&[warnings::ADMIN_REFUSED])
        .start_guarded();
    for probe in ["/livez", "/readyz"] {
        // The change feed may not be up yet.
        until(probe, || request(&sidecar, "GET", probe).0 == 200);
    }
    for (method, path) in [("GET", "/metrics"), ("POST", "/invalidate?key=a"), ("POST", "/reload")] {
        for wrong in ["", "Authorization: Bearer open\r\n", "Authorization: Basic open sesame\r\n"] {
            let (status, body) = request_with(&sidecar, method, path, wrong);
            assert!(status == 401 && body.contains("admin.token_file"), "{path}: {status} {body}");
        }
        let (status, body) = request_with(&sidecar, method, path, "Authorization: Bearer open sesame\r\n");
        assert_eq!(status, 200, "{path}: {body}");
    }
    assert!(!sidecar.log().contains("sesame"));
    let (_, metrics) = request_with(&sidecar, "GET", "/metrics", "Authorization: Bearer open sesame\r\n");
    assert!(metrics.contains("hearthside_admin_refused_total{reason=\"token\"} 9"), "{metrics}");
    for (text, fault) in [("", "is empty"), ("gone", "No such file")] {
        let file = if text.is_empty() { &path } else { &folder.path().join("gone") };
        std::fs::write(&path, text).expect("written");
        let done = Sidecar::builder().set("ADMIN__TOKEN_FILE", file.display().to_string()).execute(&["run"]);
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(2) && told.contains("admin.token_file") && told.contains(fault), "{told}");
    }
}

#[test]
fn clients_that_ask_nothing_are_closed_and_those_that_wait_for_something_are_not() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).set("LIMITS__IDLE_TIMEOUT", "3s").start();
    let [mut idle, mut busy, mut subscriber, mut blocked] = [(); 4].map(|()| sidecar.wire());
    idle.ask("PING");
    subscriber.send(b"SUBSCRIBE news\r\n");
    subscriber.frame();
    blocked.send(b"BLPOP jobs 0\r\n");
    let mut asked = 0;
    until("the idle one is closed", || {
        asked += 1;
        assert_eq!(busy.ask(&format!("ECHO {asked}")), format!("${}\r\n{asked}\r\n", asked.to_string().len()));
        metric(&sidecar, "hearthside_clients_idle_total") == 1.0
    });
    assert!(idle.rest().is_empty());
    busy.ask("PUBLISH news hello");
    assert!(String::from_utf8_lossy(&subscriber.frame()).contains("hello"));
    busy.ask("RPUSH jobs one");
    assert!(String::from_utf8_lossy(&blocked.frame()).contains("one"));
}

#[test]
fn nothing_listens_beyond_loopback_where_nobody_has_to_authenticate() {
    let run = |settings: &[(&str, &str)]| {
        let set = settings.iter().fold(Sidecar::builder(), |builder, (name, value)| builder.set(name, *value));
        let done = set.execute(&["check"]);
        (done.status.code(), String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
    };
    let (code, told) = run(&[("SERVER__LISTEN", "127.0.0.1:0, 0.0.0.0:0"), ("ADMIN__LISTEN", "0.0.0.0:0")]);
    assert!(code == Some(2) && told.contains("server.listen: '0.0.0.0:0'") && !told.contains("admin.listen"), "{told}");
    assert!(!told.contains("'127.0.0.1:0'"), "{told}");
    let (code, told) = run(&[("SERVER__LISTEN", "0.0.0.0:0"), ("SECURITY__ALLOW_NO_AUTH", "true")]);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = run(&[("SERVER__LISTEN", "0.0.0.0:0"), ("AUTH__MODE", "upstream")]);
    assert_eq!(code, Some(0), "{told}");
}

fn reached(sidecar: &Sidecar, limit: &str) -> f64 {
    metric(sidecar, &format!("hearthside_limits_reached_total{{limit=\"{limit}\"}}"))
}

#[test]
fn requests_of_too_many_arguments_or_bytes_are_refused() {
    let redis = Redis::start();
    let builder = Sidecar::builder().redis(&redis).set("LIMITS__REQUEST_ARGUMENTS", "1000");
    let sidecar = builder.set("LIMITS__REQUEST", "64kb").set("LIMITS__REQUEST_ARGUMENT", "8mb").start();
    let mut others = sidecar.wire();
    let mut many = sidecar.wire();
    many.send(b"*1001\r\n");
    let told = String::from_utf8_lossy(&many.rest()).into_owned();
    assert_eq!(
        told,
        "-ERR Protocol error: invalid multibulk length: more than 1000 arguments (limits.request_arguments)\r\n"
    );
    let mut long = sidecar.wire();
    long.send(b"*900\r\n$4\r\nMSET\r\n");
    long.send(format!("$100\r\n{}\r\n", "x".repeat(100)).repeat(700).as_bytes());
    let told = String::from_utf8_lossy(&long.rest()).into_owned();
    assert_eq!(told, "-ERR Protocol error: the request is too long (limits.request)\r\n");
    for (before, rest) in [("*2\r\n$4\r\nECHO\r\n", ""), ("*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$4194304\r\n", "...")] {
        let mut large = sidecar.wire();
        large.send(before.as_bytes());
        if !rest.is_empty() {
            // What follows an argument that is passed on as it comes is looked at, too.
            large.send(format!("{}\r\n", "v".repeat(4 << 20)).as_bytes());
        }
        large.send(b"$8388609\r\n");
        let told = String::from_utf8_lossy(&large.rest()).into_owned();
        let past = "-ERR Protocol error: invalid bulk length: more than 8388608 bytes (limits.request_argument)\r\n";
        assert_eq!(told, past);
    }
    assert_eq!(reached(&sidecar, "request_argument"), 2.0);
    assert_eq!((reached(&sidecar, "request_arguments"), reached(&sidecar, "request")), (1.0, 1.0));
    assert_eq!(others.ask("ECHO on"), "$2\r\non\r\n");
    // A long argument is handed on as it comes, and needs no room.
    let value = "v".repeat(4 << 20);
    assert_eq!(others.call(&["SET", "long", &value]), b"+OK\r\n");
}

#[test]
fn what_a_client_sends_while_it_waits_is_bounded() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).set("LIMITS__PIPELINE", "64kb").start();
    let mut wire = sidecar.wire();
    wire.send(&line("BLPOP jobs 0"));
    let (count, mut sender) = (20_000, wire.twin());
    let batch = line("ECHO waits-its-turn").repeat(count);
    let sends = std::thread::spawn(move || sender.send(&batch));
    until("what it sends is read", || metric(&sidecar, "hearthside_client_buffer_bytes") >= 65_536.0);
    assert!(metric(&sidecar, "hearthside_client_buffer_bytes") < 200_000.0, "and not much of it");
    redis.wire().ask("RPUSH jobs one");
    assert!(String::from_utf8_lossy(&wire.frame()).contains("one"));
    for _ in 0..count {
        assert_eq!(wire.frame(), b"$14\r\nwaits-its-turn\r\n");
    }
    sends.join().expect("sent");
    until("nothing is held any more", || metric(&sidecar, "hearthside_client_buffer_bytes") == 0.0);
}

#[test]
fn memory_for_clients_is_bounded_in_all() {
    let redis = Redis::start();
    let builder = Sidecar::builder()
        .redis(&redis)
        .set("LIMITS__BUFFERS", "4mb")
        .expect(&[warnings::DOES_NOT_READ, warnings::NO_ROOM]);
    let sidecar = builder.start();
    let mut small = sidecar.wire();
    small.send(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n");
    let mut large = sidecar.wire();
    large.send(b"*100\r\n$4\r\nMSET\r\n");
    // It may be cut before it has sent all.
    large.try_send(format!("$100000\r\n{}\r\n", "x".repeat(100_000)).repeat(60).as_bytes());
    assert!(large.rest().is_empty(), "the one that holds most is cut");
    until("it is counted", || reached(&sidecar, "buffers") == 1.0);
    small.send(b"$1\r\n1\r\n");
    assert_eq!(small.frame(), b"+OK\r\n", "the others go on");
    until("newcomers are let in", || sidecar.wire().ask("PING") == "+PONG\r\n");
}

#[test]
fn a_client_that_asks_too_fast_is_refused_what_is_too_much() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).set("LIMITS__REQUESTS_PER_SECOND", "50").start();
    let (mut fast, mut slow) = (sidecar.wire(), sidecar.wire());
    fast.send(&line("SET a 1").repeat(200));
    let replies: Vec<_> = (0..200).map(|_| String::from_utf8_lossy(&fast.frame()).into_owned()).collect();
    let taken = replies.iter().filter(|reply| *reply == "+OK\r\n").count();
    assert!((50..200).contains(&taken), "{taken}");
    assert!(replies[199].starts_with("-ERR hearthside: this client sends more than 50 requests a second"));
    assert_eq!(reached(&sidecar, "requests_per_second"), 200.0 - taken as f64);
    assert_eq!(slow.ask("GET a"), "$1\r\n1\r\n");
    until("it may ask again", || fast.ask("GET a") == "$1\r\n1\r\n");
}

#[test]
fn clients_that_read_too_slowly_are_cut_by_their_class() {
    let redis = Redis::start();
    redis.wire().call(&["SET", "long", &"v".repeat(1 << 20)]);
    let soft = |class: &str| (format!("LIMITS__{class}_OUTPUT_SOFT"), format!("LIMITS__{class}_OUTPUT_SOFT_TIME"));
    let mut builder = Sidecar::builder()
        .redis(&redis)
        .set("PUBSUB__MODE", "shared")
        .expect(&[warnings::DOES_NOT_READ, warnings::DOES_NOT_READ_MESSAGES]);
    for class in ["CLIENT", "SUBSCRIBER"] {
        let (size, time) = soft(class);
        builder = builder.set(&size, "1mb").set(&time, "300ms");
    }
    let sidecar = builder.start();
    let (mut reads, mut deaf, mut listens) = (sidecar.wire(), sidecar.wire(), sidecar.wire());
    deaf.send(&line("GET long").repeat(40));
    until("a client is cut", || reached(&sidecar, "client_output_soft") == 1.0);
    listens.ask("SUBSCRIBE news");
    for _ in 0..40 {
        reads.call(&["PUBLISH", "news", &"n".repeat(500_000)]);
    }
    until("a subscriber is cut", || reached(&sidecar, "subscriber_output_soft") == 1.0);
    assert_eq!(reads.ask("GET long").len(), (1 << 20) + 12, "others go on");
}

/// With a connection of its own upstream a subscriber that does not read is Redis's to give up, and is not subscribed
/// again then: it has lost messages, and is closed as Redis closes it.
#[test]
fn a_subscriber_that_the_upstream_gives_up_is_closed_as_there() {
    let redis = Redis::start();
    let mut direct = redis.wire();
    assert_eq!(direct.call(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 0 0"]), b"+OK\r\n");
    let sidecar = Sidecar::builder().redis(&redis).expect(&[warnings::DOES_NOT_READ_MESSAGES]).start();
    let (mut deaf, mut reads) = (connect_narrow(sidecar.port), sidecar.wire());
    deaf.write_all(&line("SUBSCRIBE news")).expect("sends");
    reads.ask("SUBSCRIBE news");
    until("both have subscribed", || direct.ask("PUBSUB NUMSUB news").ends_with("news\r\n:2\r\n"));
    let mut published = 0;
    until("the upstream gives one up", || {
        published += 1;
        direct.call(&["PUBLISH", "news", &"n".repeat(30_000)]);
        assert!(reads.frame().len() > 30_000);
        direct.ask("PUBSUB NUMSUB news").ends_with("news\r\n:1\r\n")
    });
    let mut rest = Vec::new();
    deaf.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    let _reset = deaf.read_to_end(&mut rest).map_err(|error| assert_eq!(error.kind(), ErrorKind::ConnectionReset));
    assert!(rest.len() < published * 30_000, "it has not been given all");
    assert_eq!(metric(&sidecar, "hearthside_subscribers_restored_total"), 0.0);
    assert_eq!(reached(&sidecar, "client-output-buffer-limit"), 1.0);
    direct.ask("PUBLISH news still-there");
    assert!(String::from_utf8_lossy(&reads.frame()).contains("still-there"));
}

/// What is queued for EXEC, and the names of what is subscribed, are memory too.
#[test]
fn what_is_kept_for_later_counts() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let held = || metric(&sidecar, "hearthside_client_buffer_bytes");
    let mut queues = sidecar.wire();
    queues.ask("MULTI");
    for _ in 0..1000 {
        assert_eq!(queues.ask("HGET item:apple:def name"), "+QUEUED\r\n");
    }
    until("the queue counts", || held() > 100_000.0);
    queues.ask("DISCARD");
    until("nothing is queued", || held() == 0.0);
    let mut subscribes = sidecar.wire();
    let names: Vec<String> = (0..1000).map(|i| format!("channel-{i}-{}", "x".repeat(100))).collect();
    subscribes.send(&array(&[vec!["SUBSCRIBE".to_owned()], names].concat()));
    (0..1000).for_each(|_| drop(subscribes.frame()));
    until("the names count", || held() > 150_000.0);
    assert!(held() < 250_000.0);
    subscribes.send(&line("UNSUBSCRIBE"));
    (0..1000).for_each(|_| drop(subscribes.frame()));
    until("they are gone", || held() == 0.0);
}

#[test]
fn what_clients_tell_of_themselves_counts() {
    let redis = Redis::start();
    let sidecar =
        Sidecar::builder().redis(&redis).set("LIMITS__BUFFERS", "16mb").expect(&[warnings::DOES_NOT_READ]).start();
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    let held = || metric(&sidecar, "hearthside_client_buffer_bytes");
    let long = "n".repeat(1_000_000);
    for (words, bytes) in [
        (&["CLIENT", "SETNAME", &long][..], 1_000_000.0),
        (&["CLIENT", "SETINFO", "LIB-NAME", &long], 2_000_000.0),
        (&["CLIENT", "SETINFO", "LIB-VER", &long], 3_000_000.0),
        (&["CLIENT", "SETNAME", ""], 2_000_000.0),
    ] {
        assert_eq!(wire.call(words), b"+OK\r\n");
        until("it is counted", || held() == bytes);
    }
    assert_eq!(other.call(&["CLIENT", "SETNAME", &long.repeat(4)]), b"+OK\r\n");
    assert_eq!(other.call(&["CLIENT", "SETINFO", "LIB-NAME", &long.repeat(4)]), b"+OK\r\n");
    // That is half of the limit, and what is sent now is less than the other half: it may be cut before all of it has
    // arrived.
    other.try_send(&array(&["CLIENT", "SETINFO", "LIB-VER", &long.repeat(7)]));
    until("who holds most is cut", || metric(&sidecar, "hearthside_clients_cut_total") == 1.0);
    assert_eq!(wire.ask("PING"), "+PONG\r\n");
    until("it holds nothing any more", || held() == 2_000_000.0);
}
