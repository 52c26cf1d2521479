//! A fault proxy: between a sidecar and one of its servers, it can cut connections, or hold them so that they are
//! open and silent.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

#[derive(Default)]
struct State {
    held: AtomicBool,
    refusing: AtomicBool,
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
    for (from, to) in [(&client, &server), (&server, &client)] {
        let (from, to, state) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"), state.clone());
        thread::spawn(move || pump(from, to, &state));
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut chunk = [0; 16384];
    while let Ok(n @ 1..) = from.read(&mut chunk) {
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
