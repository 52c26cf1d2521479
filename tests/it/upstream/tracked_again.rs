//! CLIENT TRACKING in front of one server whose connections are lost: it begins again over others.

use crate::support::pushes::{ALL, of_key};
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::wire::Wire;
use crate::support::{until, warnings};

fn started() -> (Redis, Sidecar) {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).expect(warnings::UPSTREAM_AWAY).start();
    (redis, sidecar)
}

/// The id of the connection at the upstream that tracks keys; one that is no monitor.
fn tracking(direct: &mut Wire) -> Option<String> {
    let list = direct.ask("CLIENT LIST");
    let of = |line: &str, name: &str| line.split(' ').find_map(|word| word.strip_prefix(name).map(str::to_owned));
    let tracks = |line: &&str| of(line, "flags=").is_some_and(|flags| flags.contains('t'));
    list.lines().find(tracks).and_then(|line| of(line, "id="))
}

/// Ends that connection.
fn cut(direct: &mut Wire) {
    let id = tracking(direct).expect("one tracks");
    assert_eq!(direct.ask(&format!("CLIENT KILL ID {id}")), ":1\r\n");
}

#[test]
fn a_client_that_tracks_is_told_to_forget_everything_and_goes_on() {
    let (redis, sidecar) = started();
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    for (tracks, reads) in [("CLIENT TRACKING ON", "GET a"), ("CLIENT TRACKING ON BCAST PREFIX a", "PING")] {
        wire.ask("HELLO 3");
        wire.ask("CLIENT NO-EVICT ON");
        assert_eq!(wire.ask(tracks), "+OK\r\n");
        direct.ask("SET a 1");
        wire.ask_past_pushes(reads);
        cut(&mut direct);
        assert_eq!(wire.text(), ALL, "{tracks}: without asking");
        until("it tracks again", || tracking(&mut direct).is_some());
        assert!(["flags=te ", "flags=tBe "].iter().any(|flags| direct.ask("CLIENT LIST").contains(flags)));
        wire.ask_past_pushes(reads);
        direct.ask("SET a 2");
        assert_eq!(wire.text(), of_key("a"), "{tracks}");
        assert_eq!(wire.ask("RESET"), "+RESET\r\n");
    }
}

/// It learns what became of what it had asked, and nothing is closed while there is no upstream.
#[test]
fn what_was_under_way_is_answered() {
    let (mut redis, sidecar) = started();
    let mut wire = sidecar.wire();
    wire.ask("HELLO 3");
    wire.ask("CLIENT TRACKING ON");
    wire.ask("GET a");
    redis.pause(true);
    wire.send(b"GET a\r\nINCR n\r\n");
    redis.kill();
    let replies = [wire.text(), wire.text()];
    assert!(replies.iter().all(|reply| reply.starts_with('-') && reply.contains("hearthside: ")), "{replies:?}");
    redis.launch();
    assert_eq!(wire.text(), ALL);
    assert_eq!(wire.ask_past_pushes("GET a"), "_\r\n");
    redis.wire().ask("SET a 1");
    assert_eq!(wire.text(), of_key("a"));
}

/// Prefixes are added: all of them are said again, in their order. What was said inside MULTI is not known.
#[test]
fn all_that_was_said_is_said_again_or_the_client_is_closed() {
    let (redis, sidecar) = started();
    let (mut wire, mut direct) = (sidecar.wire(), redis.wire());
    wire.ask("HELLO 3");
    for prefix in ["a", "b"] {
        assert_eq!(wire.ask(&format!("CLIENT TRACKING ON BCAST PREFIX {prefix}")), "+OK\r\n");
    }
    cut(&mut direct);
    assert_eq!(wire.text(), ALL);
    until("it tracks again", || tracking(&mut direct).is_some());
    for key in ["a", "b"] {
        direct.ask(&format!("SET {key} 1"));
        assert_eq!(wire.text(), of_key(key));
    }
    wire.send(b"MULTI\r\nCLIENT TRACKING ON BCAST PREFIX c\r\nEXEC\r\n");
    let queued: Vec<_> = (0..3).map(|_| wire.text()).collect();
    assert_eq!(queued[2], "*1\r\n+OK\r\n");
    cut(&mut direct);
    assert_eq!(wire.rest(), b"");
}

#[test]
fn a_client_that_lets_another_one_be_told_is_closed() {
    let (redis, sidecar) = started();
    let (mut wire, mut ear, mut direct) = (sidecar.wire(), sidecar.wire(), redis.wire());
    let id = ear.ask("CLIENT ID");
    ear.ask("HELLO 3");
    assert_eq!(wire.ask("CLIENT TRACKING ON"), "+OK\r\n");
    assert_eq!(wire.ask(&format!("CLIENT TRACKING ON REDIRECT {}", id.trim_start_matches(':').trim_end())), "+OK\r\n");
    cut(&mut direct);
    assert_eq!(wire.rest(), b"");
}
