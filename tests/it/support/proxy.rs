//! A fault proxy: between a sidecar and one of its servers, it can cut connections, or hold them so that they are
//! open and silent.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

#[derive(Default)]
struct State {
    held: AtomicBool,
    refusing: AtomicBool,
    /// Most milliseconds that what the server says is held up, at random.
    delay: AtomicU64,
    accepted: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

impl Proxy {
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if !shared.refusing.load(SeqCst) {
                    connect(client, target, &shared);
                }
            }
        });
        Self { port, state }
    }

    /// Closes every connection at once.
    pub fn cut(&self) {
        for stream in self.state.open.lock().expect("a lock").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Closes new connections as they come; those that are open stay.
    pub fn refuse_new(&self, refusing: bool) {
        self.state.refusing.store(refusing, SeqCst);
    }

    /// Keeps connections open and passes nothing on.
    pub fn hold(&self, held: bool) {
        self.state.held.store(held, SeqCst);
    }

    /// Holds up what the server says, by up to so many milliseconds at random: answers of two connections overtake
    /// each other.
    pub fn delay(&self, most: u64) {
        self.state.delay.store(most, SeqCst);
    }

    /// Connections taken so far.
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(SeqCst)
    }
}

fn connect(client: TcpStream, target: u16, state: &Arc<State>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
    state.accepted.fetch_add(1, SeqCst);
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a socket");
        state.open.lock().expect("a lock").push(stream.try_clone().expect("a socket"));
    }
    for (from, to, is_answer) in [(&client, &server, false), (&server, &client, true)] {
        let (from, to, state) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"), state.clone());
        thread::spawn(move || pump(from, to, &state, is_answer));
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, state: &State, is_answer: bool) {
    let mut chunk = [0; 16384];
    while let Ok(n @ 1..) = from.read(&mut chunk) {
        let most = state.delay.load(SeqCst);
        if is_answer && most > 0 {
            let nanos = UNIX_EPOCH.elapsed().map_or(0, |time| u64::from(time.subsec_nanos()));
            thread::sleep(Duration::from_micros(nanos / 1000 % (most * 1000)));
        }
        while state.held.load(SeqCst) {
            thread::sleep(Duration::from_millis(2));
        }
        if to.write_all(&chunk[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
