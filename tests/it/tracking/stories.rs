//! The same story told to a Redis, whose keys they are, and to a sidecar, which owns them: what each client is answered
//! and pushed is the same, in the same order.

use super::place::Place;
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

const STORIES: &[&[&str]] = &[
    // One message for each key that was read, however often, by whatever command.
    &[
        "a HELLO 3",
        "w SET s:1 one",
        "a CLIENT TRACKING ON",
        "a GET s:1",
        "a STRLEN s:1",
        "a !",
        "w SET s:1 two",
        "a !",
        "w SET s:1 three",
        "a !",
        "a GET s:1",
        "w DEL s:1",
        "a !",
        "a GET s:1",
        "w SET s:1 four",
        "a !",
        "a EXISTS s:1",
        "w APPEND s:1 x",
        "a !",
        "a TYPE s:1",
        "w GETDEL s:1",
        "a !",
        "w DEL s:1",
        "a !",
    ],
    // What changes nothing is told as Redis tells it.
    &[
        "a HELLO 3",
        "w SET s:1 one",
        "a CLIENT TRACKING ON",
        "a GET s:1",
        "w SET s:1 other NX",
        "w GET s:1",
        "w SETNX s:1 other",
        "a !",
        "w HSET h:1 f v",
        "a HGET h:1 f",
        "w HSETNX h:1 f w",
        "w HDEL h:1 g",
        "a !",
        "w HSET h:1 g w",
        "a !",
    ],
    // Several keys, in one command.
    &[
        "a HELLO 3",
        "w SET s:1 one",
        "w SET s:2 two",
        "a CLIENT TRACKING ON",
        "a MGET s:1 s:2 s:3",
        "w SET s:2 x",
        "a !",
        "w SET s:3 x",
        "a !",
        "w DEL s:2",
        "a !",
        "w DEL s:1",
        "a !",
    ],
    // Own writes are told, behind their replies, unless they are not to be.
    &[
        "a HELLO 3",
        "a CLIENT TRACKING ON",
        "a SET s:1 one",
        "a GET s:1",
        "a SET s:1 two",
        "a !",
        "a GET s:1",
        "a DEL s:1",
        "a !",
        "a CLIENT TRACKING OFF",
        "a CLIENT TRACKING ON NOLOOP",
        "a SET s:1 one",
        "a GET s:1",
        "a SET s:1 two",
        "a EXPIRE s:1 100",
        "a !",
        "w SET s:1 three",
        "a !",
        "a GET s:1",
        "w SET s:1 four",
        "a !",
        "a CLIENT TRACKINGINFO",
    ],
    // OPTIN and OPTOUT.
    &[
        "a HELLO 3",
        "w SET s:1 one",
        "w SET s:2 two",
        "a CLIENT TRACKING ON OPTIN",
        "a GET s:1",
        "w SET s:1 x",
        "a !",
        "a CLIENT CACHING YES",
        "a GET s:1",
        "a GET s:2",
        "w SET s:1 y",
        "w SET s:2 y",
        "a !",
        "a CLIENT CACHING YES",
        "a CLIENT ID",
        "a GET s:2",
        "w SET s:2 z",
        "a !",
        "a CLIENT CACHING NO",
        "a CLIENT TRACKING OFF",
        "a CLIENT TRACKING ON OPTOUT",
        "a GET s:1",
        "w SET s:1 z",
        "a !",
        "a CLIENT CACHING NO",
        "a GET s:1",
        "w SET s:1 zz",
        "a !",
        "a CLIENT CACHING YES",
        "a CLIENT TRACKINGINFO",
    ],
    // What was said is over behind the next command, whose ever its key is.
    &[
        "a HELLO 3",
        "w SET s:1 one",
        "w SET plain one",
        "a CLIENT TRACKING ON OPTIN",
        "a CLIENT CACHING YES",
        "a GET s:1",
        "a GET plain",
        "w SET plain two",
        "a !",
        "a CLIENT CACHING YES",
        "a GET plain",
        "a GET s:1",
        "w SET plain three",
        "a !",
        "w SET s:1 two",
        "a !",
        "a CLIENT CACHING YES",
        "a MULTI",
        "a GET s:1",
        "a EXEC",
        "a GET s:2",
        "a GET plain",
        "w SET s:1 three",
        "w SET s:2 three",
        "w SET plain four",
        "a !",
    ],
    // Prefixes.
    &[
        "a HELLO 3",
        "a CLIENT TRACKING ON BCAST PREFIX s:1 PREFIX h:",
        "w SET s:1 one",
        "a hears",
        "w SET s:2 one",
        "w HSET h:1 f v",
        "a hears",
        "w SET s:11 one",
        "a hears",
        "w DEL s:11",
        "a hears",
        "a SET s:1 own",
        "a !",
        "a CLIENT TRACKINGINFO",
        "a CLIENT TRACKING OFF",
        "w SET s:1 two",
        "a CLIENT TRACKING ON BCAST NOLOOP",
        "a SET s:1 own",
        "a !",
        "w SET s:1 three",
        "a hears",
        "w SET plain three",
        "a hears",
    ],
    // Ends.
    &[
        "a HELLO 3",
        "w SET s:1 one",
        "a CLIENT TRACKING ON",
        "a GET s:1",
        "w EXPIRE s:1 100",
        "a !",
        "a GET s:1",
        "w PERSIST s:1",
        "a !",
        "w SET s:2 two PX 400",
        "a GET s:2",
        "a hears",
        "a GET s:2",
        "w SET s:2 two PX 60000",
        "a !",
        "a GET s:2",
        "w GETEX s:2 PX 50000",
        "a !",
        "a TTL s:3",
        "w SET s:3 x",
        "a !",
    ],
    // Transactions.
    &[
        "a HELLO 3",
        "w SET s:1 one",
        "w SET s:2 two",
        "a CLIENT TRACKING ON",
        "a MULTI",
        "a GET s:1",
        "a GET plain",
        "a EXEC",
        "w SET s:1 x",
        "a !",
        "w SET plain x",
        "a !",
        "a GET s:1",
        "a GET s:2",
        "w MULTI",
        "w SET s:1 y",
        "w SET s:2 y",
        "w EXEC",
        "a !",
        "a GET s:1",
        "a MULTI",
        "a SET s:1 own",
        "a SET s:2 own",
        "a EXEC",
        "a !",
        "a WATCH s:1",
        "a GET s:1",
        "w SET s:1 z",
        "a !",
        "a MULTI",
        "a EXEC",
        "a MULTI",
        "a SET s:2 own",
        "a GET s:2",
        "a EXEC",
        "w SET s:2 z",
        "a !",
        "a MULTI",
        "a CLIENT TRACKING OFF",
        "a EXEC",
        "a GET s:2",
        "w SET s:2 zz",
        "a !",
        "a MULTI",
        "a CLIENT TRACKING ON",
        "a GET s:2",
        "a EXEC",
        "w SET s:2 zzz",
        "a !",
    ],
    // To another client, by RESP2 and by RESP3.
    &[
        "w SET s:1 one",
        "e SUBSCRIBE __redis__:invalidate",
        "a CLIENT TRACKING ON REDIRECT EAR",
        "a GET s:1",
        "w SET s:1 two",
        "e hears",
        "a GET s:1",
        "a SET s:1 own",
        "e hears",
        "a CLIENT GETREDIR",
        "a CLIENT TRACKINGINFO",
        "a !",
    ],
    &[
        "e HELLO 3",
        "a HELLO 3",
        "w SET s:1 one",
        "a CLIENT TRACKING ON REDIRECT EAR",
        "a GET s:1",
        "w SET s:1 two",
        "e hears",
        "a !",
        "a CLIENT TRACKING OFF",
        "a CLIENT TRACKING ON BCAST PREFIX s: REDIRECT EAR",
        "w SET s:7 two",
        "e hears",
        "a !",
    ],
    // Who cannot be told is told nothing, until it can.
    &[
        "w SET s:1 one",
        "a CLIENT TRACKING ON",
        "a GET s:1",
        "w SET s:1 two",
        "a !",
        "a HELLO 3",
        "a GET s:1",
        "w SET s:1 three",
        "a !",
        "a RESET",
        "a GET s:1",
        "w SET s:1 four",
        "a PING",
    ],
    // A pipeline: what is told of a key stands behind the replies with what it held.
    &[
        "a HELLO 3",
        "w SET s:1 one",
        "w SET s:2 two",
        "a CLIENT TRACKING ON",
        "a GET s:1 | GET s:2 | GET s:3 | HGETALL h:1",
        "w SET s:1 x",
        "w SET s:2 x",
        "w HSET h:1 f v",
        "a !",
        "a GET s:1 | GET plain | GET s:2",
        "w SET plain x",
        "w SET s:2 y",
        "a !",
        "a GET s:2 | SET s:2 own",
        "a !",
    ],
];

#[test]
fn owned_keys_are_tracked_as_redis_tracks_its_own() {
    let place = Place::new();
    // What is saved late tells some keys once more, to be sure: here nothing is saved meanwhile.
    let sidecar = place.builder().set("JOURNAL__FLUSH_INTERVAL", "1h").start();
    let plain = crate::support::redis::Redis::start();
    for story in STORIES {
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
