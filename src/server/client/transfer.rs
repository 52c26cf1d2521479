//! Moves bytes between a client's socket, its buffer and the replies it is owed, without ever waiting.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::connection::{Connection, End};
use crate::clients::Held;
use crate::telemetry::clock::Tick;

/// Bytes asked for in one read.
const READ: usize = 16 * 1024;
thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
/// An empty buffer that is not larger stays.
const KEPT: usize = 4096;
/// Room for so many replies that are owed stays: a long pipeline may have needed more once.
const KEPT_ENTRIES: usize = 32;
/// With so much to write, writing does not wait for the rest of the batch.
const WRITE_AT: usize = 64 * 1024;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Moves replies on and writes.
    pub(super) fn poll_output(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let moved = self.poll_replies(cx);
        self.note_held();
        moved
    }

    /// Notes what is held here. What was needed once is not kept.
    fn note_held(&mut self) {
        let owed = &mut self.replies.owed;
        if owed.is_empty() && owed.capacity() > KEPT_ENTRIES {
            *owed = VecDeque::new();
        }
        if self.incoming.is_empty() && self.incoming.capacity() > KEPT {
            self.incoming = BytesMut::new();
        }
        let read = self.incoming.capacity() + self.kept + self.replies.answering();
        self.account.connection(read, self.replies.waiting());
        self.peer.traffic.hold(&Held {
            query: self.incoming.len(),
            query_free: self.incoming.capacity() - self.incoming.len(),
            arguments: self.replies.under_way(),
            queued: self.kept,
            reply_room: self.replies.out.room(),
            replies: self.replies.out.len(),
            entries: self.replies.entries(),
        });
    }

    /// Once per batch, or earlier when much is ready or the rest is slow to come.
    fn poll_replies(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        loop {
            if self.replies.is_quiet() {
                self.replies.out.give_back();
                return self.poll_flush(cx);
            }
            self.replies.poll(cx, WRITE_AT).map_err(|stopped| self.stop(stopped))?;
            let ready = self.replies.out.len();
            if ready == 0 {
                self.replies.out.give_back();
                return self.poll_flush(cx);
            }
            if !self.replies.is_settled() && ready < WRITE_AT && std::mem::replace(&mut self.ready, ready) != ready {
                // More may follow at once; if it does not by the next turn, this is written.
                cx.waker().wake_by_ref();
                return Ok(());
            }
            match self.replies.out.poll_write(&mut self.stream, cx)? {
                Poll::Pending => {
                    self.note_stalled();
                    return self.replies.unsolicited.watch(cx).map_err(|stopped| self.stop(stopped));
                }
                Poll::Ready(0) => return Err(End::Left),
                Poll::Ready(written) => self.note_written(written),
            }
        }
    }

    fn note_stalled(&mut self) {
        if !std::mem::replace(&mut self.is_stalled, true) {
            self.peer.stalls(Some(Tick::now()));
            self.account.stalls(true);
        }
    }

    fn note_written(&mut self, written: usize) {
        (self.ready, self.is_unflushed) = (0, true);
        if std::mem::take(&mut self.is_stalled) {
            self.peer.stalls(None);
            self.account.stalls(false);
        }
        if !self.replies.unsolicited.has_no_source() {
            self.peer.is_told(Tick::now());
        }
        self.peer.traffic.has_written(written);
        self.metrics.bytes_out.inc_by(written as u64);
    }

    /// TLS keeps what it cannot send at once; other streams have nothing to flush.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        if self.is_unflushed && Pin::new(&mut self.stream).poll_flush(cx)?.is_ready() {
            self.is_unflushed = false;
        }
        Ok(())
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let read = if self.incoming.len() < READ { self.poll_read_little(cx) } else { self.poll_read_more(cx) };
        match read {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Ready(Ok(0)) => Poll::Ready(Err(End::Left)),
            Poll::Ready(Ok(n)) => {
                self.peer.traffic.has_read(n);
                self.metrics.bytes_in.inc_by(n as u64);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// By way of the thread's buffer: a client that sends nothing, or little, holds none of its own.
    fn poll_read_little(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(READ, 0);
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            self.incoming.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// The rest of something long, to where it stays.
    fn poll_read_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.incoming.reserve(READ);
        poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.incoming)
    }
}
