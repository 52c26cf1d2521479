//! Accepts clients on TCP and Unix sockets, and hands them to the workers in turn.

use std::fs::Permissions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream, lookup_host};

use super::socket::Socket;
use super::worker::Workers;
use crate::config;
use crate::telemetry::{LogThrottle, out_of_files};

/// Clients that may wait to be accepted: thousands come at once when an application restarts, and one that the kernel
/// has no place for waits for seconds.
const BACKLOG: u32 = 4096;

/// The pause after a client that could not be accepted.
const PAUSE: Duration = Duration::from_millis(50);

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    socket: Bound,
    /// The address as clients reach it, the port filled in.
    pub name: String,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Tls(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Binds one address of `server.listen`; a Unix socket gets `server.unix_mode`, or what the umask says if that is
/// empty.
///
/// # Errors
/// The address is in use, or this process may not use it.
pub async fn bind(address: &str, settings: &config::Server) -> io::Result<Listener> {
    if let Some(path) = address.strip_prefix("unix://") {
        let path = Path::new(path);
        remove_stale(path).await?;
        let socket = Bound::Unix(listen_unix(path, &settings.unix_mode)?, path.to_path_buf());
        return Ok(Listener { socket, name: address.to_owned() });
    }
    if let Some(address) = address.strip_prefix("rediss://") {
        let listener = listen(address, settings.keepalive).await?;
        let name = format!("rediss://{}", listener.local_addr()?);
        return Ok(Listener { socket: Bound::Tls(listener), name });
    }
    let listener = listen(address, settings.keepalive).await?;
    let name = listener.local_addr()?.to_string();
    Ok(Listener { socket: Bound::Tcp(listener), name })
}

/// Listens on the first of a name's addresses that is free.
async fn listen(address: &str, keepalive: Duration) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for address in lookup_host(address).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        keep_alive(&socket, keepalive)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Connections that are accepted have it from the listener: one that says nothing for `keepalive` is asked three times,
/// over as long again, whether it is still there, as Redis does.
fn keep_alive(socket: &TcpSocket, keepalive: Duration) -> io::Result<()> {
    if keepalive.is_zero() {
        return Ok(());
    }
    let second = Duration::from_secs(1);
    let often = TcpKeepalive::new().with_time(keepalive.max(second)).with_interval((keepalive / 3).max(second));
    SockRef::from(socket).set_tcp_keepalive(&often.with_retries(3))
}

/// The file has its mode before anybody can connect: until it listens, who tries is refused.
fn listen_unix(path: &Path, mode: &str) -> io::Result<UnixListener> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    if let Ok(mode) = u32::from_str_radix(mode, 8) {
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    socket.listen(BACKLOG.cast_signed())?;
    UnixListener::from_std(OwnedFd::from(socket).into())
}

/// A socket file that nobody answers on was left by a process that was killed. One that is too busy to answer was not.
async fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Ok(());
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
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

    async fn next(&self) -> io::Result<Socket> {
        match &self.socket {
            Bound::Tcp(listener) => accept(listener).await.map(|(stream, addresses)| Socket::Tcp(stream, addresses)),
            Bound::Tls(listener) => accept(listener).await.map(|(stream, addresses)| Socket::Tls(stream, addresses)),
            Bound::Unix(listener, path) => {
                let (stream, _) = listener.accept().await?;
                let name = format!("{}:0", path.display());
                Ok(Socket::Unix(stream.into_std()?, (name.clone(), name)))
            }
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

impl Drop for Listener {
    fn drop(&mut self) {
        if let Bound::Unix(_, path) = &self.socket {
            // It may have been removed by hand.
            let _ = std::fs::remove_file(path);
        }
    }
}
