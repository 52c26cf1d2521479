//! Clients with caches of their own, which CLIENT TRACKING keeps true (C8): what such a cache still has, when everything
//! that was pushed has been heard, is no older than what the sidecar itself may serve: a write that the same sidecar has
//! acknowledged is pushed by then.

use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use super::client::{PATIENCE, version};
use super::fleeting::FLEETING;
use super::history::{Floor, History};
use super::world::{KEYS, SIDECARS};
use super::{Attack, BOUND};
use crate::differential::stream::Dice;
use crate::support::wire::Wire;
use crate::support::{pushes, setting};

const WAYS: [&str; 3] = ["", " NOLOOP", " BCAST PREFIX thing: PREFIX fleeting:"];

/// One client, what it has read, and what it was told to forget.
struct Tracker {
    sidecar: usize,
    port: u16,
    wire: Option<Wire>,
    cache: HashMap<String, Option<u64>>,
}

impl Tracker {
    /// The reply; `None` when there was none, and the client knows nothing any more.
    fn ask(&mut self, text: &str, dice: &mut Dice) -> Option<String> {
        if self.wire.is_none() {
            self.connect(dice);
        }
        let reply = self.reply(text);
        if reply.is_none() {
            self.wire = None;
            self.cache.clear();
            thread::sleep(Duration::from_millis(20));
        }
        reply
    }

    fn connect(&mut self, dice: &mut Dice) {
        self.wire = Wire::try_tcp(self.port, PATIENCE);
        let is_greeted = self.reply("HELLO 3").is_some_and(|told| told.starts_with('%'));
        let tracks = format!("CLIENT TRACKING ON{}", dice.pick(&WAYS));
        if !is_greeted || self.reply(&tracks).as_deref() != Some("+OK\r\n") {
            self.wire = None;
        }
    }

    /// The reply, behind all that is pushed before it.
    fn reply(&mut self, text: &str) -> Option<String> {
        if !self.wire.as_mut()?.try_send(format!("{text}\r\n").as_bytes()) {
            return None;
        }
        loop {
            let frame = String::from_utf8_lossy(&self.wire.as_mut()?.try_frame()?).into_owned();
            if !frame.starts_with('>') {
                return Some(frame);
            }
            self.hears(&frame);
        }
    }

    fn hears(&mut self, push: &str) {
        match pushes::named(push) {
            None => self.cache.clear(),
            Some(keys) => keys.iter().for_each(|key| _ = self.cache.remove(*key)),
        }
    }
}

/// The history of a key.
fn of<'a>(attack: &'a Attack, key: &str) -> &'a History {
    let (kind, number) = key.split_once(':').expect("a key");
    let number: usize = number.parse().expect("a number");
    if kind == "thing" { &attack.things.through[number] } else { &attack.fleeting.histories[number] }
}

pub fn read(attack: &Attack, mut dice: Dice) {
    let things = (0..KEYS).map(|key| format!("thing:{key}"));
    let keys: Vec<String> = things.chain((0..FLEETING).map(|key| format!("fleeting:{key}"))).collect();
    let sidecar = dice.roll(SIDECARS as u64) as usize;
    let mut tracker = Tracker { sidecar, port: attack.world.ports[sidecar], wire: None, cache: HashMap::new() };
    // In a short run other tests have the machine, too.
    let pause = if setting("HEARTHSIDE_CONSISTENCY_SECONDS", 60) < 120 { 40 } else { 3 };
    while !attack.is_over() {
        for _ in 0..dice.roll(10) {
            read_one(attack, &mut tracker, dice.pick(&keys).as_str(), &mut dice);
        }
        thread::sleep(Duration::from_millis(dice.roll(pause)));
        read_in_process(attack, &mut tracker, &mut dice);
    }
}

fn read_one(attack: &Attack, tracker: &mut Tracker, key: &str, dice: &mut Dice) {
    if tracker.cache.contains_key(key) {
        return;
    }
    let floor = of(attack, key).floor(tracker.sidecar, BOUND);
    let reply = tracker.ask(&format!("HGET {key} v"), dice);
    if let Some(seen) = reply.and_then(|reply| version(&reply)) {
        tracker.cache.insert(key.to_owned(), seen);
        attack.saw(&format!("{key} by a client that tracks"), of(attack, key).check(floor, seen));
    }
}

/// Reads all that is cached, after everything that the sidecar has told before now.
fn read_in_process(attack: &Attack, tracker: &mut Tracker, dice: &mut Dice) {
    let floors: Vec<(String, Floor)> =
        tracker.cache.keys().map(|key| (key.clone(), of(attack, key).floor(tracker.sidecar, BOUND))).collect();
    if tracker.ask("PING", dice).is_none() {
        return;
    }
    for (key, floor) in floors {
        if let Some(seen) = tracker.cache.get(&key) {
            attack.in_process.fetch_add(1, SeqCst);
            if let Some(violation) = of(attack, &key).check(floor, *seen) {
                attack.saw(&format!("{key} in the cache of a client"), Some(violation));
            }
        }
    }
}
