//! Subscribers, of channels and of shard channels, each with its own publisher.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::client::{Client, Told};
use super::tale::Tale;
use super::{Part, pace};
use crate::support::wire::Wire;

pub fn run(part: &Part<'_>) {
    // RESP2 and RESP3, plain and sharded.
    let is_sharded = part.id / 2 % 2 == 1;
    let (subscribe, publish) = if is_sharded { ("SSUBSCRIBE", "SPUBLISH") } else { ("SUBSCRIBE", "PUBLISH") };
    let mut tale = Tale::new(format!("channel:{}", part.id));
    let mut publisher = part.client();
    let mut wire = Wire::tcp(part.port);
    if part.id % 2 == 1 {
        wire.call(&["HELLO", "3"]);
    }
    let confirmed = Told::of(&wire.call(&[subscribe, &tale.key]));
    if confirmed.texts() != [subscribe.to_lowercase().as_str(), &tale.key] {
        return part.weather.wrong(format!("{subscribe} is answered {confirmed:?}"));
    }
    let (mut last, mut published) = (0, Published::new());
    while !part.weather.is_over() {
        publish_one(&mut publisher, &mut tale, publish, &mut published);
        while !wire.is_silent(Duration::from_millis(1)) {
            hear(part, &mut wire, &tale, &mut last, &published);
        }
        pace(part);
    }
    // All is well: what is published is heard.
    let begun = Instant::now();
    let wanted = tale.sent();
    while last <= wanted {
        if begun.elapsed() > Duration::from_secs(20) {
            return part.weather.wrong(format!("{} is heard no more", tale.key));
        }
        publish_one(&mut publisher, &mut tale, publish, &mut published);
        while last <= wanted && !wire.is_silent(Duration::from_millis(100)) {
            hear(part, &mut wire, &tale, &mut last, &published);
        }
    }
}

/// When the messages were acknowledged, if they were.
type Published = BTreeMap<u64, Option<Instant>>;

fn publish_one(publisher: &mut Client<'_>, tale: &mut Tale, publish: &str, published: &mut Published) {
    let number = tale.next();
    let value = tale.value(number);
    let told = publisher.one(true, &[publish, &tale.key, &value]);
    published.insert(number, told.map(|_| Instant::now()));
}

/// What was not acknowledged may be published later, when a master that hung goes on. A master acknowledges a message
/// before it tells the other nodes of it, so that what it acknowledged just before it hung may be told as late.
fn may_be_late(part: &Part<'_>, published: &Published, number: u64) -> bool {
    published.get(&number).is_some_and(|at| at.is_none_or(|at| part.weather.is_soon_missing(at)))
}

fn hear(part: &Part<'_>, wire: &mut Wire, tale: &Tale, last: &mut u64, published: &Published) {
    let told = Told::of(&wire.frame());
    match told.texts()[..] {
        ["message" | "smessage", channel, value] if channel == tale.key => match tale.number(value) {
            Some(number) if number > *last && number <= tale.sent() => *last = number,
            Some(number) if may_be_late(part, published, number) => {}
            number => part.weather.wrong(format!("{channel}: {number:?} is heard after {last}: {value}")),
        },
        _ => part.weather.wrong(format!("a subscriber of {} hears {told:?}", tale.key)),
    }
}
