//! An accepted connection, before a worker meets it.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use super::admission::Refusal;

/// A connection, its peer's address and ours.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream, (String, String)),
    /// Before its handshake.
    Tls(TcpStream, (String, String)),
    Unix(UnixStream, (String, String)),
}

impl Socket {
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(_, (peer, _)) | Self::Tls(_, (peer, _)) => peer.parse::<SocketAddr>().ok().map(|peer| peer.ip()),
            Self::Unix(..) => None,
        }
    }

    /// Says why, as far as that goes without waiting, and closes.
    pub(super) fn refuse(self, why: Refusal) {
        let error = format!("-{why}\r\n");
        let _told = match self {
            Self::Tcp(mut stream, _) => stream.write(error.as_bytes()),
            Self::Unix(mut stream, _) => stream.write(error.as_bytes()),
            // What it is told before its handshake it does not understand.
            Self::Tls(..) => Ok(0),
        };
        tracing::debug!(why, "a client was refused");
    }
}
