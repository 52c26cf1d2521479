//! Mappings whose keys are the upstream's: it alone tells of them.

use std::time::Duration;

use super::listener::{Listener, both};
use super::place::Place;

#[test]
fn keys_that_are_the_upstreams_are_told_of_there_alone() {
    let place = Place::new();
    let sidecar = place.start();
    let (mut writer, mut listener) =
        (sidecar.wire(), Listener::of(sidecar.wire(), "HELLO 2", "PSUBSCRIBE __keyspace@0__:s:*"));
    let told = |listener: &mut Listener| listener.next();
    assert!(writer.ask("HEARTHSIDE MODE s:{id} off").contains("off"));
    assert_eq!(writer.ask("SET s:1 theirs"), "+OK\r\n");
    assert_eq!(told(&mut listener), both("s:1", "set")[0]);
    place.postgres.sql("INSERT INTO strings VALUES ('1', 'ours', NULL)");
    assert!(listener.wire.is_silent(Duration::from_millis(300)), "once by the upstream, and nothing of the row");
    writer.ask("DEL s:1");
    assert_eq!(told(&mut listener), both("s:1", "del")[0]);
    assert!(writer.ask("HEARTHSIDE MODE s:{id} on").contains("on"));
    assert_eq!(writer.ask("SET s:1 ours"), "+OK\r\n");
    assert_eq!(told(&mut listener), both("s:1", "set")[0]);
    place.postgres.sql("UPDATE strings SET v = 'sql' WHERE id = '1'");
    assert_eq!(told(&mut listener), both("s:1", "changed")[0]);
    // A part of the keys.
    writer.ask("HEARTHSIDE MODE s:{id} on 50");
    for id in 0..40 {
        writer.ask(&format!("SET s:{id} v"));
        assert_eq!(told(&mut listener), both(&format!("s:{id}"), "set")[0], "once, by whomever");
    }
    assert!(listener.wire.is_silent(Duration::from_millis(200)));
}
