//! Asks a running sidecar whether it is ready: `hearthside health`, for container health checks.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

/// The answer of `/readyz` at `address`.
///
/// # Errors
/// There is no answer, or the sidecar is not ready: its own text.
pub fn ask_ready(address: &str) -> io::Result<String> {
    // Where it listens on every address, it is asked on loopback.
    let address = &address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]");
    let unanswered =
        |error: io::Error| io::Error::new(error.kind(), format!("admin.listen: {address} does not answer: {error}"));
    let mut stream = TcpStream::connect(address).map_err(unanswered)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(unanswered)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.starts_with("HTTP/1.1 200") { Ok(body.to_owned()) } else { Err(io::Error::other(body.trim().to_owned())) }
}
