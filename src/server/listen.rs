//! Where clients come in: TCP and Unix sockets, handed to the workers in turn.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpSocket, UnixListener, lookup_host};

use super::socket::Socket;
use super::worker::Workers;

/// Clients that may wait to be accepted: thousands come at once when an application restarts, and one that the kernel has no
/// place for waits for seconds.
const BACKLOG: u32 = 4096;

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

/// Binds one address of `server.listen`; a Unix socket gets `unix_mode` (octal), or what the umask says if that is empty.
///
/// # Errors
/// It is taken, or not ours to take.
pub async fn bind(address: &str, unix_mode: &str) -> io::Result<Listener> {
    if let Some(path) = address.strip_prefix("unix://") {
        let path = Path::new(path);
        remove_stale(path)?;
        let socket = Bound::Unix(UnixListener::bind(path)?, path.to_path_buf());
        if let Ok(mode) = u32::from_str_radix(unix_mode, 8) {
            std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        return Ok(Listener { socket, name: address.to_owned() });
    }
    if let Some(address) = address.strip_prefix("rediss://") {
        let listener = listen(address).await?;
        let name = format!("rediss://{}", listener.local_addr()?);
        return Ok(Listener { socket: Bound::Tls(listener), name });
    }
    let listener = listen(address).await?;
    let name = listener.local_addr()?.to_string();
    Ok(Listener { socket: Bound::Tcp(listener), name })
}

/// Listens on the first of a name's addresses that is free.
async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for address in lookup_host(address).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// A socket file that nobody answers on was left by a process that was killed.
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if metadata.file_type().is_socket() && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

impl Listener {
    /// Accepts for ever. Dropping the future stops it.
    pub async fn accept(&self, workers: &Workers) {
        loop {
            match self.next().await {
                Ok(socket) => workers.serve(socket),
                Err(error) => {
                    // Out of file descriptors, most likely: those in use go on.
                    tracing::warn!(listen = %self.name, %error, "a client could not be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
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
