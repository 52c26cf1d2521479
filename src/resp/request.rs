//! The end of a client's request, and where its arguments lie. Resumable; refuses what Redis refuses,
//! with Redis's own words (`networking.c`, `processMultibulkBuffer` and `processInlineBuffer`).
//!
//! Invariants:
//! - spans are offsets from the request's first byte, valid until the next request is begun;
//! - a request that is not complete costs no more than its bytes and its argument spans.

use std::ops::Range;

use memchr::memchr2;

use super::inline::{UnbalancedQuotes, split_inline};
use super::number::{parse_i64, short_number};
use super::passage::Passage;
use crate::errors::protocol;

/// Longest inline request or length line, in bytes (`PROTO_INLINE_MAX_SIZE`).
pub const MAX_INLINE: usize = 64 * 1024;
/// Largest argument unless configured otherwise, in bytes (`proto-max-bulk-len`).
pub const DEFAULT_MAX_BULK: usize = 512 << 20;
/// Most arguments, and the longest, before AUTH (`networking.c`).
const UNAUTHENTICATED_COUNT: i64 = 10;
const UNAUTHENTICATED_LENGTH: usize = 16384;
/// Argument spans kept for reuse between requests; a larger table is given back to the allocator.
const KEEP_SPANS: usize = 1024;

/// A request that cannot be one. Redis answers it with `-ERR Protocol error: ...` and closes the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestFault {
    /// `*` line without an end.
    #[error("{}", protocol::BIG_COUNT)]
    BigCount,
    /// `*` line that is no number.
    #[error("{}", protocol::COUNT)]
    Count,
    /// `$` line without an end.
    #[error("{}", protocol::BIG_LENGTH)]
    BigLength,
    /// Something else where an argument should begin.
    #[error("{}", protocol::expected(*.0))]
    Expected(u8),
    /// `$` line that is no number.
    #[error("{}", protocol::LENGTH)]
    Length,
    /// An argument of more bytes than any may have.
    #[error("{}", protocol::too_large(*.0))]
    TooLarge(usize),
    /// More arguments than any request may have.
    #[error("{}", protocol::too_many(*.0))]
    TooMany(usize),
    /// A request that must be gathered, and is too long for that.
    #[error("{}", protocol::TOO_LONG)]
    TooLong,
    /// Many arguments from somebody who has not authenticated.
    #[error("{}", protocol::UNAUTHENTICATED_COUNT)]
    UnauthenticatedCount,
    /// A long argument from somebody who has not authenticated.
    #[error("{}", protocol::UNAUTHENTICATED_LENGTH)]
    UnauthenticatedLength,
    /// An inline request without an end.
    #[error("{}", protocol::BIG_INLINE)]
    BigInline,
    /// An inline request with an open quote.
    #[error("{}", protocol::QUOTES)]
    Quotes,
}

impl RequestFault {
    /// The error's text; a byte that is no text stands in it as it came.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        protocol::error(&self.to_string())
    }

    /// The setting of `[limits]` that is at fault, if one is.
    #[must_use]
    pub const fn limit(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge(_) => Some("request_argument"),
            Self::TooMany(_) => Some("request_arguments"),
            Self::TooLong => Some("request"),
            _ => None,
        }
    }
}

impl From<UnbalancedQuotes> for RequestFault {
    fn from(_: UnbalancedQuotes) -> Self {
        Self::Quotes
    }
}

/// What a scan found at the front of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scan {
    /// More bytes are needed.
    Incomplete,
    /// A request of this many bytes; its arguments are in [`RequestScanner::spans`].
    Complete(usize),
    /// An inline request of this many bytes, and its arguments (unquoted, so no longer slices).
    Inline(usize, Vec<Vec<u8>>),
    /// Nothing to answer (`*0`, an empty line), of this many bytes.
    Empty(usize),
}

/// An argument that is not all here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// Its place; those before it are whole.
    pub index: usize,
    /// Its length in bytes.
    pub length: usize,
    /// The request's number of arguments.
    pub arguments: usize,
}

/// A resumable scanner for one client's requests.
#[derive(Debug)]
pub struct RequestScanner {
    max_bulk: usize,
    max_count: usize,
    /// Nobody has authenticated yet: requests must be small.
    pub is_unauthenticated: bool,
    /// Arguments still to come; 0 while the count line is awaited.
    remaining: u64,
    /// Length of the argument whose bytes are awaited.
    bulk: Option<usize>,
    pos: usize,
    spans: Vec<Range<usize>>,
}

impl Default for RequestScanner {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_BULK, i32::MAX as usize)
    }
}

impl RequestScanner {
    /// A scanner that refuses arguments of more than `max_bulk` bytes, and requests of more than `max_count` arguments.
    #[must_use]
    pub const fn new(max_bulk: usize, max_count: usize) -> Self {
        Self { max_bulk, max_count, is_unauthenticated: false, remaining: 0, bulk: None, pos: 0, spans: Vec::new() }
    }

    /// From now on these limits hold.
    pub const fn set_limits(&mut self, max_bulk: usize, max_count: usize) {
        (self.max_bulk, self.max_count) = (max_bulk, max_count);
    }

    /// The arguments of the request that was just completed, as offsets from its first byte.
    #[must_use]
    pub fn spans(&self) -> &[Range<usize>] {
        &self.spans
    }

    /// Looks at `buf`, which begins with the request's first byte, and goes on where the last call stopped.
    ///
    /// # Errors
    /// [`RequestFault`], after which the client must be closed.
    pub fn scan(&mut self, buf: &[u8]) -> Result<Scan, RequestFault> {
        if self.remaining == 0 {
            match buf.first() {
                None => return Ok(Scan::Incomplete),
                Some(b'*') => {}
                Some(_) => return inline(buf),
            }
            let Some(count) = self.count(buf)? else { return Ok(Scan::Incomplete) };
            if count <= 0 {
                return Ok(Scan::Empty(std::mem::take(&mut self.pos)));
            }
            if self.is_unauthenticated && count > UNAUTHENTICATED_COUNT {
                return Err(RequestFault::UnauthenticatedCount);
            }
            if count as u64 > self.max_count as u64 {
                return Err(RequestFault::TooMany(self.max_count));
            }
            self.begin(count as u64);
        }
        while self.remaining > 0 {
            if !self.argument(buf)? {
                return Ok(Scan::Incomplete);
            }
        }
        Ok(Scan::Complete(std::mem::take(&mut self.pos)))
    }

    /// The argument whose bytes are awaited, if its length is known.
    #[must_use]
    pub fn awaited(&self) -> Option<Awaited> {
        let arguments = self.spans.len() as u64 + self.remaining;
        self.bulk.map(|length| Awaited { index: self.spans.len(), length, arguments: arguments as usize })
    }

    /// Leaves the rest of the request, of which `have` bytes are here, to a passage; the next scan begins a request.
    pub fn pass(&mut self, have: usize) -> Passage {
        let skip = self.bulk.take().map_or(0, |length| self.pos + length + 2 - have.min(self.pos + length + 2));
        let remaining = self.remaining - 1;
        (self.remaining, self.pos) = (0, 0);
        self.spans.clear();
        Passage::new(skip as u64, remaining, self.max_bulk)
    }

    fn begin(&mut self, count: u64) {
        self.remaining = count;
        self.spans.clear();
        if self.spans.capacity() > KEEP_SPANS {
            self.spans = Vec::new();
        }
    }

    fn count(&mut self, buf: &[u8]) -> Result<Option<i64>, RequestFault> {
        if let Some((count, end)) = short_number(buf, 1) {
            self.pos = end;
            return Ok(Some(count as i64));
        }
        let Some(end) = line_end(buf, 0, &RequestFault::BigCount)? else { return Ok(None) };
        let count = parse_i64(&buf[1..end]).filter(|n| *n <= i64::from(i32::MAX)).ok_or(RequestFault::Count)?;
        self.pos = end + 2;
        Ok(Some(count))
    }

    /// Takes one argument; false when its bytes are not all here.
    #[inline]
    fn argument(&mut self, buf: &[u8]) -> Result<bool, RequestFault> {
        let length = match self.bulk {
            Some(length) => length,
            None => {
                let Some(length) = self.bulk_length(buf)? else { return Ok(false) };
                self.bulk = Some(length);
                length
            }
        };
        let end = self.pos + length;
        if buf.len() < end + 2 {
            return Ok(false);
        }
        self.spans.push(self.pos..end);
        self.pos = end + 2;
        self.bulk = None;
        self.remaining -= 1;
        Ok(true)
    }

    #[inline]
    fn bulk_length(&mut self, buf: &[u8]) -> Result<Option<usize>, RequestFault> {
        let Some((length, begin)) = bulk_header(buf, self.pos, self.max_bulk)? else { return Ok(None) };
        if self.is_unauthenticated && length > UNAUTHENTICATED_LENGTH {
            return Err(RequestFault::UnauthenticatedLength);
        }
        self.pos = begin;
        Ok(Some(length))
    }
}

/// The length of the argument whose `$` line is at `from`, and where its bytes begin; `None` until the line is here.
#[inline]
pub(super) fn bulk_header(buf: &[u8], from: usize, most: usize) -> Result<Option<(usize, usize)>, RequestFault> {
    if buf.get(from) == Some(&b'$')
        && let Some((length, end)) = short_number(buf, from + 1)
        && length <= most
    {
        return Ok(Some((length, end)));
    }
    long_bulk_header(buf, from, most)
}

#[cold]
fn long_bulk_header(buf: &[u8], from: usize, most: usize) -> Result<Option<(usize, usize)>, RequestFault> {
    let Some(end) = line_end(buf, from, &RequestFault::BigLength)? else { return Ok(None) };
    if buf[from] != b'$' {
        return Err(RequestFault::Expected(buf[from]));
    }
    let length = parse_i64(&buf[from + 1..end]).and_then(|n| usize::try_from(n).ok()).ok_or(RequestFault::Length)?;
    if length > most { Err(RequestFault::TooLarge(most)) } else { Ok(Some((length, end + 2))) }
}

/// The place of `byte`, as Redis finds it with strchr: to that a zero byte is the end of everything.
fn until(byte: u8, bytes: &[u8]) -> Option<usize> {
    memchr2(byte, 0, bytes).filter(|at| bytes[*at] == byte)
}

/// The position of the `\r` that ends the line at `from`; `None` until it and the byte behind it are here.
fn line_end(buf: &[u8], from: usize, too_big: &RequestFault) -> Result<Option<usize>, RequestFault> {
    match until(b'\r', &buf[from..]) {
        Some(length) if from + length + 1 < buf.len() => Ok(Some(from + length)),
        None if buf.len() - from > MAX_INLINE => Err(too_big.clone()),
        _ => Ok(None),
    }
}

fn inline(buf: &[u8]) -> Result<Scan, RequestFault> {
    let Some(newline) = until(b'\n', buf) else {
        return if buf.len() > MAX_INLINE { Err(RequestFault::BigInline) } else { Ok(Scan::Incomplete) };
    };
    let line = buf[..newline].strip_suffix(b"\r").unwrap_or(&buf[..newline]);
    let args = split_inline(line)?;
    Ok(if args.is_empty() { Scan::Empty(newline + 1) } else { Scan::Inline(newline + 1, args) })
}

#[cfg(test)]
mod tests {
    use super::{RequestFault, RequestScanner, Scan};

    fn fault(bytes: &[u8]) -> String {
        RequestScanner::default().scan(bytes).expect_err("a fault").to_string()
    }

    #[test]
    fn resumes_at_every_split() {
        let bytes = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\na\r\nb\r\n";
        for split in 0..bytes.len() {
            let mut scanner = RequestScanner::default();
            assert_eq!(scanner.scan(&bytes[..split]), Ok(Scan::Incomplete), "split {split}");
            assert_eq!(scanner.scan(bytes), Ok(Scan::Complete(bytes.len())), "split {split}");
            let args: Vec<_> = scanner.spans().iter().map(|s| &bytes[s.clone()]).collect();
            assert_eq!(args, [&b"SET"[..], b"k", b"a\r\nb"]);
        }
    }

    #[test]
    fn requests_follow_each_other() {
        let bytes = b"*1\r\n$4\r\nPING\r\n*0\r\n\r\nECHO \"a b\"\r\n*1\r\n$0\r\n\r\n";
        let mut scanner = RequestScanner::default();
        assert_eq!(scanner.scan(bytes), Ok(Scan::Complete(14)));
        assert_eq!(scanner.scan(&bytes[14..]), Ok(Scan::Empty(4)));
        assert_eq!(scanner.scan(&bytes[18..]), Ok(Scan::Empty(2)));
        assert_eq!(scanner.scan(&bytes[20..]), Ok(Scan::Inline(12, vec![b"ECHO".to_vec(), b"a b".to_vec()])));
        assert_eq!(scanner.scan(&bytes[32..]), Ok(Scan::Complete(10)));
        assert_eq!(scanner.spans().len(), 1);
    }

    #[test]
    fn faults_speak_redis() {
        assert_eq!(fault(b"*x\r\n"), "invalid multibulk length");
        assert_eq!(fault(b"*2147483648\r\n"), "invalid multibulk length");
        assert_eq!(fault(b"*1\r\n+OK\r\n"), "expected '$', got '+'");
        assert_eq!(fault(b"*1\r\n$-1\r\n"), "invalid bulk length");
        let past = "invalid bulk length: more than 536870912 bytes (limits.request_argument)";
        assert_eq!(fault(b"*1\r\n$536870913\r\n"), past);
        assert_eq!(fault(b"GET \"a\r\n"), "unbalanced quotes in request");
        assert_eq!(fault(&vec![b'a'; 65537]), "too big inline request");
        let long = [b"*".as_slice(), &[b'1'; 65537]].concat();
        assert_eq!(fault(&long), "too big mbulk count string");
        let long = [b"*1\r\n$".as_slice(), &[b'1'; 65537]].concat();
        assert_eq!(fault(&long), "too big bulk count string");
        assert_eq!(RequestScanner::default().scan(b"*1\r\n"), Ok(Scan::Incomplete));
        assert_eq!(RequestScanner::new(3, 2).scan(b"*3\r\n"), Err(RequestFault::TooMany(2)));
        assert_eq!(RequestScanner::new(3, 2).scan(b"*1\r\n$4\r\n"), Err(RequestFault::TooLarge(3)));
    }
}
