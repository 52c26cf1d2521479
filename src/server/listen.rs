//! Accepts clients on TCP and Unix sockets, and hands them to the workers in turn.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, lookup_host};

use super::newcomers;
use super::passed::Passed;
use super::socket::Socket;
use super::socket_file::SocketFile;
use super::worker::Workers;
use crate::config;
use crate::telemetry::{LogThrottle, out_of_files};

/// Clients that may wait to be accepted: thousands come at once when an application restarts, and one that the kernel
/// has no place for waits for seconds.
const BACKLOG: u32 = 4096;

/// The pause after a client that could not be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a listener that closes takes in those who have connected already: it is told of them a moment later.
const QUEUED: Duration = Duration::from_millis(20);
/// The same while another process listens on its address: handshakes that have begun end within this time.
const HANDSHAKES: Duration = Duration::from_millis(200);

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    socket: Bound,
    /// The address as clients reach it, the port filled in.
    pub name: String,
    next: Next,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Tls(TcpListener),
    Unix(SocketFile),
}

/// Who listens on the address when this process does no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nobody, as far as is known.
    Nobody,
    /// Another process, with a socket of its own (`server.reuse_port`).
    Another,
    /// Whoever is given the same socket, and those who wait in its queue.
    SameSocket,
}

/// Binds one address of `server.listen`, unless a socket of that address was passed; a Unix socket gets
/// `server.unix_mode`, or what the umask says if that is empty.
///
/// # Errors
/// The address is in use, or this process may not use it.
pub async fn bind(address: &str, settings: &config::Server, passed: &mut Passed) -> io::Result<Listener> {
    if let Some(path) = address.strip_prefix("unix://") {
        let name = address.to_owned();
        if let Some(listener) = passed.take_unix(Path::new(path)) {
            let socket = Bound::Unix(SocketFile::passed(listener, path)?);
            return Ok(Listener { socket, name, next: Next::SameSocket });
        }
        let socket = Bound::Unix(SocketFile::bind(path, &settings.unix_mode, settings.reuse_port, BACKLOG).await?);
        return Ok(Listener { socket, name, next: next(settings) });
    }
    let (host, scheme, bound): (_, _, fn(TcpListener) -> Bound) = match address.strip_prefix("rediss://") {
        Some(host) => (host, "rediss://", Bound::Tls),
        None => (address, "", Bound::Tcp),
    };
    let (listener, next) = listen(host, settings, passed).await?;
    let name = format!("{scheme}{}", listener.local_addr()?);
    Ok(Listener { socket: bound(listener), name, next })
}

const fn next(settings: &config::Server) -> Next {
    if settings.reuse_port { Next::Another } else { Next::Nobody }
}

/// Binds `admin.listen` in the same way.
///
/// # Errors
/// As [`bind`].
pub async fn bind_admin(address: &str, settings: &config::Server, passed: &mut Passed) -> io::Result<TcpListener> {
    listen(address, settings, passed).await.map(|(listener, _)| listener)
}

/// Listens on the first of a name's addresses that is free, or for which a socket was passed.
async fn listen(address: &str, settings: &config::Server, passed: &mut Passed) -> io::Result<(TcpListener, Next)> {
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    let addresses: Vec<_> = lookup_host(address).await?.collect();
    if let Some(listener) = addresses.iter().find_map(|address| passed.take_tcp(*address)) {
        keep_alive(&listener, settings.keepalive)?;
        listener.set_nonblocking(true)?;
        return Ok((TcpListener::from_std(listener)?, Next::SameSocket));
    }
    for address in addresses {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        if settings.reuse_port {
            socket.set_reuseport(true)?;
        }
        keep_alive(&socket, settings.keepalive)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok((listener, next(settings))),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Connections that are accepted have it from the listener: one that says nothing for `keepalive` is asked three times,
/// over as long again, whether it is still there, as Redis does.
fn keep_alive(socket: &impl AsFd, keepalive: Duration) -> io::Result<()> {
    if keepalive.is_zero() {
        return Ok(());
    }
    let second = Duration::from_secs(1);
    let often = TcpKeepalive::new().with_time(keepalive.max(second)).with_interval((keepalive / 3).max(second));
    SockRef::from(socket).set_tcp_keepalive(&often.with_retries(3))
}

impl Listener {
    /// Accepts for ever. Dropping the future stops it.
    pub async fn accept(&self, workers: &Workers) {
        let mut failures = Failures::default();
        loop {
            match self.next().await {
                Ok(socket) => {
                    failures.end(&self.name);
                    workers.serve(socket);
                }
                Err(error) => {
                    failures.add(&self.name, &error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Takes in those who have connected and were not accepted yet: when the listener is dropped, the kernel resets
    /// them.
    pub async fn close(&self, workers: &Workers) {
        let time = match self.next {
            Next::SameSocket => return,
            Next::Another if self.turns_newcomers_away() => HANDSHAKES,
            Next::Another | Next::Nobody => QUEUED,
        };
        let _over = tokio::time::timeout(time, self.accept(workers)).await;
    }

    /// True when those who connect from now on come to the other listener.
    fn turns_newcomers_away(&self) -> bool {
        let turned = match &self.socket {
            Bound::Tcp(listener) | Bound::Tls(listener) => newcomers::turn_away(listener),
            // The path leads to the other one already.
            Bound::Unix(..) => return false,
        };
        if let Err(error) = &turned {
            let listen = &self.name;
            tracing::warn!(listen, %error, "who connects while this address is closed may be reset");
        }
        turned.is_ok()
    }

    async fn next(&self) -> io::Result<Socket> {
        match &self.socket {
            Bound::Tcp(listener) => accept(listener).await.map(|(stream, addresses)| Socket::Tcp(stream, addresses)),
            Bound::Tls(listener) => accept(listener).await.map(|(stream, addresses)| Socket::Tls(stream, addresses)),
            Bound::Unix(file) => file.accept().await,
        }
    }
}

/// Clients that could not be accepted in a row: logged at first, and then now and then.
#[derive(Default)]
struct Failures {
    attempts: u64,
    logged: LogThrottle,
}

impl Failures {
    fn add(&mut self, listen: &str, error: &io::Error) {
        self.attempts += 1;
        if self.logged.due().is_none() {
            return;
        }
        let attempts = self.attempts;
        if out_of_files::is_cause_of(error) {
            tracing::warn!(
                listen, attempts, %error,
                "no client can be accepted: {}; those who come wait in the backlog until a file is free, \
                 those who are in go on",
                out_of_files::NO_FILES
            );
        } else {
            tracing::warn!(listen, attempts, %error, "a client could not be accepted");
        }
    }

    fn end(&mut self, listen: &str) {
        if self.attempts > 1 {
            tracing::info!(listen, attempts = self.attempts, "clients are accepted again");
        }
        self.attempts = 0;
    }
}

/// A connection, its peer's address and ours.
async fn accept(listener: &TcpListener) -> io::Result<(std::net::TcpStream, (String, String))> {
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    Ok((stream.into_std()?, (peer.to_string(), local.to_string())))
}
