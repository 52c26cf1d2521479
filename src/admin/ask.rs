//! Asks the admin port of a running sidecar with the same configuration, for the command line.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::config::Admin;

const PATIENCE: Duration = Duration::from_secs(10);

/// Status and body of the answer to a request for `path`. The token is that of `admin.token_file`, if there is one.
///
/// # Errors
/// Nobody answers there, or the token cannot be read.
pub fn ask(admin: &Admin, method: &str, path: &str) -> io::Result<(u16, String)> {
    if admin.listen.is_empty() {
        return Err(io::Error::other(
            "admin.listen is empty: there is no admin port to ask; use HEARTHSIDE over redis-cli",
        ));
    }
    // Where it listens on every address, it is asked on loopback.
    let address = &admin.listen.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]");
    let unanswered =
        |error: io::Error| io::Error::new(error.kind(), format!("admin.listen: {address} does not answer: {error}"));
    let shown = match admin.token_file.as_str() {
        "" => String::new(),
        file => {
            let unread = |error| io::Error::other(format!("admin.token_file: {file}: {error}"));
            format!("Authorization: Bearer {}\r\n", std::fs::read_to_string(file).map_err(unread)?.trim())
        }
    };
    let mut stream = TcpStream::connect(address).map_err(unanswered)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n");
    write!(stream, "{head}{shown}\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(unanswered)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}

/// The answer of `/readyz`.
///
/// # Errors
/// There is no answer, or the sidecar is not ready: its own text.
pub fn ask_ready(admin: &Admin) -> io::Result<String> {
    // A probe shows no token: it needs none, and may run where the file cannot be read.
    match ask(&Admin { token_file: String::new(), ..admin.clone() }, "GET", "/readyz")? {
        (200, body) => Ok(body),
        (_, body) => Err(io::Error::other(body.trim().to_owned())),
    }
}
