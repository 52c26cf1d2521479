//! CLIENT TRACKING with REDIRECT, on each server directly and through the sidecar: any client may be named, whatever it
//! has done before, and what becomes of the redirection afterwards is told alike.

use crate::support::redis::{Redis, SERVERS};
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::{Wire, line};

/// Three clients of one server: whose keys are tracked, to whom that is told, and who writes.
struct World {
    data: Wire,
    ear: Option<Wire>,
    writer: Wire,
    /// The ids of the first two.
    ids: [String; 2],
    told: Vec<String>,
}

impl World {
    fn of(connect: impl Fn() -> Wire) -> Self {
        let [mut data, mut ear, writer] = [connect(), connect(), connect()];
        let ids = [&mut data, &mut ear].map(|wire| wire.ask("CLIENT ID")[1..].trim_end().to_owned());
        Self { data, ear: Some(ear), writer, ids, told: Vec::new() }
    }

    /// `ear: PING`, `data leaves`: what is told is what each of them is sent, ids replaced by names.
    fn step(&mut self, step: &str) {
        let (who, what) = step.split_once(' ').expect("who does what");
        let what = what.replace("EAR", &self.ids[1]).replace("DATA", &self.ids[0]);
        let wire = match who {
            "ear" if what == "leaves" => {
                self.ear = None;
                let gone = format!("CLIENT LIST ID {}", self.ids[1]);
                let is_gone = |text: String| !text.contains("id=");
                until("it is gone", || is_gone(self.writer.ask(&gone)));
                return;
            }
            "ear" => self.ear.as_mut().expect("still there"),
            "data" => &mut self.data,
            _ => &mut self.writer,
        };
        if what != "hears" {
            wire.send(&line(&what));
        }
        // Everything up to the answer to the last of them; what is pushed may stand before it.
        let count = if what == "hears" { 1 } else { 1 + usize::from(step.ends_with(" and hears")) };
        for _ in 0..count {
            let told = String::from_utf8_lossy(&wire.frame()).into_owned();
            let told = told.replace(&format!(":{}\r\n", self.ids[0]), ":DATA\r\n");
            self.told.push(format!("{step}: {}", told.replace(&format!(":{}\r\n", self.ids[1]), ":EAR\r\n")));
        }
    }

    fn all(mut self, steps: &[&str]) -> Vec<String> {
        steps.iter().for_each(|step| self.step(step));
        self.told
    }
}

const STORIES: &[&[&str]] = &[
    // The recipe of RESP2, in either order.
    &[
        "ear SUBSCRIBE __redis__:invalidate",
        "data CLIENT TRACKING ON REDIRECT EAR",
        "data GET a",
        "writer SET a 1",
        "ear hears",
        "data CLIENT GETREDIR",
        "data CLIENT TRACKINGINFO",
    ],
    &[
        "data CLIENT TRACKING ON REDIRECT EAR",
        "ear SUBSCRIBE __redis__:invalidate",
        "data GET a",
        "writer SET a 1",
        "ear hears",
        "writer FLUSHALL",
        "ear hears",
        "data CLIENT TRACKINGINFO",
    ],
    // Nobody hears what comes before the subscription, or after it.
    &[
        "data CLIENT TRACKING ON REDIRECT EAR",
        "data GET a",
        "writer SET a 1",
        "ear PING",
        "ear SUBSCRIBE __redis__:invalidate",
        "data GET a",
        "writer SET a 2",
        "ear hears",
        "ear UNSUBSCRIBE __redis__:invalidate",
        "data GET a",
        "writer SET a 3",
        "ear PING",
        "ear GET a",
        "ear SUBSCRIBE __redis__:invalidate",
        "data GET a",
        "writer SET a 4",
        "ear hears",
    ],
    // In RESP3 no subscription is needed.
    &[
        "ear HELLO 3",
        "data CLIENT TRACKING ON REDIRECT EAR",
        "data GET a",
        "writer SET a 1",
        "ear hears",
        "ear BLPOP nosuch 0.01",
        "ear MULTI",
        "ear GET a",
        "ear EXEC",
        "data GET a",
        "writer SET a 2",
        "ear hears",
        "data CLIENT TRACKING ON BCAST",
        "data CLIENT TRACKING OFF",
        "data CLIENT TRACKING ON REDIRECT EAR BCAST PREFIX b",
        "writer SET b1 1",
        "ear hears",
    ],
    // One that is inside a transaction, or watches, has a connection already.
    &[
        "ear HELLO 3",
        "ear WATCH w",
        "data CLIENT TRACKING ON REDIRECT EAR",
        "ear MULTI",
        "ear SET w 1",
        "data GET a",
        "writer SET w 2",
        "ear EXEC",
        "writer SET a 1",
        "ear hears",
        "ear GET a",
    ],
    // It leaves: in RESP3 that is told, once something is to be sent to it.
    &[
        "data HELLO 3",
        "data CLIENT TRACKING ON REDIRECT EAR",
        "data GET a",
        "ear leaves",
        "data CLIENT TRACKINGINFO",
        "writer SET a 1",
        "data hears",
        "data CLIENT TRACKINGINFO",
        "data CLIENT GETREDIR",
        "data CLIENT TRACKING ON REDIRECT EAR",
        "data CLIENT TRACKING OFF",
        "data CLIENT GETREDIR",
    ],
    &[
        "ear SUBSCRIBE __redis__:invalidate other",
        "ear hears",
        "data CLIENT TRACKING ON REDIRECT EAR",
        "data GET a",
        "ear leaves",
        "writer SET a 1",
        "data CLIENT TRACKINGINFO",
    ],
    // To itself, and to one another.
    &[
        "data HELLO 3",
        "data CLIENT TRACKING ON REDIRECT DATA",
        "data GET a",
        "writer SET a 1",
        "data hears",
        "data CLIENT TRACKINGINFO",
    ],
    &[
        "ear HELLO 3",
        "data HELLO 3",
        "data CLIENT TRACKING ON REDIRECT EAR",
        "ear CLIENT TRACKING ON REDIRECT DATA",
        "data GET a",
        "ear GET b",
        "writer SET a 1",
        "ear hears",
        "writer SET b 1",
        "data hears",
    ],
    // What is wrong.
    &[
        "data CLIENT TRACKING ON REDIRECT 0",
        "data CLIENT TRACKING ON REDIRECT -1",
        "data CLIENT TRACKING ON REDIRECT 999999",
        "data CLIENT TRACKING ON REDIRECT x",
        "data CLIENT TRACKING ON REDIRECT",
        "data CLIENT TRACKING ON REDIRECT EAR REDIRECT EAR",
        "data CLIENT TRACKING ON REDIRECT EAR NOSUCH",
        "data CLIENT TRACKING OFF REDIRECT EAR",
        "data CLIENT TRACKING ON OPTIN OPTOUT REDIRECT EAR",
        "data CLIENT TRACKING NOSUCH REDIRECT EAR",
        "data CLIENT GETREDIR",
        "data CLIENT TRACKINGINFO",
        "data GET a",
    ],
];

#[test]
fn invalidations_go_to_any_client_that_is_named() {
    for server in SERVERS {
        let (redis, twin) = (Redis::of(server, &[]), Redis::of(server, &[]));
        let sidecar = Sidecar::builder().redis(&redis).start();
        // No id is a number that something else may be.
        (0..100).for_each(|_| {
            assert_eq!([sidecar.wire(), twin.wire()].map(|mut wire| wire.ask("PING")).concat().len(), 14)
        });
        for steps in STORIES {
            let (ours, theirs) = (World::of(|| sidecar.wire()).all(steps), World::of(|| twin.wire()).all(steps));
            // HELLO tells ids.
            let told = |all: &[String]| -> Vec<String> {
                all.iter().filter(|told| !told.contains(" HELLO 3: ")).cloned().collect()
            };
            assert_eq!(told(&ours), told(&theirs), "{server:?}");
            for mut wire in [redis.wire(), twin.wire()] {
                wire.ask("FLUSHALL");
            }
        }
    }
}

#[test]
fn two_that_name_each_other_at_once_are_both_answered() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    for _ in 0..20 {
        let mut pair = [sidecar.wire(), sidecar.wire()];
        let ids = pair.each_mut().map(|wire| wire.ask("CLIENT ID")[1..].trim_end().to_owned());
        for (wire, id) in pair.iter_mut().zip(ids.iter().rev()) {
            wire.send(&line(&format!("CLIENT TRACKING ON REDIRECT {id}")));
        }
        for wire in &mut pair {
            assert_eq!(wire.frame(), b"+OK\r\n");
        }
    }
}

#[test]
fn a_connection_to_which_invalidations_go_is_lent_to_nobody_else() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).set("SERVER__WORKERS", "1").start();
    let (mut data, mut ear, mut other, mut writer) = (sidecar.wire(), sidecar.wire(), sidecar.wire(), redis.wire());
    let to = ear.ask("CLIENT ID");
    ear.ask("SUBSCRIBE __redis__:invalidate");
    assert_eq!(data.ask(&format!("CLIENT TRACKING ON REDIRECT {}", to[1..].trim_end())), "+OK\r\n");
    ear.ask("UNSUBSCRIBE");
    data.ask("GET a");
    // It would be lent the connection that lies idle.
    other.ask("SUBSCRIBE __redis__:invalidate");
    assert_eq!(writer.ask("SET a 1"), "+OK\r\n");
    assert_eq!(other.ask("PING"), "*2\r\n$4\r\npong\r\n$0\r\n\r\n", "it hears nothing of other clients' keys");
}
