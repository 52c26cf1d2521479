//! The nodes of a Redis Cluster as they are asked: who has which slots, and slots on their way.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::until;
use super::wire::Wire;

const SLOTS: u16 = 16384;

/// What one node says of one of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Known {
    pub port: u16,
    pub id: String,
    /// Whose replica it is.
    pub master: Option<String>,
    /// The first slot and the last of each range.
    pub slots: Vec<(u16, u16)>,
    pub is_well: bool,
    pub epoch: u64,
    is_itself: bool,
}

impl Known {
    /// `ID HOST:PORT@BUS,NAME FLAGS MASTER PING PONG EPOCH LINK SLOTS...`
    fn of(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [id, place, flags, master, _, _, epoch, ..] = words[..] else { return None };
        let port = place.split('@').next()?.rsplit(':').next()?.parse().ok()?;
        let is = |flag: &str| flags.split(',').any(|of_it| of_it == flag);
        let range = |text: &&str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some((first.parse().ok()?, last.parse().ok()?))
        };
        Some(Self {
            port,
            id: id.to_owned(),
            master: is("slave").then(|| master.to_owned()),
            // Slots that are on the move are told as `[SLOT->-ID]`.
            slots: words.iter().skip(8).filter_map(range).collect(),
            is_well: !["fail", "fail?", "handshake", "noaddr"].into_iter().any(is),
            epoch: epoch.parse().ok()?,
            is_itself: is("myself"),
        })
    }

    fn has(&self, slot: u16) -> bool {
        self.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }

    fn is_master(&self) -> bool {
        self.master.is_none() && !self.slots.is_empty()
    }
}

impl Display for Known {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let count: u16 = self.slots.iter().map(|(first, last)| last - first + 1).sum();
        let state = if self.is_well { "well" } else { "not well" };
        write!(f, "{} is {state} with {count} slots (epoch {}, of {:?})", self.port, self.epoch, self.master)
    }
}

/// A slot that is on its way from one master to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    pub slot: u16,
    pub from: u16,
    pub to: u16,
}

/// Nodes that answer; they go by their ports.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    pub ports: Vec<u16>,
}

impl Nodes {
    pub fn without(&self, port: u16) -> Self {
        Self { ports: self.ports.iter().copied().filter(|other| *other != port).collect() }
    }

    /// What each says of itself.
    fn selves(&self) -> Vec<Known> {
        self.ports.iter().filter_map(|port| view_of(*port)?.into_iter().find(|known| known.is_itself)).collect()
    }

    /// What each says of all, if all answer.
    pub fn views(&self) -> Option<Vec<Vec<Known>>> {
        let without_itself = |mut view: Vec<Known>| {
            view.iter_mut().for_each(|known| known.is_itself = false);
            view
        };
        self.ports.iter().map(|port| view_of(*port).map(without_itself)).collect()
    }

    /// Whether all know the same, epochs too.
    fn agree(&self) -> bool {
        self.views().is_some_and(|views| views.windows(2).all(|two| two[0] == two[1]))
    }

    /// Those that have slots, in the order in which they were started.
    pub fn masters(&self) -> Vec<u16> {
        self.selves().into_iter().filter(Known::is_master).map(|known| known.port).collect()
    }

    pub fn replicas(&self) -> Vec<u16> {
        self.selves().into_iter().filter(|known| known.master.is_some()).map(|known| known.port).collect()
    }

    pub fn replicas_of(&self, master: u16) -> Vec<u16> {
        let id = self.id(master);
        let is_of_it = |known: &Known| known.master.as_ref() == Some(&id);
        self.selves().into_iter().filter(is_of_it).map(|known| known.port).collect()
    }

    /// The master of a slot, if one of these is. Of two that take themselves for it, one has been replaced and does not
    /// know yet.
    pub fn owner_now(&self, slot: u16) -> Option<u16> {
        let owners = self.selves().into_iter().filter(|known| known.is_master() && known.has(slot));
        owners.max_by_key(|known| known.epoch).map(|known| known.port)
    }

    /// The same, which there will be.
    pub fn owner(&self, slot: u16) -> u16 {
        let mut owner = None;
        until("the slot is somebody's", || {
            owner = self.owner_now(slot);
            owner.is_some()
        });
        owner.expect("found")
    }

    /// Whether all know that this one has slots.
    pub fn all_know_master(&self, port: u16) -> bool {
        let is_it = |known: &Known| known.port == port && known.is_master();
        self.views().is_some_and(|views| views.iter().all(|view| view.iter().any(is_it)))
    }

    pub fn id(&self, port: u16) -> String {
        let mut id = None;
        until("a node tells its name", || {
            id = told(port, "CLUSTER MYID").and_then(|told| told.lines().nth(1).map(str::to_owned));
            id.is_some()
        });
        id.expect("told")
    }

    /// The names of keys that a master has, the first of them, the second, and so on.
    pub fn keys_of(&self, master: u16) -> impl Iterator<Item = String> + use<> {
        let known = self.selves().into_iter().find(|known| known.port == master).expect("one of the nodes");
        assert!(known.is_master(), "{known:?}");
        (0..).map(|n| format!("key:{n}")).filter(move |key| known.has(slot_of(key)))
    }

    /// The name of a key that this master has.
    pub fn key_of(&self, master: u16) -> String {
        self.keys_of(master).next().expect("endless")
    }

    /// One key of each master.
    pub fn key_of_each(&self) -> Vec<String> {
        self.masters().into_iter().map(|master| self.key_of(master)).collect()
    }

    /// Tells both masters that the slot moves; its keys are not touched yet.
    pub fn begin_move(&self, slot: u16, to: u16) -> Move {
        let from = self.owner(slot);
        let (source, target) = (self.id(from), self.id(to));
        order(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {source}"));
        forget_strays(slot, to);
        order(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {target}"));
        Move { slot, from, to }
    }

    /// Takes these keys to where their slot moves; false when the other side does not take them now.
    pub fn carry(&self, on: Move, keys: &[&str]) -> bool {
        let port = on.to.to_string();
        let words = [&["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"], keys].concat();
        let told = String::from_utf8_lossy(&Wire::tcp(on.from).call(&words)).into_owned();
        // The one or the other does not know of the move yet, or any more.
        let is_unready = told.contains("CLUSTERDOWN") || told.contains("MOVED");
        assert!(is_unready || ["+OK\r\n", "+NOKEY\r\n"].contains(&told.as_str()), "{told}");
        !is_unready
    }

    /// Takes what is left of the slot's keys, and tells all masters whose it is. First they must know of the last move:
    /// otherwise two claims can have one epoch, and a slot no owner that all of them name.
    pub fn finish_move(&self, on: Move) {
        let id = self.id(on.to);
        until("all masters know of the last move", || Self { ports: self.masters() }.agree());
        until("all keys are moved", || {
            let told = Wire::tcp(on.from).ask(&format!("CLUSTER GETKEYSINSLOT {} 100", on.slot));
            let keys: Vec<&str> = told.lines().skip(2).step_by(2).collect();
            let is_empty = keys.is_empty();
            is_empty || {
                self.carry(on, &keys);
                false
            }
        });
        let others = self.masters().into_iter().filter(|port| *port != on.from && *port != on.to);
        for port in [on.to, on.from].into_iter().chain(others) {
            order(port, &format!("CLUSTER SETSLOT {} NODE {id}", on.slot));
        }
    }

    /// Moves a slot with its keys, if it is not there.
    pub fn move_slot(&self, slot: u16, to: u16) {
        if self.owner(slot) != to {
            self.finish_move(self.begin_move(slot, to));
        }
    }
}

/// Deletes keys of a slot that this master does not have yet: it had the slot once, and was a replica when they were
/// taken away, of which it did not hear before its master failed. A request for several keys would find the old values
/// there.
fn forget_strays(slot: u16, importing: u16) {
    let mut wire = Wire::tcp(importing);
    until("no stray key is left", || {
        let told = wire.ask(&format!("CLUSTER GETKEYSINSLOT {slot} 100"));
        let strays: Vec<&str> = told.lines().skip(2).step_by(2).collect();
        for stray in &strays {
            eprintln!("a stray key of slot {slot} at {importing}: {stray}");
            assert_eq!(wire.ask("ASKING"), "+OK\r\n");
            wire.ask(&format!("DEL {stray}"));
        }
        strays.is_empty()
    });
}

/// What must be done is done.
pub fn order(port: u16, text: &str) {
    let told = Wire::tcp(port).ask(text);
    assert_eq!(told, "+OK\r\n", "{text}");
}

/// What a node answers, if it does.
pub fn told(port: u16, text: &str) -> Option<String> {
    Wire::try_tcp(port, Duration::from_secs(2))?.try_ask(text)
}

/// What a node knows of all, in the order of their ports.
fn view_of(port: u16) -> Option<Vec<Known>> {
    let told = told(port, "CLUSTER NODES")?;
    let mut view: Vec<Known> = told.lines().filter_map(Known::of).collect();
    view.sort();
    Some(view).filter(|view| view.iter().any(|known| known.is_itself))
}

/// The slot of a key, of which only what stands between braces counts, if any does.
pub fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let counts = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    let shifted = |crc: u16| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
    let crc = counts.bytes().fold(0, |crc, byte| (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| shifted(crc)));
    crc % SLOTS
}
