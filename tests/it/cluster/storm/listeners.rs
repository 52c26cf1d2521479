//! Subscribers, of channels and of shard channels, each with its own publisher.

use std::collections::BTreeSet;
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
    let (mut last, mut unclear) = (0, BTreeSet::new());
    while !part.weather.is_over() {
        publish_one(&mut publisher, &mut tale, publish, &mut unclear);
        while !wire.is_silent(Duration::from_millis(1)) {
            hear(part, &mut wire, &tale, &mut last, &unclear);
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
        publish_one(&mut publisher, &mut tale, publish, &mut unclear);
        while last <= wanted && !wire.is_silent(Duration::from_millis(100)) {
            hear(part, &mut wire, &tale, &mut last, &unclear);
        }
    }
}

/// What was not acknowledged may be published later, when a master that hung goes on.
fn publish_one(publisher: &mut Client<'_>, tale: &mut Tale, publish: &str, unclear: &mut BTreeSet<u64>) {
    let number = tale.next();
    let value = tale.value(number);
    if publisher.one(true, &[publish, &tale.key, &value]).is_none() {
        unclear.insert(number);
    }
}

fn hear(part: &Part<'_>, wire: &mut Wire, tale: &Tale, last: &mut u64, unclear: &BTreeSet<u64>) {
    let told = Told::of(&wire.frame());
    match told.texts()[..] {
        ["message" | "smessage", channel, value] if channel == tale.key => match tale.number(value) {
            Some(number) if number > *last && number <= tale.sent() => *last = number,
            Some(number) if unclear.contains(&number) => {}
            number => part.weather.wrong(format!("{channel}: {number:?} is heard after {last}: {value}")),
        },
        _ => part.weather.wrong(format!("a subscriber of {} hears {told:?}", tale.key)),
    }
}
