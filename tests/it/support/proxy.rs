//! A fault proxy: between two parts it can cut connections, reset them, hold them so that they are open and silent,
//! hold a single packet and deliver it late, and spoil what passes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use socket2::{Domain, SockRef, Socket, Type};

/// What happens to what passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spoil {
    /// Nothing.
    #[default]
    Nothing,
    /// Each byte comes alone, in both directions.
    Trickle,
    /// Half of what the server says, and then the end.
    Truncate,
    /// Something else than what the server says.
    Garbage,
    /// What the server says, and one reply more.
    Extra,
}

/// A packet of a client that is held, and its connection's way to the server with it, until it is let through. It
/// arrives then even if the client is gone: as a packet that the network delivers late.
#[derive(Debug, Default)]
struct Trap {
    /// What the packet holds.
    text: Vec<u8>,
    has_caught: AtomicBool,
    is_open: AtomicBool,
    is_answered: AtomicBool,
}

/// A trap that is set.
pub struct Trapped(Arc<Trap>);

impl Trapped {
    /// True when a packet is held.
    pub fn has_caught(&self) -> bool {
        self.0.has_caught.load(SeqCst)
    }

    /// Lets the packet through.
    pub fn release(&self) {
        self.0.is_open.store(true, SeqCst);
    }

    /// True when the server has answered what was let through.
    pub fn is_answered(&self) -> bool {
        self.0.is_answered.load(SeqCst)
    }
}

impl Drop for Trapped {
    fn drop(&mut self) {
        self.release();
    }
}

/// The end of whatever connection has so many bytes more to pass on.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Of what the server says, else of what it is asked.
    pub of_answers: bool,
    pub after: usize,
}

#[derive(Default)]
struct State {
    held: AtomicBool,
    trap: Mutex<Option<Arc<Trap>>>,
    refusing: AtomicBool,
    /// Most milliseconds that what the server says is held up, at random.
    delay: AtomicU64,
    /// What must have been asked before the server's word passes.
    awaited: Mutex<Option<Vec<u8>>>,
    spoil: Mutex<Spoil>,
    cut: Mutex<Option<Cut>>,
    accepted: AtomicUsize,
    open: Mutex<Vec<Open>>,
}

/// One end of a connection.
struct Open {
    stream: TcpStream,
    /// It ends without a farewell.
    is_reset: Arc<AtomicBool>,
}

pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

impl Proxy {
    pub fn to(target: u16) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        // Thousands may come at once; one that the kernel has no place for waits for half a minute.
        socket.listen(4096).expect("a port");
        let listener: TcpListener = socket.into();
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
        for open in self.state.open.lock().expect("a lock").drain(..) {
            let _ = open.stream.shutdown(Shutdown::Both);
        }
    }

    /// Resets every connection at once (RST instead of FIN).
    pub fn reset(&self) {
        for open in self.state.open.lock().expect("a lock").drain(..) {
            open.is_reset.store(true, SeqCst);
            let _ = SockRef::from(&open.stream).set_linger(Some(Duration::ZERO));
            // Whoever reads from it lets it go; the last to do so resets it.
            let _ = open.stream.shutdown(Shutdown::Read);
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

    /// Holds the next packet of any client that holds `text`.
    pub fn trap(&self, text: &str) -> Trapped {
        let trap = Arc::new(Trap { text: text.as_bytes().to_vec(), ..Trap::default() });
        *self.state.trap.lock().expect("a lock") = Some(trap.clone());
        Trapped(trap)
    }

    /// Passes nothing on that the server says before `text` has been asked: whoever waits for an answer first waits for
    /// ever.
    pub fn answer_after(&self, text: &str) {
        *self.state.awaited.lock().expect("a lock") = Some(text.as_bytes().to_vec());
    }

    /// Passes everything on that the server says.
    pub fn answer(&self) {
        *self.state.awaited.lock().expect("a lock") = None;
    }

    /// Holds up what the server says, by up to so many milliseconds at random: answers of two connections overtake
    /// each other.
    pub fn delay(&self, most: u64) {
        self.state.delay.store(most, SeqCst);
    }

    /// From now on what passes is spoilt, or not any more.
    pub fn spoil(&self, spoil: Spoil) {
        *self.state.spoil.lock().expect("a lock") = spoil;
    }

    /// Cuts a connection in the middle of what passes; `None` takes back what has not happened.
    pub fn cut_after(&self, cut: Option<Cut>) {
        *self.state.cut.lock().expect("a lock") = cut;
    }

    /// Connections taken so far.
    pub fn accepted(&self) -> usize {
        self.state.accepted.load(SeqCst)
    }
}

fn connect(client: TcpStream, target: u16, state: &Arc<State>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
    state.accepted.fetch_add(1, SeqCst);
    let is_reset = Arc::new(AtomicBool::new(false));
    let ends = [&client, &server].map(|stream| {
        stream.set_nodelay(true).expect("a socket");
        Open { stream: stream.try_clone().expect("a socket"), is_reset: is_reset.clone() }
    });
    // Both ends at once: who is cut or reset must not keep half of a connection.
    state.open.lock().expect("a lock").extend(ends);
    // What was held on this connection and has been let through.
    let late = Arc::new(Mutex::new(None));
    for (from, to, is_answer) in [(&client, &server, false), (&server, &client, true)] {
        let (from, to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
        let (state, is_reset, late) = (state.clone(), is_reset.clone(), late.clone());
        thread::spawn(move || pump(from, to, &Way { state, is_reset, late, is_answer }));
    }
}

/// One direction of a connection.
struct Way {
    state: Arc<State>,
    is_reset: Arc<AtomicBool>,
    late: Arc<Mutex<Option<Arc<Trap>>>>,
    is_answer: bool,
}

impl Way {
    /// Waits with a packet that is to be held; notes the answer to one that was.
    fn hold_packet(&self, bytes: &[u8]) {
        if self.is_answer {
            if let Some(trap) = self.late.lock().expect("a lock").take() {
                trap.is_answered.store(true, SeqCst);
            }
            return;
        }
        let fits = |trap: &mut Arc<Trap>| bytes.windows(trap.text.len()).any(|window| window == trap.text);
        let Some(trap) = self.state.trap.lock().expect("a lock").take_if(fits) else { return };
        trap.has_caught.store(true, SeqCst);
        while !trap.is_open.load(SeqCst) {
            thread::sleep(Duration::from_millis(2));
        }
        *self.late.lock().expect("a lock") = Some(trap);
    }

    /// How much of the next `length` bytes still passes, if the connection is to be cut in them.
    fn is_cut_in(&self, length: usize) -> Option<usize> {
        let mut cut = self.state.cut.lock().expect("a lock");
        let here = cut.as_mut().filter(|cut| cut.of_answers == self.is_answer)?;
        if here.after > length {
            here.after -= length;
            return None;
        }
        cut.take().map(|cut| cut.after)
    }

    /// A client that is gone must not end the connection before the server has answered what came late.
    fn await_answer(&self) {
        if self.is_answer {
            *self.late.lock().expect("a lock") = None;
        }
        while self.late.lock().expect("a lock").is_some() {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, way: &Way) {
    let Way { state, is_reset, is_answer, .. } = way;
    let is_answer = *is_answer;
    let (mut chunk, mut asked) = ([0; 16384], Vec::new());
    while let Ok(n @ 1..) = from.read(&mut chunk) {
        way.hold_packet(&chunk[..n]);
        let most = state.delay.load(SeqCst);
        if is_answer && most > 0 {
            let nanos = UNIX_EPOCH.elapsed().map_or(0, |time| u64::from(time.subsec_nanos()));
            thread::sleep(Duration::from_micros(nanos / 1000 % (most * 1000)));
        }
        if !is_answer {
            note(&mut asked, &chunk[..n], state);
        }
        let is_early = || is_answer && state.awaited.lock().expect("a lock").is_some();
        while (state.held.load(SeqCst) || is_early()) && !is_reset.load(SeqCst) {
            thread::sleep(Duration::from_millis(2));
        }
        if let Some(rest) = way.is_cut_in(n) {
            let _ = to.write_all(&chunk[..rest]);
            break;
        }
        let spoil = *state.spoil.lock().expect("a lock");
        if !pass(&mut to, &chunk[..n], spoil, is_answer) {
            break;
        }
    }
    way.await_answer();
    // Without a farewell the other direction only learns that there is nothing more to read.
    let how = if is_reset.load(SeqCst) { Shutdown::Read } else { Shutdown::Both };
    let _ = to.shutdown(how);
    let _ = from.shutdown(how);
}

/// Looks for what is awaited in what is asked now, of which it keeps enough for what comes in two pieces.
fn note(asked: &mut Vec<u8>, chunk: &[u8], state: &State) {
    let before = asked.len();
    asked.extend_from_slice(chunk);
    let mut awaited = state.awaited.lock().expect("a lock");
    let is_in =
        |text: &[u8]| asked[before.saturating_sub(text.len() - 1)..].windows(text.len()).any(|part| part == text);
    if awaited.as_ref().is_some_and(|text| is_in(text)) {
        *awaited = None;
    }
    asked.drain(..asked.len().saturating_sub(100));
}

/// False when the connection ends here.
fn pass(to: &mut TcpStream, bytes: &[u8], spoil: Spoil, is_answer: bool) -> bool {
    match spoil {
        Spoil::Trickle => bytes.iter().all(|byte| to.write_all(&[*byte]).is_ok()),
        Spoil::Truncate if is_answer => {
            let _ = to.write_all(&bytes[..bytes.len() / 2]);
            false
        }
        Spoil::Garbage if is_answer => to.write_all(b"\x00garbage that is no reply\r\n").is_ok(),
        Spoil::Extra if is_answer => to.write_all(bytes).is_ok() && to.write_all(b"+EXTRA\r\n").is_ok(),
        _ => to.write_all(bytes).is_ok(),
    }
}
