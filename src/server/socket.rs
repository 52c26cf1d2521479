//! An accepted connection before a worker serves it.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use bytes::BytesMut;

use crate::errors;
use crate::resp::encode;

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

    /// The peer, for logs.
    pub(super) fn peer(&self) -> &str {
        match self {
            Self::Tcp(_, (peer, _)) | Self::Tls(_, (peer, _)) | Self::Unix(_, (peer, _)) => peer,
        }
    }

    /// Answers that there is no room, if that can be written without waiting, and closes.
    pub(super) fn refuse(self) {
        let mut full = BytesMut::new();
        encode::error(&mut full, errors::as_redis::MAX_CLIENTS);
        let _told = match self {
            Self::Tcp(mut stream, _) => stream.write(&full),
            Self::Unix(mut stream, _) => stream.write(&full),
            // Before its handshake it would not understand an answer.
            Self::Tls(..) => Ok(0),
        };
    }
}
