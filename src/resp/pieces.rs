//! The bytes of replies as they lie in memory: small ones are gathered, long ones are kept by reference. A reply that
//! grows piece by piece is never copied as a whole, and costs what it is long.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use super::number::parse_i64;
use super::reply::ReplyScanner;

/// A piece that is at least so long is not copied.
const LONG: usize = 8 * 1024;
/// Small pieces are gathered up to so many bytes.
const GATHERED: usize = 64 * 1024;

/// Bytes in order.
#[derive(Debug, Default)]
pub struct Pieces {
    /// Before `tail`.
    list: VecDeque<Bytes>,
    /// Bytes in `list`.
    length: usize,
    tail: BytesMut,
}

impl From<BytesMut> for Pieces {
    fn from(tail: BytesMut) -> Self {
        Self { tail, ..Self::default() }
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        let mut pieces = Self::default();
        pieces.append(bytes);
        pieces
    }
}

impl Pieces {
    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length + self.tail.len()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where small things are appended.
    pub const fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// The memory of `tail`.
    #[must_use]
    pub fn room(&self) -> usize {
        self.tail.capacity()
    }

    /// The bytes, piece by piece.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.list.iter().map(|piece| &piece[..]).chain([&self.tail[..]])
    }

    /// True when all bytes lie in `tail`.
    #[must_use]
    pub fn is_gathered(&self) -> bool {
        self.list.is_empty()
    }

    /// Appends bytes, by reference if they are long.
    pub fn append(&mut self, bytes: Bytes) {
        if bytes.len() < LONG { self.tail.extend_from_slice(&bytes) } else { self.share(bytes) }
    }

    /// Appends bytes by reference.
    pub fn share(&mut self, bytes: Bytes) {
        self.close_tail();
        self.length += bytes.len();
        self.list.push_back(bytes);
    }

    /// Appends what another holds.
    pub fn append_all(&mut self, mut other: Self) {
        other.list.into_iter().for_each(|piece| self.append(piece));
        self.take(&mut other.tail);
    }

    /// Appends what `from` holds, which is empty then.
    pub fn take(&mut self, from: &mut BytesMut) {
        if from.len() < LONG {
            self.tail.extend_from_slice(from);
            from.clear();
        } else {
            self.share(from.split().freeze());
        }
    }

    /// What was gathered so far is a piece if it is long enough: what comes next does not move it.
    pub fn settle(&mut self) {
        if self.tail.len() >= GATHERED {
            self.close_tail();
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            let before = self.tail.split().freeze();
            self.length += before.len();
            self.list.push_back(before);
        }
    }

    /// Drops `n` bytes from the front.
    pub fn advance(&mut self, mut n: usize) {
        while let Some(piece) = self.list.front_mut() {
            let step = n.min(piece.len());
            bytes::Buf::advance(piece, step);
            self.length -= step;
            n -= step;
            if !piece.is_empty() {
                return;
            }
            self.list.pop_front();
        }
        if n == self.tail.len() {
            // Its memory is used again from its beginning.
            return self.tail.clear();
        }
        bytes::Buf::advance(&mut self.tail, n);
    }

    /// All bytes as one; without a copy where they lie together.
    #[must_use]
    pub fn whole(mut self) -> Bytes {
        match (self.list.len(), self.tail.len()) {
            (0, _) => self.tail.freeze(),
            (1, 0) => self.list.pop_front().unwrap_or_default(),
            _ => {
                let mut all = BytesMut::with_capacity(self.len());
                self.iter().for_each(|piece| all.extend_from_slice(piece));
                all.freeze()
            }
        }
    }

    /// The front piece, with its first line whole if there is one.
    fn first_line(&mut self) -> Option<&mut Bytes> {
        self.close_tail();
        while let Some(front) = self.list.pop_front() {
            if memchr(b'\n', &front).is_some() || self.list.is_empty() {
                self.list.push_front(front);
                break;
            }
            self.join_front(&front);
        }
        self.list.front_mut()
    }

    /// Puts `before`, whose bytes are counted, before the front piece, in one piece with it.
    fn join_front(&mut self, before: &[u8]) {
        let behind = self.list.pop_front().unwrap_or_default();
        self.list.push_front([before, &behind].concat().into());
    }
}

/// The elements of one whole array reply, taken one after the other.
#[derive(Debug)]
pub struct Elements(Pieces);

impl Elements {
    /// Those of `reply`, which is whole.
    ///
    /// # Errors
    /// The reply, if it is no array: a null array, too.
    pub fn of(mut reply: Pieces) -> Result<Self, Pieces> {
        let header = reply.first_line().and_then(|front| {
            let end = memchr(b'\n', front)?;
            let count = front[..end].strip_prefix(b"*")?.strip_suffix(b"\r")?;
            parse_i64(count).filter(|count| *count >= 0).map(|_| end + 1)
        });
        match header {
            Some(length) => {
                reply.advance(length);
                Ok(Self(reply))
            }
            None => Err(reply),
        }
    }

    /// Replies that came one after the other, each of which is an element here.
    #[must_use]
    pub fn in_row(mut replies: Pieces) -> Self {
        replies.close_tail();
        Self(replies)
    }

    /// None: an array without elements.
    #[must_use]
    pub fn none() -> Self {
        Self(Pieces::default())
    }

    /// Bytes that are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Moves the next element to `out`; null in its place when there is none.
    pub fn pass(&mut self, out: &mut Pieces) {
        if self.is_empty() {
            return out.tail().extend_from_slice(b"$-1\r\n");
        }
        let mut scanner = ReplyScanner::default();
        while let Some(front) = self.0.list.front_mut() {
            // A lane has found its end before.
            let Ok(step) = scanner.scan(front) else { return };
            let (piece, rest) = (front.split_to(step.used), front.clone());
            self.0.length -= piece.len();
            out.append(piece);
            if rest.is_empty() || step.end.is_none() {
                self.0.list.pop_front();
            }
            if step.end.is_some() {
                return;
            }
            if !rest.is_empty() {
                // The beginning of a line, whose end is in the next piece.
                if self.0.list.is_empty() {
                    return;
                }
                self.0.join_front(&rest);
            }
        }
    }

    /// The next element in one piece.
    pub fn next_whole(&mut self) -> Bytes {
        let mut element = Pieces::default();
        self.pass(&mut element);
        element.whole()
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes, BytesMut};

    use super::{Elements, LONG, Pieces};

    /// `bytes` in pieces of `step`.
    fn cut(bytes: &[u8], step: usize) -> Pieces {
        let mut pieces = Pieces::default();
        bytes.chunks(step).for_each(|piece| pieces.share(Bytes::copy_from_slice(piece)));
        pieces
    }

    #[test]
    fn what_is_long_is_not_copied_and_everything_keeps_its_order() {
        let (mut pieces, long) = (Pieces::default(), Bytes::from(vec![b'd'; LONG]));
        pieces.tail().put_slice(b"a");
        pieces.append(Bytes::from_static(b"b"));
        pieces.append(long.clone());
        let mut more = Pieces::from(BytesMut::from(&b"c"[..]));
        more.append(long.clone());
        more.tail().put_slice(b"e");
        pieces.append_all(more);
        assert_eq!(pieces.iter().filter(|piece| piece.as_ptr() == long.as_ptr()).count(), 2);
        let all = [&b"ab"[..], &long, b"c", &long, b"e"].concat();
        assert_eq!((pieces.len(), all.len()), (all.len(), 2 * LONG + 4));
        pieces.advance(LONG + 1);
        assert_eq!(pieces.whole(), all[LONG + 1..]);
    }

    #[test]
    fn elements_are_the_same_wherever_the_pieces_end() {
        let elements: [&[u8]; 5] =
            [b"$3\r\na\r\n\r\n", b"*2\r\n:1\r\n$1\r\nx\r\n", b"+a status\r\n", b"-an error\r\n", b"$-1\r\n"];
        let all = [&b"*5\r\n"[..], &elements.concat()].concat();
        for step in 1..=all.len() {
            let mut found = Elements::of(cut(&all, step)).expect("an array");
            assert_eq!(found.len(), all.len() - 4);
            let taken: Vec<Bytes> = elements.iter().map(|_| found.next_whole()).collect();
            assert_eq!(taken, elements, "step {step}");
            assert!(found.is_empty());
            assert_eq!(found.next_whole(), "$-1\r\n");
        }
        for other in [&b"*-1\r\n"[..], b"-ERR x\r\n", b"_\r\n", b"$1\r\n*\r\n"] {
            assert_eq!(Elements::of(cut(other, 1)).expect_err("no array").whole(), other);
        }
    }
}
