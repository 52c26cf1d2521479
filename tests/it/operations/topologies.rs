//! SIGHUP with another `upstream.url`: from any kind of upstream to any other, while clients go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::reload::reload;
use crate::replicas::{replica_of, url};
use crate::support::clusters::Cluster;
use crate::support::nodes::slot_of;
use crate::support::redis::{Redis, Server};
use crate::support::sentinels::Group;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::{Wire, line};

/// Goes from each of the four to each other one.
const TOUR: [usize; 13] = [0, 1, 0, 2, 0, 3, 1, 2, 1, 3, 2, 3, 0];

/// The shipped configuration with this upstream.
fn config(url: &str) -> String {
    hearthside::config::SHIPPED.replace("[upstream]\nurl = \"\"", &format!("[upstream]\nurl = \"{url}\""))
}

/// What clients note while they go on.
#[derive(Default)]
struct Notes {
    is_over: AtomicBool,
    rounds: AtomicU64,
    /// Of the subscriber: the last message. Of the one that waits: how often it began to.
    message: AtomicU64,
    waits: AtomicU64,
    /// Of the one that tracks: what it keeps, and takes for true.
    kept: AtomicU64,
}

struct Clients {
    notes: Arc<Notes>,
    tasks: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(port: u16, count: usize) -> Self {
        let notes = Arc::<Notes>::default();
        let with = |work: Box<dyn FnOnce(Arc<Notes>) + Send>| {
            let notes = notes.clone();
            std::thread::spawn(move || work(notes))
        };
        let mut tasks: Vec<_> =
            (0..count).map(|id| with(Box::new(move |notes| Caller::new(port, id).run(&notes)))).collect();
        tasks.push(with(Box::new(move |notes| listen(port, &notes))));
        tasks.push(with(Box::new(move |notes| wait(port, &notes))));
        tasks.push(with(Box::new(move |notes| keep(port, &notes))));
        Self { notes, tasks }
    }

    /// All of them have been served some more.
    fn go_on(&self) {
        let goal = self.notes.rounds.load(Ordering::SeqCst) + 100;
        until("clients are served", || self.notes.rounds.load(Ordering::SeqCst) >= goal || self.has_ended());
        assert!(!self.has_ended(), "a client has ended");
    }

    fn has_ended(&self) -> bool {
        self.tasks.iter().any(JoinHandle::is_finished)
    }

    fn stop(self, wire: &mut Wire) {
        self.notes.is_over.store(true, Ordering::SeqCst);
        until("all have ended", || {
            wire.ask("PUBLISH news 0");
            wire.ask("RPUSH queue x");
            self.tasks.iter().all(JoinHandle::is_finished)
        });
        self.tasks.into_iter().for_each(|task| task.join().expect("nothing wrong"));
    }
}

/// A client that knows which replies are its own.
struct Caller {
    wire: Wire,
    id: usize,
    number: u64,
}

impl Caller {
    fn new(port: u16, id: usize) -> Self {
        Self { wire: Wire::tcp(port), id, number: 0 }
    }

    fn run(mut self, notes: &Notes) {
        while !notes.is_over.load(Ordering::SeqCst) {
            self.number += 1;
            self.ask_all();
            notes.rounds.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Each request has a reply that fits no other one. Another upstream may not have what was written, or what was
    /// written when it was the upstream before.
    fn ask_all(&mut self) {
        let (id, number) = (self.id, self.number);
        let requests = [
            format!("ECHO {id}:{number}"),
            format!("SET page:{id} {id}:{number}"),
            format!("GET page:{id}"),
            "MULTI".into(),
            format!("SET page:{id} {id}:{number}"),
            format!("GET page:{id}"),
            "EXEC".into(),
            format!("STRLEN page:{id}"),
        ];
        self.wire.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<u8>>());
        let value = format!("{id}:{number}");
        let bulk = format!("${}\r\n{value}\r\n", value.len());
        self.hears(&bulk);
        self.hears("+OK\r\n");
        self.hears_own();
        ["+OK\r\n", "+QUEUED\r\n", "+QUEUED\r\n"].iter().for_each(|reply| self.hears(reply));
        self.hears(&format!("*2\r\n+OK\r\n{bulk}"));
        let length = self.frame();
        assert!(length.starts_with(':'), "{length}");
        self.wire.send(&line(&format!("GET page:{id}")));
        self.hears_own();
    }

    fn frame(&mut self) -> String {
        String::from_utf8_lossy(&self.wire.frame()).into_owned()
    }

    fn hears(&mut self, reply: &str) {
        assert_eq!(self.frame(), reply);
    }

    /// Something that it has written itself, or nothing.
    fn hears_own(&mut self) {
        let told = self.frame();
        let its = told.lines().nth(1).and_then(|value| value.split_once(':')).map(|(id, number)| {
            let number: u64 = number.parse().expect("a number");
            (id.parse::<usize>().expect("a number"), number <= self.number)
        });
        assert!(told == "$-1\r\n" || its == Some((self.id, true)), "{told}");
    }
}

/// Hears messages until the end, wherever they are published.
fn listen(port: u16, notes: &Notes) {
    let mut wire = Wire::tcp(port);
    wire.send(&line("SUBSCRIBE news"));
    while !notes.is_over.load(Ordering::SeqCst) {
        let frame = String::from_utf8_lossy(&wire.frame()).into_owned();
        match frame.lines().collect::<Vec<_>>()[..] {
            [_, _, "message", _, "news", _, number] => {
                notes.message.fetch_max(number.parse().expect("a number"), Ordering::SeqCst);
            }
            [_, _, "subscribe", ..] => {}
            _ => panic!("{frame}"),
        }
    }
}

/// Waits for elements of a list until the end; it is told when its connection is lost.
fn wait(port: u16, notes: &Notes) {
    let mut wire = Wire::tcp(port);
    while !notes.is_over.load(Ordering::SeqCst) {
        notes.waits.fetch_add(1, Ordering::SeqCst);
        let told = wire.ask("BLPOP queue 10");
        assert!(told.contains("queue") || told.starts_with("*-1") || told.contains("connection"), "{told}");
    }
}

/// Keeps what it has read until it is told to forget it.
fn keep(port: u16, notes: &Notes) {
    let (mut wire, mut is_kept) = (Wire::tcp(port), false);
    wire.ask("HELLO 3");
    assert_eq!(wire.ask("CLIENT TRACKING ON"), "+OK\r\n");
    while !notes.is_over.load(Ordering::SeqCst) {
        let asked = if is_kept { "PING" } else { "GET kept" };
        wire.send(&line(asked));
        let reply = loop {
            let frame = String::from_utf8_lossy(&wire.frame()).into_owned();
            if !frame.starts_with('>') {
                break frame;
            }
            assert!(frame.contains("invalidate"), "{frame}");
            is_kept = false;
        };
        if asked != "PING" {
            assert!(!reply.starts_with('-'), "{reply}");
            is_kept = true;
            let number = reply.lines().nth(1).map_or(0, |number| number.parse().expect("a number"));
            notes.kept.store(number, Ordering::SeqCst);
        }
    }
}

/// The four kinds of upstream.
struct Places {
    alone: Redis,
    several: [Redis; 2],
    group: Group,
    cluster: Cluster,
}

impl Places {
    fn start() -> Self {
        let first = Redis::start();
        let second = replica_of(Server::Installed, first.port, &[]);
        Self { alone: Redis::start(), several: [second, first], group: Group::start(), cluster: Cluster::start() }
    }

    fn url(&self, kind: usize) -> String {
        match kind {
            0 => self.alone.url(),
            1 => url(&self.several.each_ref()),
            2 => self.group.url(),
            _ => self.cluster.url(),
        }
    }

    /// Who takes writes of this key.
    fn port(&self, kind: usize, key: &str) -> u16 {
        match kind {
            0 => self.alone.port,
            1 => self.several[1].port,
            2 => self.group.master(),
            _ => self.cluster.owner(slot_of(key)),
        }
    }
}

fn before(places: &Places) -> Builder {
    Sidecar::builder().config(&config(&places.url(TOUR[0]))).expect(warnings::UPSTREAM_AWAY).expect(&[
        warnings::NODE_SILENT,
        warnings::NODE_FAILED,
        warnings::SENTINEL_SILENT,
        warnings::REPLICA_SILENT,
    ])
}

/// Nobody is cut, nobody gets a wrong reply or, but for who waits, an error.
fn tour(places: &Places, sidecar: &Sidecar) {
    let (mut wire, clients) = (sidecar.wire(), Clients::start(sidecar.port, 8));
    clients.go_on();
    for (step, kind) in TOUR.into_iter().enumerate().skip(1) {
        reload(sidecar, &config(&places.url(kind)));
        let key = format!("page:now:{step}");
        until("it is written there", || {
            assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n", "{step}");
            Wire::tcp(places.port(kind, &key)).ask(&format!("DEL {key}")) == ":1\r\n"
        });
        clients.go_on();
        until("the subscriber hears what is published there", || {
            wire.ask(&format!("PUBLISH news {step}"));
            clients.notes.message.load(Ordering::SeqCst) >= step as u64
        });
        assert_eq!(wire.ask(&format!("SET kept {step}")), "+OK\r\n");
        until("the client that tracks is told of it", || clients.notes.kept.load(Ordering::SeqCst) == step as u64);
        let waits = clients.notes.waits.load(Ordering::SeqCst);
        until("what is pushed there is popped", || {
            assert!(wire.ask("RPUSH queue x").starts_with(':'), "{step}");
            clients.notes.waits.load(Ordering::SeqCst) > waits
        });
    }
    clients.stop(&mut wire);
}

#[test]
fn the_last_upstream_takes_commands_until_the_next_one_answers() {
    let (cluster, alone) = (Cluster::start(), Redis::start());
    let silent = [warnings::SENTINEL_SILENT, warnings::SENTINELS_SILENT, warnings::REPLICA_SILENT];
    let sidecar = Sidecar::builder().config(&config(&cluster.url())).expect(&silent).start();
    let mut wire = sidecar.wire();
    let goes_on = |wire: &mut Wire| {
        for key in cluster.key_of_each() {
            assert_eq!(wire.ask(&format!("SET {key} 1")), "+OK\r\n");
            assert_eq!(wire.ask(&format!("DEL {key} elsewhere")), ":1\r\n");
        }
    };
    until("the nodes are known", || wire.ask("DBSIZE") == ":0\r\n");
    for url in ["redis+sentinel://127.0.0.1:1,127.0.0.1:2/game", "redis://127.0.0.1:1,127.0.0.1:2"] {
        reload(&sidecar, &config(url));
        goes_on(&mut wire);
        goes_on(&mut sidecar.wire());
    }
    let slot = slot_of("moves");
    let owner = cluster.owner(slot);
    let other = cluster.masters().into_iter().find(|port| *port != owner).expect("three");
    cluster.move_slot(slot, other);
    assert_eq!(wire.ask("SET moves 1"), "+OK\r\n", "its nodes are still asked");
    reload(&sidecar, &config(&alone.url()));
    until("the next one answers", || alone.wire().ask("DBSIZE") == ":1\r\n" || wire.ask("SET a 1") != "+OK\r\n");
    assert_eq!(alone.wire().ask("GET a"), "$1\r\n1\r\n");
}

#[test]
fn clients_go_on_from_any_kind_of_upstream_to_any_other() {
    let places = Places::start();
    tour(&places, &before(&places).start());
}

#[test]
fn clients_that_read_from_replicas_go_on_from_any_kind_of_upstream_to_any_other() {
    let places = Places::start();
    let builder = before(&places).set("UPSTREAM__READ_FROM", "nearest").set("UPSTREAM__READ_KEYS", "page:*");
    let sidecar = builder.set("UPSTREAM__READ_LAG", "100ms").start();
    tour(&places, &sidecar);
}
