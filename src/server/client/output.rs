//! The bytes that may be written to a client now: small replies are gathered, long ones and shared messages are passed
//! on by reference.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;

use crate::resp::pieces::Pieces;

/// Most pieces given to one write.
const PIECES: usize = 64;
/// Memory of more bytes is not kept for the next reply.
const MOST_SPARE: usize = 256 * 1024;

thread_local! {
    /// Memory for small replies, which a client has only while something of them is not written: clients that are
    /// served one after the other write to the same memory, which is in the processor's cache then.
    static SPARE: Cell<BytesMut> = Cell::default();
}

/// Bytes that may be written, in order.
#[derive(Debug, Default)]
pub(super) struct Output(Pieces);

impl Deref for Output {
    type Target = Pieces;

    fn deref(&self) -> &Pieces {
        &self.0
    }
}

impl DerefMut for Output {
    fn deref_mut(&mut self) -> &mut Pieces {
        &mut self.0
    }
}

impl Output {
    /// Where small replies are appended.
    pub(crate) fn tail(&mut self) -> &mut BytesMut {
        let tail = self.0.tail();
        if tail.capacity() == 0 {
            *tail = SPARE.take();
        }
        tail
    }

    /// The memory that small replies are gathered in now.
    pub(crate) fn room(&self) -> usize {
        self.0.room()
    }

    /// Appends bytes, by reference if they are long.
    pub(crate) fn append(&mut self, bytes: Bytes) {
        self.tail();
        self.0.append(bytes);
    }

    /// Appends what another holds.
    pub(crate) fn append_all(&mut self, other: Pieces) {
        self.tail();
        self.0.append_all(other);
    }

    /// Writes once; the number of bytes that went.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let written = if self.is_gathered() {
            Pin::new(stream).poll_write(cx, self.0.tail())
        } else {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let mut used = 0;
            for (slice, piece) in slices.iter_mut().zip(self.iter()) {
                *slice = IoSlice::new(piece);
                used += 1;
            }
            Pin::new(stream).poll_write_vectored(cx, &slices[..used])
        };
        written.map_ok(|n| {
            self.advance(n);
            if self.is_empty() {
                self.give_back();
            }
            n
        })
    }

    /// Nothing is left to be written: the memory is the next client's, even if nothing was appended.
    pub(super) fn give_back(&mut self) {
        if self.0.tail().capacity() == 0 {
            return;
        }
        let memory = std::mem::take(self.0.tail());
        if memory.capacity() <= MOST_SPARE {
            SPARE.set(memory);
        }
    }

    #[cfg(test)]
    pub(super) fn gathered(&self) -> Vec<u8> {
        self.iter().flatten().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes};

    use super::Output;

    const LONG: usize = 64 * 1024;

    #[tokio::test]
    async fn everything_goes_in_order_however_much_one_write_takes() {
        let mut output = Output::default();
        output.tail().put_slice(b"a");
        output.append(Bytes::from_static(b"b"));
        output.share(Bytes::from_static(b"c"));
        output.append(Bytes::from(vec![b'd'; LONG]));
        output.tail().put_slice(b"e");
        let expected = [&b"abc"[..], &vec![b'd'; LONG], b"e"].concat();
        assert_eq!((output.len(), output.gathered()), (expected.len(), expected.clone()));
        let (mut near, mut far) = tokio::io::duplex(7);
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut far, &mut all).await.map(|_| all)
        });
        while !output.is_empty() {
            std::future::poll_fn(|cx| output.poll_write(&mut near, cx)).await.expect("writes");
        }
        drop(near);
        assert_eq!(reader.await.expect("ended").expect("read"), expected);
    }
}
