//! One byte stream to the upstream: TCP, Unix or TLS.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::target::{Address, Host, Target};
use super::tls::in_words;

#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// An idle peer is asked after so long; a peer that acknowledges nothing for so long is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);

impl Stream {
    /// Names are resolved again at every connect (hazard 20).
    pub(crate) async fn open(target: &Target, patience: Duration) -> io::Result<Self> {
        let host = match &target.address {
            Address::Unix(path) => return UnixStream::connect(path).await.map(Self::Unix),
            Address::Net(host) => host,
        };
        let stream = tcp(host, patience).await?;
        let Some(tls) = &target.access.tls else { return Ok(Self::Tcp(stream)) };
        let name = ServerName::try_from(host.name.clone()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(tls.config.clone()).connect(name, stream).await.map_err(in_words)?;
        Ok(Self::Tls(Box::new(stream)))
    }
}

/// The longest that the next of several addresses waits for the one before it.
/// Source: <https://www.rfc-editor.org/rfc/rfc8305#section-5>
const NEXT: Duration = Duration::from_millis(250);

/// The first of a name's addresses that answers. Each has its share of `patience`, and more as long as no other
/// answers: one that swallows what is sent to it does not hide those behind it.
async fn first_of(host: &Host, patience: Duration) -> io::Result<TcpStream> {
    let mut addresses: VecDeque<SocketAddr> = lookup_host((host.name.as_str(), host.port)).await?.collect();
    let pause = NEXT.min(patience / (addresses.len() as u32 + 1));
    let mut failed = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    let mut attempts = FuturesUnordered::new();
    loop {
        attempts.extend(addresses.pop_front().map(TcpStream::connect));
        if attempts.is_empty() {
            return Err(failed);
        }
        tokio::select! {
            Some(connected) = attempts.next() => match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            },
            () = tokio::time::sleep(pause), if !addresses.is_empty() => {}
        }
    }
}

async fn tcp(host: &Host, patience: Duration) -> io::Result<TcpStream> {
    let stream = first_of(host, patience).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(KEEPALIVE))?;
    Ok(stream)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
