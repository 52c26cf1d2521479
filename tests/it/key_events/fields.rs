//! Which fields of a hash were written, on the channels that Redis 8.8 has for that.

use std::time::Duration;

use super::listener::{Listener, both};
use super::place::{CONFIG, Place};

#[test]
fn the_fields_of_a_hash_that_were_written_are_told_where_that_is_asked_for() {
    let place = Place::new();
    let sidecar = place.builder().set("NOTIFY__FIELDS", "true").start();
    let mut writer = sidecar.wire();
    let channels = "SUBSCRIBE __subkeyspace@0__:h:1 __subkeyevent@0__:hdel __subkeyspaceevent@0__:hset|h:1 \
        __keyevent@0__:del";
    let mut listener = Listener::of(sidecar.wire(), "HELLO 3", channels);
    let mut hears =
        |channel: &str, payload: &str| assert_eq!(listener.next(), (channel.to_owned(), payload.to_owned()));
    writer.ask("HSET h:1 f 1 g 2");
    hears("__subkeyspace@0__:h:1", "hset|1:f,1:g");
    hears("__subkeyspaceevent@0__:hset|h:1", "1:f,1:g");
    writer.ask("HINCRBY h:1 f 1");
    hears("__subkeyspace@0__:h:1", "hincrby|1:f");
    writer.ask("HDEL h:1 f g");
    hears("__subkeyspace@0__:h:1", "hdel|1:f,1:g");
    hears("__subkeyevent@0__:hdel", "3:h:1|1:f,1:g");
    hears("__keyevent@0__:del", "h:1");
    // Of a change by SQL, and of other types, no fields are known.
    place.postgres.sql("UPDATE hashes SET f = 'sql'");
    writer.ask("SET s:1 v");
    writer.ask("DEL s:1");
    hears("__keyevent@0__:del", "s:1");
    assert!(listener.wire.is_silent(Duration::from_millis(200)));
}

#[test]
fn a_field_with_an_empty_name_is_told_as_others_are() {
    let place = Place::new();
    place.postgres.sql("CREATE TABLE loose (id TEXT PRIMARY KEY, more JSONB)");
    let block = "[[caches]]\nkey = \"o:{id}\"\ntype = \"hash\"\ntable = \"loose\"\noverflow = \"more\"\n\
        write = \"through\"\n";
    let builder = place.builder().config(&[CONFIG, block].concat()).migrated();
    let sidecar = builder.set("NOTIFY__FIELDS", "true").start();
    let mut writer = sidecar.wire();
    let mut listener = Listener::of(sidecar.wire(), "HELLO 3", "SUBSCRIBE __subkeyspace@0__:o:1 __keyspace@0__:o:1");
    let mut hears = |event: &str, fields: &str| {
        assert_eq!(listener.next(), ("__keyspace@0__:o:1".to_owned(), event.to_owned()));
        assert_eq!(listener.next(), ("__subkeyspace@0__:o:1".to_owned(), format!("{event}|{fields}")));
    };
    assert_eq!(writer.ask("HSET o:1  1 f 2"), ":2\r\n");
    hears("hset", "0:,1:f");
    assert_eq!(writer.ask("HINCRBY o:1  1"), ":2\r\n");
    hears("hincrby", "0:");
    assert_eq!(writer.ask("HDEL o:1 "), ":1\r\n");
    hears("hdel", "0:");
    assert_eq!(writer.ask("HGETALL o:1"), "*2\r\n$1\r\nf\r\n$1\r\n2\r\n");
}

#[test]
fn fields_are_not_told_by_themselves() {
    let place = Place::new();
    let sidecar = place.start();
    let mut listener = Listener::of(sidecar.wire(), "HELLO 3", "PSUBSCRIBE __*");
    sidecar.wire().ask("HSET h:1 f 1");
    assert_eq!([listener.next(), listener.next()], both("h:1", "hset"));
    assert!(listener.wire.is_silent(Duration::from_millis(100)));
}
