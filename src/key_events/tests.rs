use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{Hearer, KeyEvents, Listening};
use crate::config;
use crate::resp::pubsub::{GAP, Kind};
use crate::telemetry::locked;

/// The words of the messages that came.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<String>>);

impl Hearer for Heard {
    fn hears(&self, message: Bytes) {
        let text = String::from_utf8_lossy(&message).into_owned();
        let words: Vec<&str> = text.split("\r\n").skip(2).step_by(2).collect();
        locked(&self.0).push(words.join(" "));
    }
}

impl Heard {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *locked(&self.0))
    }
}

fn events(fields: bool) -> Arc<KeyEvents> {
    Arc::new(KeyEvents::new(&config::Notify { keyspace: true, fields }, Arc::default()))
}

fn listening(events: &Arc<KeyEvents>) -> (Arc<Heard>, Listening) {
    let heard = Arc::new(Heard::default());
    (heard.clone(), Listening::new(events.clone(), heard))
}

#[test]
fn an_event_is_told_on_both_channels_to_those_of_the_channel_and_of_each_pattern() {
    let events = events(false);
    let (heard, one) = listening(&events);
    for (kind, name) in [
        (Kind::Channel, "__keyspace@0__:a:1"),
        (Kind::Channel, "__keyevent@0__:hset"),
        (Kind::Pattern, "__key*__:*"),
        (Kind::Pattern, "*"),
        (Kind::Channel, "news"),
    ] {
        one.subscribes(kind, name.as_bytes(), true);
    }
    events.tell(b"a:1", "hset", &["f".into()]);
    assert_eq!(
        heard.take(),
        [
            "message __keyspace@0__:a:1 hset",
            "pmessage * __keyspace@0__:a:1 hset",
            "pmessage __key*__:* __keyspace@0__:a:1 hset",
            "message __keyevent@0__:hset a:1",
            "pmessage * __keyevent@0__:hset a:1",
            "pmessage __key*__:* __keyevent@0__:hset a:1",
        ]
    );
    one.is_subscribed_to(&[(Kind::Channel, "__keyevent@0__:del".into())]);
    events.tell(b"a:1", "hset", &[]);
    events.are_of(3);
    events.tell(b"a:1", "del", &[]);
    assert!(heard.take().is_empty());
    events.are_of(0);
    events.gone(b"a:1");
    assert_eq!(heard.take(), ["message __keyevent@0__:del a:1"]);
}

#[test]
fn without_a_subscription_or_the_setting_there_is_nobody_to_tell() {
    let events = events(false);
    assert!(events.is_idle());
    let (heard, one) = listening(&events);
    one.subscribes(Kind::Channel, b"news", true);
    one.subscribes(Kind::Channel, GAP, true);
    one.subscribes(Kind::Shard, b"__keyevent@0__:del", true);
    assert!(events.is_idle(), "nothing of that is told of events");
    one.subscribes(Kind::Channel, b"__keyevent@0__:del", true);
    assert!(!events.is_idle());
    events.configure(&config::Notify::default());
    assert!(events.is_idle());
    events.gone(b"a:1");
    events.configure(&config::Notify { keyspace: true, fields: false });
    assert!(!events.is_idle() && heard.take().is_empty());
    drop(one);
    assert!(events.is_idle());
}

#[test]
fn a_key_that_is_the_upstreams_is_told_of_there() {
    let events = events(false);
    let (heard, one) = listening(&events);
    one.subscribes(Kind::Channel, b"__keyevent@0__:changed", true);
    events.own(Box::new(|key: &[u8]| key == b"ours"));
    for key in ["ours", "theirs"] {
        events.changed(key.as_bytes());
    }
    assert_eq!(heard.take(), ["message __keyevent@0__:changed ours"]);
}

#[test]
fn who_listens_for_a_gap_is_told_of_one_if_it_listens_to_events() {
    let events = events(false);
    let ((first, one), (second, two)) = (listening(&events), listening(&events));
    one.subscribes(Kind::Channel, GAP, true);
    two.subscribes(Kind::Channel, GAP, true);
    two.subscribes(Kind::Pattern, b"__keyspace@0__:*", true);
    events.missed();
    assert!(first.take().is_empty());
    assert_eq!(second.take(), ["message __hearthside__:gap messages may have been missed"]);
}

#[test]
fn fields_are_told_as_redis_8_8_tells_them() {
    let (events, mute) = (events(true), events(false));
    for (events, expected) in [(&events, 5), (&mute, 0)] {
        let (heard, one) = listening(events);
        one.subscribes(Kind::Pattern, b"__sub*", true);
        events.tell(b"a:1", "hset", &["f".into(), "long".into()]);
        events.tell(b"a:1", "del", &[]);
        let told: Vec<String> = heard.take();
        assert_eq!(told.len(), expected);
        if expected > 0 {
            assert_eq!(
                told,
                [
                    "pmessage __sub* __subkeyspace@0__:a:1 hset|1:f,4:long",
                    "pmessage __sub* __subkeyevent@0__:hset 3:a:1|1:f,4:long",
                    "pmessage __sub* __subkeyspaceitem@0__:a:1\nf hset",
                    "pmessage __sub* __subkeyspaceitem@0__:a:1\nlong hset",
                    "pmessage __sub* __subkeyspaceevent@0__:hset|a:1 1:f,4:long",
                ]
            );
        }
    }
}

/// KiB of memory that the process has taken at most, as the kernel has it. Each test has a process of its own.
fn most() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.split_whitespace().next().and_then(|text| text.parse().ok()).expect("a number")
}

#[test]
fn of_many_fields_of_a_long_key_one_message_is_made_after_the_other() {
    let events = events(true);
    let (heard, one) = listening(&events);
    one.subscribes(Kind::Channel, b"__keyevent@0__:hset", true);
    let (key, fields) = (vec![b'k'; 100 << 10], vec![Bytes::from_static(b"f"); 2000]);
    let before = most();
    events.tell(&key, "hset", &fields);
    assert_eq!(heard.take().len(), 1);
    assert!(most() - before < 20 << 10, "200 MB if all messages are there at once: {} KiB", most() - before);
}
