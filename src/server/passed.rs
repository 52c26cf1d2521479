//! Sockets that were listened on before this process began, and will be after it (`LISTEN_FDS`, as systemd passes
//! them): who connects while no process accepts waits for the next one.
//!
//! Source: <https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html>

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use socket2::SockRef;

/// Those that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Passed {
    tcp: Vec<(SocketAddr, TcpListener)>,
    unix: Vec<(PathBuf, UnixListener)>,
}

impl Passed {
    /// Takes them out of the environment, before there are other threads.
    ///
    /// # Errors
    /// One of them is no listener.
    pub fn from_environment() -> io::Result<Self> {
        let mut sockets = ListenFd::from_env();
        let mut passed = Self::default();
        for number in 0..sockets.len() {
            if let Ok(Some(listener)) = sockets.take_tcp_listener(number) {
                listens(&SockRef::from(&listener))?;
                passed.tcp.push((listener.local_addr()?, listener));
            } else if let Some(listener) = sockets.take_unix_listener(number).map_err(|error| no_stream(&error))? {
                listens(&SockRef::from(&listener))?;
                let address = listener.local_addr()?;
                passed.unix.push((address.as_pathname().unwrap_or(Path::new("")).to_owned(), listener));
            }
        }
        Ok(passed)
    }

    /// The one that listens on this address.
    pub(super) fn take_tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.tcp.iter().position(|(bound, _)| reaches(*bound, address))?;
        Some(self.tcp.swap_remove(at).1)
    }

    /// The one that listens at this path.
    pub(super) fn take_unix(&mut self, path: &Path) -> Option<UnixListener> {
        let at = self.unix.iter().position(|(bound, _)| bound == path)?;
        Some(self.unix.swap_remove(at).1)
    }

    /// The addresses that nobody has taken.
    #[must_use]
    pub fn rest(&self) -> Vec<String> {
        let unix = self.unix.iter().map(|(path, _)| format!("unix://{}", path.display()));
        self.tcp.iter().map(|(address, _)| address.to_string()).chain(unix).collect()
    }
}

/// # Errors
/// Nobody can connect to it.
fn listens(socket: &SockRef<'_>) -> io::Result<()> {
    match socket.is_listener()? {
        true => Ok(()),
        false => Err(io::Error::other(
            "a socket was passed that does not listen; a unit of systemd's has Accept=no and ListenStream= for it",
        )),
    }
}

fn no_stream(error: &io::Error) -> io::Error {
    io::Error::other(format!("a socket was passed that is neither TCP nor a Unix stream socket: {error}"))
}

/// A socket of IPv6 that listens everywhere is what systemd makes of a port alone; it takes clients of IPv4, too.
fn reaches(bound: SocketAddr, wanted: SocketAddr) -> bool {
    let is_everywhere = bound.ip().is_unspecified() && wanted.ip().is_unspecified();
    bound.port() == wanted.port() && (bound.ip() == wanted.ip() || is_everywhere)
}

#[cfg(test)]
mod tests {
    use super::reaches;

    #[test]
    fn a_socket_is_the_one_of_its_address() {
        for (bound, wanted, expected) in [
            ("127.0.0.1:6380", "127.0.0.1:6380", true),
            ("[::]:6380", "0.0.0.0:6380", true),
            ("[::]:6380", "[::]:6380", true),
            ("127.0.0.1:6380", "127.0.0.1:6381", false),
            ("0.0.0.0:6380", "127.0.0.1:6380", false),
            ("127.0.0.1:6380", "0.0.0.0:6380", false),
        ] {
            let [bound, address] = [bound, wanted].map(|text| text.parse().expect("an address"));
            assert_eq!(reaches(bound, address), expected, "{bound} {wanted}");
        }
    }
}
