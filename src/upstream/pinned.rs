//! A connection lent to one client while its state needs it (MULTI, WATCH, blocking, SUBSCRIBE, MONITOR).
//!
//! Invariant: only a connection given back explicitly, with nothing in its buffers, serves another client;
//! one that is dropped is closed, whatever state it was in (hazard 14).

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::{ConnectError, connect};
use super::stream::Stream;
use super::{Common, Group};
use crate::resp::reply::{Frame, ReplyScanner};

type Idle = Rc<RefCell<HashMap<Group, Vec<Line>>>>;

/// The idle connections of one worker thread.
#[derive(Debug)]
pub(super) struct Pool {
    common: Arc<Common>,
    idle: Idle,
}

impl Pool {
    pub(super) fn new(common: Arc<Common>) -> Self {
        Self { common, idle: Rc::default() }
    }

    pub(super) async fn take(&self, group: Group) -> Result<Pinned, ConnectError> {
        loop {
            let idle = self.idle.borrow_mut().get_mut(&group).and_then(Vec::pop);
            let Some(mut line) = idle else { break };
            if line.is_quiet().await {
                return Ok(self.lend(line, group));
            }
        }
        let stream = connect(&self.common, group).await?;
        Ok(self.lend(Line::new(stream, self.common.clone()), group))
    }

    fn lend(&self, line: Line, group: Group) -> Pinned {
        Pinned { line, group, idle: self.idle.clone(), moved: false }
    }
}

/// One connection and what was read of it.
#[derive(Debug)]
struct Line {
    stream: Stream,
    common: Arc<Common>,
    incoming: BytesMut,
    scanned: usize,
    scanner: ReplyScanner,
}

impl Line {
    fn new(stream: Stream, common: Arc<Common>) -> Self {
        common.metrics.pinned.inc();
        Self { stream, common, incoming: BytesMut::new(), scanned: 0, scanner: ReplyScanner::default() }
    }

    /// True when an idle connection is open and has nothing to say.
    async fn is_quiet(&mut self) -> bool {
        let read = std::future::poll_fn(|cx| {
            let read = tokio_util::io::poll_read_buf(std::pin::Pin::new(&mut self.stream), cx, &mut self.incoming);
            std::task::Poll::Ready(read)
        });
        read.await.is_pending() && self.incoming.is_empty()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.common.metrics.pinned.dec();
    }
}

/// A connection that belongs to one client. Dropping it closes it.
#[derive(Debug)]
pub struct Pinned {
    line: Line,
    group: Group,
    idle: Idle,
    moved: bool,
}

/// What came over a pinned connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// The next reply.
    Reply(Bytes),
    /// A RESP3 push message.
    Push(Bytes),
}

impl Pinned {
    /// Sends requests as they are.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.line.stream.write_all(bytes).await?;
        self.line.stream.flush().await
    }

    /// Waits for the next whole frame. Safe to drop and call again.
    ///
    /// # Errors
    /// The connection is lost, or what came is no reply.
    pub async fn receive(&mut self) -> io::Result<Received> {
        let line = &mut self.line;
        loop {
            let step = line.scanner.scan(&line.incoming[line.scanned..]).map_err(io::Error::other)?;
            line.scanned += step.used;
            if let Some(frame) = step.end {
                let bytes = line.incoming.split_to(std::mem::take(&mut line.scanned)).freeze();
                return Ok(match frame {
                    Frame::Reply => Received::Reply(bytes),
                    Frame::Push => Received::Push(bytes),
                });
            }
            if line.stream.read_buf(&mut line.incoming).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the upstream closed the connection"));
            }
        }
    }

    /// Sends one request and waits for its reply; push messages before it are dropped.
    ///
    /// # Errors
    /// As [`Pinned::send`] and [`Pinned::receive`].
    pub async fn call(&mut self, request: &[u8]) -> io::Result<Bytes> {
        self.send(request).await?;
        loop {
            if let Received::Reply(reply) = self.receive().await? {
                return Ok(reply);
            }
        }
    }

    /// Notes that the connection may be in another database or protocol than it was opened in: it will not be reused.
    pub const fn moved(&mut self) {
        self.moved = true;
    }

    /// Gives back a connection that has no state and owes no reply.
    pub fn give_back(self) {
        let Self { line, group, idle, moved } = self;
        if moved {
            return;
        }
        let mut idle = idle.borrow_mut();
        let lines = idle.entry(group).or_default();
        if lines.len() < line.common.settings.pinned_idle && line.incoming.is_empty() && !line.scanner.is_inside() {
            lines.push(line);
        }
    }
}
