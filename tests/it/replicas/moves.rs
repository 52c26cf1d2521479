//! Another server becomes the primary while clients read and write: each reads what it wrote last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{LAG, calls, is_read, reading, replica_of, url};
use crate::support::redis::{Redis, Server};
use crate::support::until;
use crate::support::wire::{Wire, line};

/// Clients that each write to a key of their own now and then, and read it all the time.
pub struct Readers {
    stop: Arc<AtomicBool>,
    /// Values that were written and acknowledged.
    pub written: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Readers {
    pub fn start(port: u16, clients: usize) -> Self {
        let (stop, written) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let client = |id: usize| {
            let (stop, written) = (stop.clone(), written.clone());
            std::thread::spawn(move || Reader::new(port, id, written).run(&stop))
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, written, clients }
    }

    /// Waits until so much more has been written.
    pub fn go_on(&self, more: u64) {
        let goal = self.written.load(Ordering::SeqCst) + more;
        until("clients are served", || self.written.load(Ordering::SeqCst) >= goal);
    }

    /// Everybody has read what it wrote.
    pub fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        let wrong: Vec<String> = self.clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

struct Reader {
    wire: Wire,
    key: String,
    /// What may be read: what was acknowledged last, and what was not acknowledged behind it. 0: nothing.
    may_be: Vec<u64>,
    next: u64,
    written: Arc<AtomicU64>,
    wrong: Vec<String>,
}

impl Reader {
    fn new(port: u16, id: usize, written: Arc<AtomicU64>) -> Self {
        let key = format!("page:{id}");
        Self { wire: Wire::tcp(port), key, may_be: vec![0], next: 1, written, wrong: vec![] }
    }

    fn run(mut self, stop: &AtomicBool) -> Vec<String> {
        while !stop.load(Ordering::SeqCst) {
            self.write();
            let begun = Instant::now();
            while begun.elapsed() < 2 * LAG && !stop.load(Ordering::SeqCst) {
                self.read();
            }
        }
        self.wrong
    }

    /// A read, a write and a read, in one pipeline.
    fn write(&mut self) {
        let (key, value) = (self.key.clone(), self.next);
        self.next += 1;
        self.wire.send(
            &[format!("GET {key}"), format!("SET {key} {value}"), format!("GET {key}")].map(|r| line(&r)).concat(),
        );
        let told: Vec<String> = (0..3).map(|_| String::from_utf8_lossy(&self.wire.frame()).into_owned()).collect();
        self.judge(&told[0]);
        if told[1] == "+OK\r\n" {
            self.may_be = vec![value];
            self.written.fetch_add(1, Ordering::SeqCst);
        } else if !told[1].contains("was not sent") && !told[1].contains("READONLY") {
            self.may_be.push(value);
        }
        self.judge(&told[2]);
    }

    fn read(&mut self) {
        let told = self.wire.ask(&format!("GET {}", self.key));
        self.judge(&told);
    }

    fn judge(&mut self, told: &str) {
        if told.starts_with('-') {
            return;
        }
        let value = told.lines().nth(1).and_then(|value| value.parse().ok()).unwrap_or(0);
        if !self.may_be.contains(&value) {
            self.wrong.push(format!("{} was {told:?}, not {:?}", self.key, self.may_be));
        }
    }
}

#[test]
fn a_coordinated_failover_of_plain_servers_is_followed() {
    let first = Redis::start();
    let second = replica_of(Server::Installed, first.port, &[]);
    let sidecar = reading(url(&[&first, &second])).start();
    is_read(&sidecar, second.port, true);
    let readers = Readers::start(sidecar.port, 6);
    readers.go_on(12);
    for (primary, replica) in [(&first, &second), (&second, &first), (&first, &second)] {
        until("the replica is online", || primary.wire().ask("INFO replication").contains("state=online"));
        let told = primary.wire().ask(&format!("FAILOVER TO 127.0.0.1 {} TIMEOUT 5000", replica.port));
        assert_eq!(told, "+OK\r\n");
        until("roles have changed", || replica.wire().ask("ROLE").contains("master"));
        readers.go_on(12);
        is_read(&sidecar, primary.port, true);
        let before = calls(primary.port, "get");
        until("the old primary is read", || calls(primary.port, "get") > before);
    }
    readers.stop();
}

#[test]
fn a_replica_takes_the_place_of_a_primary_that_died() {
    let mut first = Redis::start();
    let second = replica_of(Server::Installed, first.port, &[]);
    let sidecar = reading(url(&[&first, &second])).set("UPSTREAM__CONNECT_TIMEOUT", "300ms").start();
    is_read(&sidecar, second.port, true);
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("SET page:1 a"), "+OK\r\n");
    until("it is replicated", || second.wire().ask("GET page:1") == "$1\r\na\r\n");
    first.kill();
    assert_eq!(second.wire().ask("REPLICAOF NO ONE"), "+OK\r\n");
    let taken = until("writes are taken", || wire.ask("SET page:1 b") == "+OK\r\n");
    assert!(taken < Duration::from_secs(5), "{taken:?}");
    assert_eq!(second.wire().ask("GET page:1"), "$1\r\nb\r\n");
    first.launch();
    first.wire().ask(&format!("REPLICAOF 127.0.0.1 {}", second.port));
    is_read(&sidecar, first.port, true);
}
