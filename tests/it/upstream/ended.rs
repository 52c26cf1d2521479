//! What ends a script, or the server itself, on each server directly and through the sidecar: who waits is told by the
//! server, and who ends it sees the end of the connection.

use std::time::Duration;

use crate::support::redis::{Redis, SERVERS, Server};
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::wire::{Wire, array, line};
use crate::support::{until, warnings};

const LIBRARY: &str = "#!lua name=l\nredis.register_function('forever', function() while true do end end)";
const SCRIPTS: [(&[&str], &str); 2] =
    [(&["EVAL", "while true do end", "0"], "SCRIPT KILL"), (&["FCALL", "forever", "0"], "FUNCTION KILL")];

/// A sidecar that does not wait for long for a connection.
fn impatient(redis: &Redis) -> Builder {
    let builder = Sidecar::builder().redis(redis).set("SECURITY__DENY", "").expect(warnings::UPSTREAM_AWAY);
    builder.set("UPSTREAM__CONNECT_TIMEOUT", "100ms").set("UPSTREAM__QUEUE_TIMEOUT", "200ms")
}

/// What the killed client and the killing one are answered: the kill comes long before the server says that it is busy,
/// and is not looked at before.
fn killed(wires: [Wire; 2], (run, kill): (&[&str], &str), probe: &Redis) -> Vec<String> {
    let [mut running, mut killer] = wires;
    running.send(&array(run));
    until("the script runs", || {
        Wire::try_tcp(probe.port, Duration::from_millis(20)).and_then(|mut wire| wire.try_ask("PING")).is_none()
    });
    let told = killer.ask(kill);
    vec![told, String::from_utf8_lossy(&running.frame()).into_owned()]
}

#[test]
fn a_script_is_killed_before_the_server_says_that_it_is_busy() {
    for server in SERVERS {
        let redis = Redis::of(server, &["--busy-reply-threshold", "700"]);
        redis.wire().call(&["FUNCTION", "LOAD", LIBRARY]);
        let sidecar = impatient(&redis).start();
        for script in SCRIPTS {
            let direct = killed([redis.wire(), redis.wire()], script, &redis);
            let (mut running, killer) = (sidecar.wire(), sidecar.wire());
            // It has a lane.
            until("the upstream is there", || running.ask("GET a") == "$-1\r\n");
            let through = killed([running, killer], script, &redis);
            assert_eq!(through, direct, "{server:?}: {script:?}");
            assert_eq!(direct[0], "+OK\r\n");
        }
    }
}

#[test]
fn who_ends_the_server_sees_the_end_of_the_connection() {
    for ending in ["SHUTDOWN NOSAVE", "SHUTDOWN NOW FORCE", "DEBUG SEGFAULT", "DEBUG PANIC", "DEBUG LOADAOF"] {
        let arguments = ["--enable-debug-command", "yes", "--crash-log-enabled", "no"];
        let (redis, twin) = (Redis::of(Server::Installed, &arguments), Redis::of(Server::Installed, &arguments));
        let sidecar = impatient(&redis).start();
        let mut other = sidecar.wire();
        assert_eq!(other.ask("SET a 1"), "+OK\r\n");
        let answers = [twin.wire(), sidecar.wire()].map(|mut wire| {
            wire.send(&[line(ending), line("GET a")].concat());
            String::from_utf8_lossy(&wire.rest()).into_owned()
        });
        assert_eq!(answers, ["", ""], "{ending}");
        // Nobody else is closed.
        let told = other.ask("GET a");
        assert!(told.contains("hearthside") && told.starts_with('-'), "{ending}: {told}");
    }
}

#[test]
fn what_does_not_end_the_server_is_answered() {
    let arguments = ["--enable-debug-command", "yes"];
    let (redis, twin) = (Redis::with(&arguments), Redis::with(&arguments));
    let sidecar = impatient(&redis).start();
    let (mut through, mut direct) = (sidecar.wire(), twin.wire());
    for request in [
        "SELECT 2",
        "SET a 1",
        "DEBUG RELOAD",
        "GET a",
        "DEBUG STRINGMATCH-LEN 10 a*",
        "SHUTDOWN ABORT",
        "SHUTDOWN NOSUCH",
        "FAILOVER ABORT",
        "MULTI",
        "SHUTDOWN NOSAVE",
        "EXEC",
    ] {
        assert_eq!(through.ask(request), direct.ask(request), "{request}");
    }
}
