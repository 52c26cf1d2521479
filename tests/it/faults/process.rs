//! Faults of the sidecar's own process and configuration, under load.

use std::fs;

use super::trial::Trial;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::Wire;

#[test]
fn a_faulty_configuration_changes_nothing() {
    let errors = Trial::sees(&[]).run(|world| {
        world.sidecar.configure("[limits]\nclients = 0\nnonsense = 1\n");
        world.sidecar.signal("HUP");
        until("it is told", || world.sidecar.log().contains("the old one stays in force"));
        world.load.go_on(5);
        fs::remove_file(world.sidecar.folder.path().join("config.toml")).expect("removed");
        world.sidecar.signal("HUP");
        until("it is reloaded", || world.sidecar.log().contains("the configuration is reloaded"));
    });
    assert!(errors.is_empty());
}

#[test]
fn mappings_are_reloaded_again_and_again() {
    Trial::sees(&[]).run(|world| {
        for round in 1..=5 {
            // The same keys, by other mappings each time.
            let shipped = hearthside::config::SHIPPED.replace("ttl = \"30m\"", &format!("ttl = \"{round}m\""));
            world.sidecar.configure(&shipped);
            world.sidecar.signal("HUP");
            until("it is reloaded", || world.sidecar.log().matches("the configuration is reloaded").count() == round);
            world.load.go_on(5);
        }
    });
}

#[test]
fn the_upstream_is_somewhere_else() {
    let other = Redis::start();
    let errors = Trial::sees(&[]).with_url_in_file().run(|world| {
        // The other one has the same data when it takes over.
        assert_eq!(other.wire().ask(&format!("REPLICAOF 127.0.0.1 {}", world.redis.port)), "+OK\r\n");
        until("it follows", || other.wire().ask("INFO replication").contains("master_link_status:up"));
        let mut wire = world.sidecar.wire();
        assert_eq!(wire.ask("HEARTHSIDE PAUSE 20000"), "+OK\r\n");
        let most = offset(&mut world.redis.wire());
        until("it has everything", || offset(&mut other.wire()) >= most);
        assert_eq!(other.wire().ask("REPLICAOF NO ONE"), "+OK\r\n");
        let text = world.sidecar.configuration();
        let here = format!("redis://127.0.0.1:{}", world.upstream.port);
        assert!(text.contains(&here));
        world.sidecar.configure(&text.replace(&here, &other.url()));
        world.sidecar.signal("HUP");
        until("it is reloaded", || world.sidecar.log().contains("the configuration is reloaded"));
        assert_eq!(wire.ask("HEARTHSIDE RESUME"), "+OK\r\n");
        world.load.go_on(5);
        // Nothing goes to the first one any more, and everything that was acknowledged is in the second.
        world.redis = other;
    });
    assert!(errors.is_empty(), "{errors:?}");
}

fn offset(server: &mut Wire) -> u64 {
    let info = server.ask("INFO replication");
    let line = info.lines().find_map(|line| line.strip_prefix("master_repl_offset:")).expect("an offset");
    line.trim().parse().expect("a number")
}

#[test]
fn sigterm_ends_what_is_under_way() {
    let redis = Redis::start();
    let mut sidecar = Sidecar::builder().redis(&redis).start();
    let mut wires: Vec<_> = (0..50).map(|_| sidecar.wire()).collect();
    for (i, wire) in wires.iter_mut().enumerate() {
        let requests: Vec<u8> =
            (0..20).flat_map(|j| crate::support::wire::line(&format!("SET k:{i}:{j} {j}"))).collect();
        wire.send(&requests);
        // The first reply has come: all of them have been read.
        assert_eq!(wire.frame(), b"+OK\r\n");
    }
    assert_eq!(sidecar.stop(), Some(0));
    let kept: usize =
        wires.into_iter().map(|mut wire| wire.rest().windows(5).filter(|w| *w == b"+OK\r\n").count()).sum();
    let size = redis.wire().ask("DBSIZE");
    let made: usize = size.trim_start_matches(':').trim().parse().expect("a number");
    assert_eq!(kept + 50, made, "every write that was made was acknowledged");
}
