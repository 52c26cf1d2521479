//! A connection that speaks Postgres's replication protocol, which the SQL driver does not: it opens, logs in, runs a
//! command, and streams. Messages are made and read by the crate `postgres-protocol`. Knows no change.
//! Source: <https://www.postgresql.org/docs/current/protocol-replication.html>

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::backend::{Header, Message};
use postgres_protocol::message::frontend::{self, CopyData};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::login::Login;
use super::stream::{Stream, open};

/// Seconds between the epochs of Unix and of Postgres (2000-01-01).
const EPOCH: u64 = 946_684_800;

/// A longer message is not kept: of a row that is so large only its table is read.
const LONGEST: usize = 16 << 20;

/// So much is kept of it.
const HEAD: usize = 64;

/// An open connection.
pub(super) struct Walsender {
    stream: Stream,
    received: BytesMut,
    /// What is still to come of a message that is not kept.
    skipping: usize,
}

/// What the server streams.
#[derive(Debug)]
pub(super) enum Streamed {
    /// A message of the output plugin, and its position. Of one that is too long only the beginning is there.
    Data { end: u64, message: Bytes, is_whole: bool },
    /// Everything up to `end` has been sent.
    Alive { end: u64, wants_reply: bool },
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

impl Walsender {
    /// Opens a connection and logs in.
    ///
    /// # Errors
    /// The network's, and what the server says.
    pub(super) async fn connect(login: &Login) -> io::Result<Self> {
        let received = BytesMut::with_capacity(64 * 1024);
        let mut walsender = Self { stream: open(login).await?, received, skipping: 0 };
        walsender.log_in(login).await?;
        Ok(walsender)
    }

    /// Runs a command that answers with rows or nothing.
    ///
    /// # Errors
    /// As [`Walsender::connect`].
    pub(super) async fn run(&mut self, command: &str) -> io::Result<()> {
        let mut query = BytesMut::new();
        frontend::query(command, &mut query)?;
        self.send(&query).await?;
        let mut refusal = None;
        loop {
            match parse(self.frame().await?)? {
                Message::ReadyForQuery(_) => return refusal.map_or(Ok(()), Err),
                Message::ErrorResponse(error) => refusal = Some(refused(&error)),
                _ => {}
            }
        }
    }

    /// Begins to stream.
    ///
    /// # Errors
    /// As [`Walsender::connect`].
    pub(super) async fn start(&mut self, command: &str) -> io::Result<()> {
        let mut query = BytesMut::new();
        frontend::query(command, &mut query)?;
        self.send(&query).await?;
        loop {
            let frame = self.frame().await?;
            // CopyBothResponse, which the crate does not know.
            if frame.first() == Some(&b'W') {
                return Ok(());
            }
            if let Message::ErrorResponse(error) = parse(frame)? {
                return Err(refused(&error));
            }
        }
    }

    /// The next that is streamed. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The network's, and what the server says when it ends the stream.
    pub(super) async fn receive(&mut self) -> io::Result<Streamed> {
        loop {
            let mut frame = self.frame().await?;
            match frame.first() {
                Some(b'd') => {
                    let is_whole = Header::parse(&frame)?.is_some_and(|head| head.len() as usize + 1 == frame.len());
                    frame.advance(5);
                    if let Some(streamed) = streamed(frame.freeze(), is_whole)? {
                        return Ok(streamed);
                    }
                }
                Some(b'c') => return Err(invalid("the server has ended the stream")),
                _ => {
                    if let Message::ErrorResponse(error) = parse(frame)? {
                        return Err(refused(&error));
                    }
                }
            }
        }
    }

    /// Says that everything up to `position` has been received, so that the server keeps no more of its log.
    ///
    /// # Errors
    /// The network's.
    pub(super) async fn confirm(&mut self, position: u64) -> io::Result<()> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = now.saturating_sub(std::time::Duration::from_secs(EPOCH)).as_micros() as u64;
        let mut status = vec![b'r'];
        // Written, flushed, applied; the time; no reply is asked for.
        [position, position, position, now].iter().for_each(|part| status.extend(part.to_be_bytes()));
        status.push(0);
        let mut message = BytesMut::new();
        CopyData::new(&status[..])?.write(&mut message);
        self.send(&message).await
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next message, with its head; the beginning of one that is too long.
    pub(super) async fn frame(&mut self) -> io::Result<BytesMut> {
        loop {
            let skipped = self.skipping.min(self.received.len());
            self.received.advance(skipped);
            self.skipping -= skipped;
            if let Some(header) = Header::parse(&self.received)? {
                let length = 1 + header.len() as usize;
                if length > LONGEST && self.received.len() >= HEAD {
                    self.skipping = length - HEAD;
                    return Ok(self.received.split_to(HEAD));
                }
                if self.received.len() >= length {
                    return Ok(self.received.split_to(length));
                }
                self.received.reserve(length.min(LONGEST) - self.received.len());
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Reads a message of any kind but the stream's own.
pub(super) fn parse(mut frame: BytesMut) -> io::Result<Message> {
    Message::parse(&mut frame)?.ok_or_else(|| invalid("a message has no end"))
}

/// What the server says, with its code.
pub(super) fn refused(error: &postgres_protocol::message::backend::ErrorResponseBody) -> io::Error {
    use fallible_iterator::FallibleIterator as _;

    let (mut text, mut code, mut fields) = (String::new(), String::new(), error.fields());
    while let Ok(Some(field)) = fields.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'M' => text = value,
            b'C' => code = value,
            _ => {}
        }
    }
    io::Error::other(format!("{text} ({code})"))
}

/// Reads what is inside CopyData; nothing of a kind that is not known.
fn streamed(mut data: Bytes, is_whole: bool) -> io::Result<Option<Streamed>> {
    let short = || invalid("a message of the stream is too short");
    Ok(match data.first() {
        // Its position, the end of the log, the time.
        Some(b'w') if data.len() >= 25 => {
            let message = data.split_off(25);
            data.advance(1);
            Some(Streamed::Data { end: data.get_u64(), message, is_whole })
        }
        Some(b'k') if data.len() >= 18 => {
            data.advance(1);
            let end = data.get_u64();
            data.advance(8);
            Some(Streamed::Alive { end, wants_reply: data.get_u8() == 1 })
        }
        Some(b'w' | b'k') | None => return Err(short()),
        Some(_) => None,
    })
}
