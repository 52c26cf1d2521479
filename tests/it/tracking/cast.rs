//! Who plays in a story, and what they are told.

use super::place::Place;
use crate::support::redis::Redis;
use crate::support::wire::{Wire, line};

/// Three clients: `a` tracks, `e` may be told instead, `w` writes.
struct Cast {
    wires: [Wire; 3],
    ids: [String; 2],
    told: Vec<String>,
}

impl Cast {
    fn of(connect: impl Fn() -> Wire) -> Self {
        let mut wires = [connect(), connect(), connect()];
        let [a, e, _] = &mut wires;
        let ids = [a, e].map(|wire| wire.ask("CLIENT ID")[1..].trim_end().to_owned());
        Self { wires, ids, told: Vec::new() }
    }

    /// `a GET k`: asks, and notes all that comes up to the reply. `a !`: all that has come. `a hears`: waits for one
    /// message. `a: GET k | GET l`: a pipeline, and all up to its end.
    fn step(&mut self, step: &str) {
        let (who, what) = step.split_once(' ').expect("who does what");
        let at = ["a", "e", "w"].iter().position(|name| who.starts_with(name)).expect("one of them");
        let what = what.replace("EAR", &self.ids[1]);
        let mut all = Vec::new();
        let wire = &mut self.wires[at];
        match &*what {
            "hears" => all.push(wire.frame()),
            "!" => {
                wire.send(&line("PING told"));
                loop {
                    let frame = wire.frame();
                    if frame.ends_with(b"told\r\n") {
                        break;
                    }
                    all.push(frame);
                }
            }
            what => {
                let requests: Vec<&str> = what.split(" | ").collect();
                wire.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<u8>>());
                let mut replies = 0;
                while replies < requests.len() {
                    let frame = wire.frame();
                    replies += usize::from(!frame.starts_with(b">"));
                    all.push(frame);
                }
            }
        }
        for frame in all {
            let mut text = String::from_utf8_lossy(&frame).into_owned();
            if what.contains("HELLO") || what.contains("CLIENT ID") {
                text = "the reply".to_owned();
            } else if what.contains("GETREDIR") || what.contains("TRACKINGINFO") {
                text = text.replace(&format!(":{}\r\n", self.ids[1]), ":EAR\r\n");
            }
            self.told.push(format!("{step}: {text}"));
        }
    }
}

/// Tells each story to a Redis of its own and to a sidecar in front of this place.
pub(super) fn are_told_the_same(place: &Place, stories: &[&[&str]]) {
    // What is saved late tells some keys once more, to be sure: here nothing is saved meanwhile.
    let sidecar = place.builder().set("JOURNAL__FLUSH_INTERVAL", "1h").start();
    let plain = Redis::start();
    for story in stories {
        let there = {
            let mut cast = Cast::of(|| plain.wire());
            story.iter().for_each(|step| cast.step(step));
            cast.told
        };
        let here = {
            let mut cast = Cast::of(|| sidecar.wire());
            story.iter().for_each(|step| cast.step(step));
            cast.told
        };
        let same = there.iter().zip(&here).take_while(|(there, here)| there == here).count();
        assert_eq!(there, here, "from {:?} on", there.get(same));
        assert!(there.iter().any(|told| told.contains("invalidate")), "it tells of something");
        plain.wire().ask("FLUSHALL");
        place.redis.wire().ask("FLUSHALL");
        let mut cleaner = sidecar.wire();
        for key in ["s:1", "s:2", "s:3", "s:7", "s:11", "h:1"] {
            cleaner.ask(&format!("DEL {key}"));
        }
    }
}
