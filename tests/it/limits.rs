//! Limits: the newcomer beyond one is refused, and those who are in go on.

use crate::support::admin::{metric, request, request_with};
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::{until, wire::Wire};

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
    let sidecar = Sidecar::builder().redis(&redis).set("LIMITS__CLIENTS", "3").start();
    let mut inside = come_in(&sidecar, 3);
    assert_eq!(refused(&sidecar).as_deref(), Some("-ERR max number of clients reached (limits.clients)\r\n"));
    assert_eq!(metric(&sidecar, "hearthside_clients_refused_total{reason=\"clients\"}"), 1.0);
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
    let sidecar = builder.set("LIMITS__CLIENTS_PER_ADDRESS", "2").start();
    let _inside = come_in(&sidecar, 2);
    let told = refused(&sidecar).expect("an error");
    assert!(told.contains("limits.clients_per_address"), "{told}");
    assert_eq!(metric(&sidecar, "hearthside_clients_refused_total{reason=\"clients_per_address\"}"), 1.0);
    let mut local = Wire::unix(&path.display().to_string());
    assert_eq!(local.ask("HGET item:apple:def name"), "$5\r\nApple\r\n", "a Unix socket has no address");
}

#[test]
fn where_few_files_may_be_open_fewer_clients_are_let_in() {
    let redis = Redis::start();
    let one = Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "1");
    let few = one.set("UPSTREAM__PINNED_MAX", "10").open_files(158);
    let sidecar = few.start();
    assert!(sidecar.log().contains("too few files may be open"), "{}", sidecar.log());
    // Half of them.
    let _inside = come_in(&sidecar, 79);
    assert!(refused(&sidecar).is_some_and(|told| told.contains("limits.clients")));
}

#[test]
fn the_admin_port_asks_for_its_token() {
    let redis = Redis::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    std::fs::write(&path, "open sesame\n").expect("written");
    // Readiness and what it waits for are seen by the probes alone here.
    let sidecar = Sidecar::builder().redis(&redis).set("ADMIN__TOKEN_FILE", path.display().to_string()).start_guarded();
    for probe in ["/livez", "/readyz"] {
        assert_eq!(request(&sidecar, "GET", probe).0, 200, "{probe}");
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
    assert!(code == Some(2) && told.contains("server.listen: '0.0.0.0:0'") && told.contains("admin.listen"), "{told}");
    assert!(!told.contains("'127.0.0.1:0'"), "{told}");
    let (code, told) = run(&[("SERVER__LISTEN", "0.0.0.0:0"), ("SECURITY__ALLOW_NO_AUTH", "true")]);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = run(&[("SERVER__LISTEN", "0.0.0.0:0"), ("AUTH__MODE", "upstream")]);
    assert_eq!(code, Some(0), "{told}");
}
