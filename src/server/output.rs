//! What may be written to a client now: small replies gathered, long ones and shared messages passed on as they are.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

/// A chunk that is at least so long is not copied.
const LONG: usize = 8 * 1024;
/// Most pieces given to one write.
const PIECES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Output {
    /// Before `tail`.
    pieces: VecDeque<Bytes>,
    /// Bytes in `pieces`.
    length: usize,
    tail: BytesMut,
}

impl Output {
    pub(super) fn len(&self) -> usize {
        self.length + self.tail.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where small things are appended.
    pub(super) const fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends bytes, by reference if they are long.
    pub(super) fn append(&mut self, bytes: Bytes) {
        if bytes.len() < LONG { self.tail.extend_from_slice(&bytes) } else { self.share(bytes) }
    }

    /// Appends bytes by reference.
    pub(super) fn share(&mut self, bytes: Bytes) {
        if !self.tail.is_empty() {
            let before = self.tail.split().freeze();
            self.length += before.len();
            self.pieces.push_back(before);
        }
        self.length += bytes.len();
        self.pieces.push_back(bytes);
    }

    /// Writes once; the number of bytes that went.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let written = if self.pieces.is_empty() {
            Pin::new(stream).poll_write(cx, &self.tail)
        } else {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let parts = self.pieces.iter().map(|piece| &piece[..]).chain([&self.tail[..]]);
            let mut used = 0;
            for (slice, part) in slices.iter_mut().zip(parts) {
                *slice = IoSlice::new(part);
                used += 1;
            }
            Pin::new(stream).poll_write_vectored(cx, &slices[..used])
        };
        written.map_ok(|n| {
            self.advance(n);
            n
        })
    }

    fn advance(&mut self, mut n: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let step = n.min(piece.len());
            piece.advance(step);
            self.length -= step;
            n -= step;
            if !piece.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
        self.tail.advance(n);
    }

    #[cfg(test)]
    pub(super) fn gathered(&self) -> Vec<u8> {
        let mut all = self.pieces.iter().flat_map(|piece| piece.to_vec()).collect::<Vec<_>>();
        all.extend_from_slice(&self.tail);
        all
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes};

    use super::{LONG, Output};

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
