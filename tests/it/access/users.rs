//! Who may come in, and what they may do: `auth.mode` users and upstream.

use crate::support::admin::metric;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::line;

/// Passwords: `secret` of game, `operator` of ops.
const USERS: &str = r#"
[auth]
mode = "users"
[[users]]
name = "game"
passwords = ["2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"]
commands = ["@all", "-@dangerous"]
keys = ["player:*", "item:*", "lock:*"]
channels = ["game:*"]
[[users]]
name = "ops"
passwords = ["06e55b633481f7bb072957eabcf110c972e86691c3cfedabe088024bffe42f23"]
commands = ["@all"]
keys = ["*"]
channels = ["*"]
[[definitions]]
key = "item:{item_id}:def"
type = "hash"
table = "items"
"#;

const NOPERM_KEY: &str = "-NOPERM this user has no permissions to access one of the keys used as arguments\r\n";

#[test]
fn users_come_in_with_their_passwords_and_do_what_they_may() {
    let redis = Redis::with(&["--requirepass", "service"]);
    let url = format!("redis://:service@127.0.0.1:{}", redis.port);
    let sidecar = Sidecar::builder().config(USERS).set("UPSTREAM__URL", url).expect(&[warnings::LOGIN_REFUSED]).start();
    let mut wire = sidecar.wire();
    for request in ["PING", "GET player:1", "SUBSCRIBE game:a", "MULTI", "HGET item:apple:def name", "CLIENT LIST"] {
        assert_eq!(wire.ask(request), "-NOAUTH Authentication required.\r\n", "{request}");
    }
    assert!(wire.ask("HELLO 3").starts_with("-NOAUTH HELLO must be called"));
    for request in ["AUTH game wrong", "AUTH nobody secret", "AUTH secret", "HELLO 3 AUTH game wrong"] {
        assert!(wire.ask(request).starts_with("-WRONGPASS"), "{request}");
    }
    assert_eq!(wire.ask("AUTH game secret"), "+OK\r\n");
    assert_eq!(wire.ask("SET player:1:x 1"), "+OK\r\n", "with the service's own credentials");
    assert_eq!(wire.ask("GET other"), NOPERM_KEY);
    assert_eq!(wire.ask("HGET item:apple:def name"), "$5\r\nApple\r\n");
    assert_eq!(wire.ask("FLUSHALL"), "-NOPERM this user has no permissions to run the 'flushall' command\r\n");
    assert!(
        wire.ask("PUBLISH other hi").starts_with("-NOPERM this user has no permissions to access one of the channels")
    );
    assert_eq!(wire.ask("PUBLISH game:a hi"), ":0\r\n");
    assert_eq!(wire.ask("ACL WHOAMI"), "$4\r\ngame\r\n");
    // What is refused inside MULTI ends the transaction.
    wire.send(&[line("MULTI"), line("SET player:1:x 2"), line("SET other 1"), line("EXEC")].concat());
    let replies: Vec<_> = (0..4).map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
    assert_eq!(replies[2], NOPERM_KEY);
    assert!(replies[3].starts_with("-EXECABORT"));
    // Another user on the same connection, and nobody after RESET.
    assert!(wire.ask("HELLO 3 AUTH ops operator SETNAME op").starts_with("%7\r\n"));
    assert_eq!(wire.ask("SET other 1"), "+OK\r\n");
    assert!(wire.ask("CLIENT LIST").contains("name=op") && wire.ask("CLIENT INFO").contains("user=ops"));
    assert_eq!(wire.ask("CLIENT KILL USER nobody"), "-ERR No such user 'nobody'\r\n");
    assert_eq!(wire.ask("RESET"), "+RESET\r\n");
    assert_eq!(wire.ask("GET other"), "-NOAUTH Authentication required.\r\n");
}

#[test]
fn what_nobody_has_sent_yet_is_small() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().config(USERS).redis(&redis).start();
    for (bytes, expected) in [
        (&b"*11\r\n$4\r\nPING\r\n"[..], "-ERR Protocol error: unauthenticated multibulk length\r\n"),
        (b"*2\r\n$4\r\nECHO\r\n$16385\r\n", "-ERR Protocol error: unauthenticated bulk length\r\n"),
    ] {
        let mut wire = sidecar.wire();
        wire.send(bytes);
        assert_eq!(String::from_utf8_lossy(&wire.rest()), expected);
    }
    let mut wire = sidecar.wire();
    wire.ask("AUTH game secret");
    assert_eq!(wire.call(&[&b"SET"[..], b"player:1", &vec![b'x'; 20_000]]), b"+OK\r\n");
}

#[test]
fn the_upstream_judges_its_own_users() {
    let redis = Redis::start();
    let mut direct = redis.wire();
    assert_eq!(direct.ask("ACL SETUSER game on >secret ~player:* +@all -@dangerous &*"), "+OK\r\n");
    assert_eq!(direct.ask("ACL SETUSER other on >word ~* +@all &*"), "+OK\r\n");
    assert_eq!(direct.ask("ACL SETUSER default off"), "+OK\r\n");
    let url = format!("redis://other:word@127.0.0.1:{}", redis.port);
    let sidecar = Sidecar::builder()
        .set("UPSTREAM__URL", url)
        .set("AUTH__MODE", "upstream")
        .expect(&[warnings::LANE_CLOSED, warnings::NOT_OPENED, warnings::LOGIN_REFUSED])
        .start();
    let mut wire = sidecar.wire();
    for request in ["GET player:1", "HGET item:apple:def name", "SUBSCRIBE a", "BLPOP a 1"] {
        let told = wire.ask(request);
        assert!(told.starts_with("-NOAUTH"), "{request}: {told}");
    }
    assert!(wire.ask("AUTH game wrong").starts_with("-WRONGPASS"));
    assert_eq!(wire.ask("AUTH game secret"), "+OK\r\n");
    assert_eq!(wire.ask("SET player:1 1"), "+OK\r\n");
    assert_eq!(wire.ask("SET nobody 1"), NOPERM_KEY, "the upstream's own words");
    assert_eq!(wire.ask("ACL WHOAMI"), "$4\r\ngame\r\n");
    assert_eq!(wire.ask("HGET item:apple:def name"), "$5\r\nApple\r\n");
    assert_eq!(wire.ask("BLPOP player:none 0.01"), "*-1\r\n");
    wire.send(&[line("MULTI"), line("INCR player:1"), line("EXEC")].concat());
    assert_eq!((0..3).map(|_| wire.frame()).last().expect("three"), b"*1\r\n:2\r\n");
    let mut another = sidecar.wire();
    assert!(another.ask("HELLO 3 AUTH other word").starts_with("%7\r\n"));
    assert_eq!(another.ask("SET nobody 1"), "+OK\r\n");
    // A password that was changed opens nothing any more, though connections of it are still there.
    direct.ask("ACL SETUSER game resetpass >new");
    let mut late = sidecar.wire();
    assert!(late.ask("AUTH game secret").starts_with("-WRONGPASS"));
    assert_eq!(metric(&sidecar, "hearthside_logins_refused_total{reason=\"upstream\"}"), 2.0);
    assert!(sidecar.log().contains("user=\"game\" reason=\"upstream\""), "{}", sidecar.log());
    assert_eq!(late.ask("AUTH game new"), "+OK\r\n");
    assert_eq!(late.ask("GET player:1"), "$1\r\n2\r\n");
}

#[test]
fn refused_logins_and_commands_leave_a_trace() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().config(USERS).redis(&redis).expect(&[warnings::LOGIN_REFUSED]).start();
    let mut wire = sidecar.wire();
    for request in ["AUTH game guess", "AUTH bad\\nname guess", "HELLO 3 AUTH game guess"] {
        assert!(wire.ask(request).starts_with("-WRONGPASS"), "{request}");
    }
    assert_eq!(metric(&sidecar, "hearthside_logins_refused_total{reason=\"password\"}"), 3.0);
    let log = sidecar.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("a login was refused")).collect();
    assert_eq!(said.len(), 1, "once in a while: {said:?}");
    assert!(said[0].contains(" WARN ") && said[0].contains("address=\"127.0.0.1:"), "{said:?}");
    assert!(said[0].contains("user=\"game\"") && !log.contains("guess"), "{said:?}");
    wire.ask("AUTH game secret");
    assert_eq!(wire.ask("GET other"), NOPERM_KEY);
    assert!(wire.ask("SHUTDOWN").contains("security.deny"));
    wire.send(&[line("MULTI"), line("GET other"), line("GET other"), line("EXEC")].concat());
    (0..4).for_each(|_| drop(wire.frame()));
    let denied = |by: &str| metric(&sidecar, &format!("hearthside_commands_denied_total{{by=\"{by}\"}}"));
    assert_eq!((denied("rules"), denied("deny")), (3.0, 1.0));
    let log = sidecar.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("a command was refused (NOPERM)")).collect();
    assert_eq!(said.len(), 2, "each kind once: {said:?}");
    for (line, by, command) in [(said[0], "rules", "GET"), (said[1], "deny", "SHUTDOWN")] {
        assert!(
            line.contains("user=\"game\"") && line.contains(&format!("by=\"{by}\" command=\"{command}\"")),
            "{line}"
        );
    }
}
