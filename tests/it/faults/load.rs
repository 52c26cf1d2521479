//! The wrong-reply detector: clients that each ask what only they can be answered. Every request carries a value that
//! no other has, and its reply must hold it, or be an error.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hearthside::resp::reply::{Frame, ReplyScanner};

use crate::support::wire::array;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Reads and counted writes that pass through.
    Through,
    /// Writes and reads of a field of a cached key.
    Owned,
}

/// What one client saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub id: usize,
    /// Increments that were acknowledged, and those that may have been applied.
    pub counted: u64,
    pub ambiguous: u64,
    /// Errors by their text, without numbers.
    pub errors: BTreeMap<String, u64>,
    /// Connections that ended.
    pub closed: u64,
    /// Replies that belong to something else.
    pub wrong: Vec<String>,
    /// The last value of its field that was acknowledged, and those that came after it and were not.
    pub kept: Option<String>,
    pub perhaps: Vec<String>,
}

struct Shared {
    port: u16,
    stop: AtomicBool,
    /// Requests that were answered with what they asked for, by client.
    answered: Vec<AtomicU64>,
}

pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Seen>>,
}

/// Longer than every deadline that a test sets.
const PATIENCE: Duration = Duration::from_secs(30);

impl Load {
    pub fn start(port: u16, clients: usize, ask: &[Ask]) -> Self {
        let answered = (0..clients).map(|_| AtomicU64::new(0)).collect();
        let shared = Arc::new(Shared { port, stop: AtomicBool::new(false), answered });
        let spawn = |id: usize| {
            let (shared, ask) = (shared.clone(), ask[id % ask.len()]);
            std::thread::spawn(move || Client { id, ask, shared, seq: 0, seen: Seen { id, ..Seen::default() } }.run())
        };
        Self { clients: (0..clients).map(spawn).collect(), shared: shared.clone() }
    }

    /// Waits until every client has been answered so many times more.
    pub fn go_on(&self, more: u64) {
        let goals: Vec<u64> = self.shared.answered.iter().map(|answered| answered.load(SeqCst) + more).collect();
        let begun = Instant::now();
        while self.shared.answered.iter().zip(&goals).any(|(answered, goal)| answered.load(SeqCst) < *goal) {
            assert!(
                begun.elapsed() < 3 * PATIENCE,
                "not every client is served: {:?} of {goals:?}",
                self.shared.answered
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Replies so far.
    pub fn answered(&self) -> u64 {
        self.shared.answered.iter().map(|answered| answered.load(SeqCst)).sum()
    }

    pub fn stop(self) -> Vec<Seen> {
        self.shared.stop.store(true, SeqCst);
        self.clients.into_iter().map(|client| client.join().expect("a client")).collect()
    }
}

/// The cached key that a client writes to; others do too.
pub fn player(id: usize) -> String {
    format!("player:{}:session", id % 50 + 1)
}

/// A request, and what its reply must hold.
struct Asked {
    request: Vec<u8>,
    holds: String,
    is_counted: bool,
    /// A key of its own that may not have been written yet.
    may_be_absent: bool,
    /// The value that it writes to its client's field.
    writes: Option<String>,
}

struct Client {
    id: usize,
    ask: Ask,
    shared: Arc<Shared>,
    seq: u64,
    seen: Seen,
}

const COUNT: &str = "redis.call('INCR', KEYS[1]) return ARGV[1]";
const ECHO: &str = "return ARGV[1]";

impl Client {
    fn run(mut self) -> Seen {
        while !self.shared.stop.load(SeqCst) {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.shared.port)) else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            stream.set_nodelay(true).expect("a socket");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            if self.id % 2 == 1 && !self.greet(&mut stream) {
                continue;
            }
            let mut is_open = true;
            while is_open && !self.shared.stop.load(SeqCst) {
                is_open = self.pipeline(&mut stream);
            }
        }
        self.seen
    }

    fn greet(&mut self, stream: &mut TcpStream) -> bool {
        let sent = stream.write_all(&array(&["HELLO", "3"])).is_ok();
        sent && read_replies(stream, 1, self.ask).0.len() == 1
    }

    fn pipeline(&mut self, stream: &mut TcpStream) -> bool {
        let asked: Vec<Asked> = (0..=self.seq % 7).map(|_| self.next()).collect();
        let bytes: Vec<u8> = asked.iter().flat_map(|asked| asked.request.clone()).collect();
        let is_sent = stream.write_all(&bytes).is_ok();
        let (replies, rest) = if is_sent { read_replies(stream, asked.len(), self.ask) } else { Default::default() };
        if !rest.is_empty() {
            self.seen.wrong.push(format!("nobody asked for {:?}", String::from_utf8_lossy(&rest)));
        }
        let is_whole = replies.len() == asked.len();
        let mut replies = replies.into_iter();
        for asked in asked {
            match replies.next() {
                Some(reply) => self.judge(asked, &String::from_utf8_lossy(&reply)),
                None => self.lost(asked),
            }
        }
        self.seen.closed += u64::from(!is_whole);
        is_whole
    }

    fn next(&mut self) -> Asked {
        self.seq += 1;
        let (id, unique) = (self.id, format!("client-{}-request-{}.", self.id, self.seq));
        let asked = |words: &[&str], holds: &str| Asked {
            request: array(words),
            holds: holds.to_owned(),
            is_counted: false,
            may_be_absent: false,
            writes: None,
        };
        let of_its_own =
            |words: &[&str]| Asked { may_be_absent: true, ..asked(words, &format!("client-{id}-request-")) };
        let player = player(id);
        let field = format!("note_{id}");
        match (self.ask, self.seq % 4) {
            (Ask::Through, 0) => asked(&["EVAL_RO", ECHO, "0", &unique], &unique),
            (Ask::Through, 1) => {
                let count = format!("count:{id}");
                Asked { is_counted: true, ..asked(&["EVAL", COUNT, "1", &count, &unique], &unique) }
            }
            (Ask::Through, 2) => of_its_own(&["SET", &format!("mine:{id}"), &unique, "GET"]),
            (Ask::Through, _) => of_its_own(&["GET", &format!("mine:{id}")]),
            (Ask::Owned, 0 | 2) => {
                Asked { writes: Some(unique.clone()), ..asked(&["HSET", &player, &field, &unique], ":") }
            }
            // What it wrote last, or something newer of its own that may have been applied.
            (Ask::Owned, _) => of_its_own(&["HGET", &player, &field]),
        }
    }

    fn judge(&mut self, asked: Asked, reply: &str) {
        if let Some(error) = reply.strip_prefix('-') {
            let kind: String = error.chars().filter(|c| !c.is_ascii_digit()).collect();
            *self.seen.errors.entry(kind.trim_end().to_owned()).or_default() += 1;
            let may_be = error.contains("may have been applied");
            self.seen.ambiguous += u64::from(asked.is_counted && may_be);
            self.seen.perhaps.extend(asked.writes.filter(|_| may_be));
            return;
        }
        let is_absent = reply == "$-1\r\n" || reply == "_\r\n";
        let is_right = reply.contains(&asked.holds) || asked.may_be_absent && is_absent;
        if !is_right {
            self.seen.wrong.push(format!("{:?} was answered {reply:?}", String::from_utf8_lossy(&asked.request)));
        }
        self.seen.counted += u64::from(asked.is_counted);
        if let Some(value) = asked.writes {
            self.seen.kept = Some(value);
            self.seen.perhaps.clear();
        }
        self.shared.answered[self.id].fetch_add(1, SeqCst);
    }

    fn lost(&mut self, asked: Asked) {
        self.seen.ambiguous += u64::from(asked.is_counted);
        self.seen.perhaps.extend(asked.writes);
    }
}

/// So many replies, or fewer if the connection ends; and what came behind them.
fn read_replies(stream: &mut TcpStream, count: usize, ask: Ask) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut replies, mut buffer, mut chunk) = (Vec::new(), Vec::new(), [0; 16384]);
    let (mut scanner, mut seen) = (ReplyScanner::default(), 0);
    while replies.len() < count {
        let step = scanner.scan(&buffer[seen..]).expect("a reply");
        seen += step.used;
        match step.end {
            Some(Frame::Reply) => replies.push(buffer.drain(..std::mem::take(&mut seen)).collect()),
            Some(_) => drop(buffer.drain(..std::mem::take(&mut seen))),
            None => match stream.read(&mut chunk) {
                Ok(n @ 1..) => buffer.extend_from_slice(&chunk[..n]),
                Ok(0) => break,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("{ask:?}: no reply within {PATIENCE:?}, {} of {count} came on {stream:?}", replies.len())
                }
                Err(_) => break,
            },
        }
    }
    let rest = if replies.len() == count { buffer } else { Vec::new() };
    (replies, rest)
}
