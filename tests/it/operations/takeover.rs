//! A new sidecar takes over from another one under load: nobody is refused or reset, every reply comes, and nothing is
//! done whose reply does not come.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::wire::{Wire, line};
use crate::support::{free_port, until};

/// Those who come, ask once and go; and those who stay.
const PASSING: usize = 8;
const STAYING: usize = 4;

/// What one client knows of its own counter at the upstream.
struct Counted {
    key: String,
    acknowledged: u64,
}

impl Counted {
    /// One more; `false` when the connection ended instead of the reply. A reset is an error, whenever it comes.
    fn increment(&mut self, stream: &mut TcpStream) -> bool {
        stream.write_all(&line(&format!("INCR {}", self.key))).unwrap_or_else(|error| panic!("{}: {error}", self.key));
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte).unwrap_or_else(|error| panic!("{}: {error}", self.key)) {
                0 if reply.is_empty() => return false,
                0 => panic!("{}: a reply was cut: {reply:?}", self.key),
                _ => reply.push(byte[0]),
            }
        }
        let expected = format!(":{}\r\n", self.acknowledged + 1);
        assert_eq!(String::from_utf8_lossy(&reply), expected, "{}: something was done whose reply was lost", self.key);
        self.acknowledged += 1;
        true
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap_or_else(|error| panic!("refused: {error}"));
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    stream
}

struct Crowd {
    port: u16,
    is_over: AtomicBool,
    connected: AtomicU64,
}

impl Crowd {
    /// Who has just connected is always answered.
    fn pass_by(&self, number: usize) -> Counted {
        let mut counted = Counted { key: format!("passing:{number}"), acknowledged: 0 };
        while !self.is_over.load(Relaxed) {
            let mut stream = connect(self.port);
            assert!(counted.increment(&mut stream), "{} was not answered", counted.key);
            self.connected.fetch_add(1, Relaxed);
        }
        counted
    }

    /// Who has been connected for long may be closed between two requests, and connects again.
    fn stay(&self, number: usize) -> Counted {
        let mut counted = Counted { key: format!("staying:{number}"), acknowledged: 0 };
        while !self.is_over.load(Relaxed) {
            let mut stream = connect(self.port);
            assert!(counted.increment(&mut stream), "{} was not answered", counted.key);
            let mut is_connected = true;
            while is_connected && !self.is_over.load(Relaxed) {
                is_connected = counted.increment(&mut stream);
            }
        }
        counted
    }
}

/// Runs `takeovers` while clients come and go, and sees that all is counted.
fn under_load(port: u16, redis: &Redis, takeovers: impl FnOnce(&dyn Fn())) {
    let crowd = Crowd { port, is_over: AtomicBool::new(false), connected: AtomicU64::new(0) };
    let counted = thread::scope(|scope| {
        let crowd = &crowd;
        let passing = (0..PASSING).map(|number| scope.spawn(move || crowd.pass_by(number)));
        let staying = (0..STAYING).map(|number| scope.spawn(move || crowd.stay(number)));
        let all: Vec<_> = passing.collect::<Vec<_>>().into_iter().chain(staying.collect::<Vec<_>>()).collect();
        let more_come = || {
            let before = crowd.connected.load(Relaxed);
            until("clients come", || {
                crowd.connected.load(Relaxed) > before + 100 || all.iter().any(|c| c.is_finished())
            });
        };
        takeovers(&more_come);
        crowd.is_over.store(true, Relaxed);
        all.into_iter().map(|client| client.join().expect("a client")).collect::<Vec<_>>()
    });
    let mut wire = redis.wire();
    for Counted { key, acknowledged } in counted {
        assert!(acknowledged > 0);
        let stored = acknowledged.to_string();
        assert_eq!(wire.ask(&format!("GET {key}")), format!("${}\r\n{stored}\r\n", stored.len()), "{key}");
    }
}

fn sharing(redis: &Redis) -> Builder {
    Sidecar::builder().config("").redis(redis).set("SERVER__REUSE_PORT", "true")
}

#[test]
fn a_sidecar_that_shares_the_port_takes_over_under_load() {
    let (redis, port) = (Redis::start(), free_port());
    let start = || sharing(&redis).set("SERVER__LISTEN", format!("127.0.0.1:{port}")).start();
    let mut sidecar = start();
    under_load(port, &redis, |more_come| {
        for _ in 0..3 {
            more_come();
            let next = start();
            more_come();
            assert_eq!(std::mem::replace(&mut sidecar, next).stop(), Some(0));
        }
        more_come();
    });
}

#[test]
fn who_connects_while_no_process_has_the_passed_socket_is_served_by_the_next() {
    let (redis, listener) = (Redis::start(), TcpListener::bind("127.0.0.1:0").expect("binds"));
    let start = || Sidecar::builder().config("").redis(&redis).on(&listener).start();
    let port = listener.local_addr().expect("bound").port();
    let mut sidecar = start();
    under_load(port, &redis, |more_come| {
        for _ in 0..3 {
            more_come();
            assert_eq!(sidecar.stop(), Some(0));
            sidecar = start();
        }
        more_come();
    });
}

#[test]
fn who_never_stops_sending_gets_every_reply_of_what_was_done() {
    let redis = Redis::start();
    let mut sidecar = Sidecar::builder().config("").redis(&redis).start();
    let mut reader = connect(sidecar.port);
    let mut writer = reader.try_clone().expect("a socket");
    // It ends when nobody takes more of it.
    let sending = thread::spawn(move || while writer.write_all(&line("INCR n").repeat(100)).is_ok() {});
    let (read, replies) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 16 * 1024];
            loop {
                let got = reader.read(&mut buffer).expect("no reset");
                replies.fetch_add(buffer[..got].iter().filter(|byte| **byte == b'\n').count() as u64, Relaxed);
                if got == 0 {
                    return;
                }
                read.fetch_add(got as u64, Relaxed);
            }
        });
        until("it is served", || read.load(Relaxed) > 1_000_000);
        assert_eq!(sidecar.stop(), Some(0));
    });
    sending.join().expect("a thread");
    let done = redis.wire().ask("GET n");
    assert_eq!(done.lines().nth(1), Some(&*replies.load(Relaxed).to_string()));
}

/// Takes elements until its connection ends; how many.
fn taken(mut wire: Wire, queue: &str) -> usize {
    let taken = (0..).take_while(|_| wire.try_ask(&format!("BLPOP {queue} 0")).is_some());
    taken.count()
}

#[test]
fn a_stop_takes_no_element_of_those_who_wait() {
    const QUEUES: usize = 30;
    let redis = Redis::start();
    let sidecar = Sidecar::builder().config("").redis(&redis).start();
    let (stop, pushed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let taken: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..QUEUES)
            .map(|queue| (sidecar.wire(), format!("q:{queue}")))
            .map(|(wire, queue)| scope.spawn(move || taken(wire, &queue)))
            .collect();
        scope.spawn(|| {
            let mut redis = redis.wire();
            while !stop.load(SeqCst) {
                (0..QUEUES).for_each(|queue| _ = redis.ask(&format!("RPUSH q:{queue} x")));
                pushed.fetch_add(QUEUES, SeqCst);
            }
        });
        until("elements are taken", || pushed.load(SeqCst) > 20 * QUEUES);
        sidecar.signal("TERM");
        let taken = clients.into_iter().map(|client| client.join().expect("a client")).sum();
        stop.store(true, SeqCst);
        taken
    });
    let mut redis = redis.wire();
    let length = |queue| redis.ask(&format!("LLEN q:{queue}"))[1..].trim().parse::<usize>().expect("a number");
    let left: usize = (0..QUEUES).map(length).sum();
    assert_eq!(taken + left, pushed.load(SeqCst), "each is with a client, or in its list");
}

#[test]
fn a_passed_socket_that_does_not_listen_ends_the_start() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    let output = Sidecar::builder().config("").on(&socket.into()).execute(&["run"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && told.contains("a socket was passed that does not listen"), "{told}");
}

#[test]
fn a_socket_that_is_in_no_setting_is_not_left_to_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let builder = Sidecar::builder().config("").on(&listener).set("SERVER__LISTEN", "127.0.0.1:0");
    let output = builder.execute(&["run"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let address = listener.local_addr().expect("bound");
    assert!(output.status.code() == Some(1) && told.contains(&format!("listens on {address} was passed")), "{told}");
}

#[test]
fn a_unix_socket_is_taken_over_and_left_to_its_new_owner() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("socket");
    let start = || sharing(&redis).set("SERVER__LISTEN", format!("unix://{}", path.display())).start_json();
    let ask = |stream: &mut UnixStream| {
        stream.write_all(&line("PING")).expect("sent");
        let mut reply = [0; 7];
        stream.read_exact(&mut reply).expect("answered");
        assert_eq!(&reply, b"+PONG\r\n");
    };
    let mut first = start();
    let mut old = UnixStream::connect(&path).expect("connects");
    ask(&mut old);
    let mut second = start();
    ask(&mut old);
    assert_eq!(first.stop(), Some(0));
    ask(&mut UnixStream::connect(&path).expect("connects"));
    assert_eq!(second.stop(), Some(0));
    assert!(!path.exists(), "nobody's socket is left");
}
