//! The end of an upstream reply, found without decoding it: iterative, resumable, bounded.
//!
//! Invariants:
//! - every byte is looked at once, whatever pieces it arrives in, except those of an unfinished short line (a status or
//!   an error may be as long as a bulk string, and is passed over in pieces like one);
//! - no recursion and no allocation, so nesting cannot exhaust the stack (hazard 23);
//! - an attribute (`|`) belongs to the reply behind it, a push (`>`) is out of band.
//!
//! Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use bytes::Bytes;
use memchr::memchr;

use super::number::{parse_i64, short_number};

/// What a command answers that has done what it was told.
const OK: &[u8] = b"+OK\r\n";
/// Nothing, as RESP2 says it.
const NULL: &[u8] = b"$-1\r\n";

/// What just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The reply to one request.
    Reply,
    /// An out-of-band RESP3 push message.
    Push,
}

/// Bytes that are not a reply. The connection they came from cannot be used further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyFault {
    /// A byte that begins no RESP type.
    #[error("a reply cannot begin with byte 0x{0:02x}")]
    Type(u8),
    /// A length that is no number, or past the limit.
    #[error("a reply carries an invalid length")]
    Length,
    /// A line longer than [`MAX_LINE`] that is neither status nor error.
    #[error("a reply line is longer than {MAX_LINE} bytes")]
    Line,
    /// RESP3 streamed types, which no server is known to send.
    #[error("a reply uses RESP3 streamed types, which are not supported")]
    Streamed,
}

/// Longest accepted line of a reply, in bytes. Statuses and errors have no limit: a script may return any text as one.
pub const MAX_LINE: usize = 1 << 20;
/// Largest accepted bulk string of a reply, in bytes (eight times Redis's default for requests).
pub const MAX_BULK: i64 = 4 << 30;
/// Most elements a reply may announce.
pub const MAX_ELEMENTS: u64 = 1 << 32;

/// Where a scan stopped: bytes used, and what ended there (`None`: more bytes are needed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Bytes of the given buffer that belong to the frame so far; they need not be shown again.
    pub used: usize,
    /// The frame that ended after `used` bytes, if one did.
    pub end: Option<Frame>,
}

/// A resumable boundary scanner for one connection's replies.
#[derive(Debug, Default)]
pub struct ReplyScanner {
    /// Values still owed to the current frame; 0 between frames.
    outstanding: u64,
    /// Bytes of a bulk string (and its CRLF) still to pass over.
    skip: u64,
    /// In the middle of a status or an error, whose last byte was a CR or was not.
    line: Option<LastByte>,
    push: bool,
}

/// The last byte of a line that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastByte {
    Cr,
    Other,
}

impl ReplyScanner {
    /// True in the middle of a frame.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.outstanding > 0 || self.skip > 0 || self.line.is_some()
    }

    /// True in the middle of a push message.
    #[must_use]
    pub const fn is_push(&self) -> bool {
        self.push
    }

    /// Goes on where the last call stopped and ends at the first frame boundary.
    ///
    /// # Errors
    /// [`ReplyFault`] when the bytes cannot be a reply.
    #[inline]
    pub fn scan(&mut self, buf: &[u8]) -> Result<Scanned, ReplyFault> {
        if !self.is_inside()
            && let Some(used) = short_reply(buf)
        {
            return Ok(Scanned { used, end: Some(Frame::Reply) });
        }
        self.scan_any(buf)
    }

    fn scan_any(&mut self, buf: &[u8]) -> Result<Scanned, ReplyFault> {
        let mut at = if self.line.is_some() { self.pass_line(buf)? } else { 0 };
        if self.line.is_some() {
            return Ok(Scanned { used: at, end: None });
        }
        loop {
            at += self.pass_over(buf.len() - at);
            if self.skip > 0 {
                return Ok(Scanned { used: at, end: None });
            }
            if at > 0 && self.outstanding == 0 {
                return Ok(Scanned { used: at, end: Some(self.finish()) });
            }
            let rest = &buf[at..];
            // Almost every value is a short string.
            if rest.first() == Some(&b'$')
                && let Some((length, begin)) = short_number(rest, 1)
                && rest[begin - 1] == b'\n'
            {
                self.begin(b'$');
                self.outstanding -= 1;
                self.skip = length as u64 + 2;
                at += begin;
                continue;
            }
            let Some(line) = line_length(rest)? else {
                return Ok(Scanned { used: at + self.begin_line(rest)?, end: None });
            };
            self.header(&rest[..line])?;
            at += line + 2;
            if self.outstanding == 0 && self.skip == 0 {
                return Ok(Scanned { used: at, end: Some(self.finish()) });
            }
        }
    }

    fn finish(&mut self) -> Frame {
        if std::mem::take(&mut self.push) { Frame::Push } else { Frame::Reply }
    }

    fn pass_over(&mut self, available: usize) -> usize {
        let step = self.skip.min(available as u64);
        self.skip -= step;
        step as usize
    }

    /// Passes over an unfinished status or error: the bytes that it has so far. Other lines stay until they have ended.
    #[cold]
    fn begin_line(&mut self, rest: &[u8]) -> Result<usize, ReplyFault> {
        match rest {
            [b'+' | b'-', .., last] => {
                self.begin(rest[0]);
                self.outstanding -= 1;
                self.line = Some(LastByte::of(*last));
                Ok(rest.len())
            }
            _ if rest.len() > MAX_LINE => Err(ReplyFault::Line),
            _ => Ok(0),
        }
    }

    /// Goes on with a status or an error that had not ended.
    fn pass_line(&mut self, buf: &[u8]) -> Result<usize, ReplyFault> {
        let (Some(before), Some(last)) = (self.line, buf.last()) else { return Ok(0) };
        let Some(end) = memchr(b'\n', buf) else {
            self.line = Some(LastByte::of(*last));
            return Ok(buf.len());
        };
        let before = if end == 0 { before } else { LastByte::of(buf[end - 1]) };
        if before != LastByte::Cr {
            return Err(ReplyFault::Type(b'\n'));
        }
        self.line = None;
        Ok(end + 1)
    }

    /// A value begins with a byte of this kind.
    fn begin(&mut self, kind: u8) {
        if self.outstanding == 0 {
            self.outstanding = 1;
            self.push = kind == b'>';
        }
    }

    /// Accounts for one line without its CRLF.
    fn header(&mut self, line: &[u8]) -> Result<(), ReplyFault> {
        let Some((&kind, rest)) = line.split_first() else { return Err(ReplyFault::Type(b'\r')) };
        self.begin(kind);
        match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => self.outstanding -= 1,
            b'$' | b'=' | b'!' => {
                self.outstanding -= 1;
                self.skip = length(rest, MAX_BULK)?.map_or(0, |n| n + 2);
            }
            b'*' | b'~' | b'>' => {
                self.outstanding -= 1;
                self.expect(length(rest, i64::MAX)?.unwrap_or(0))?;
            }
            b'%' => {
                self.outstanding -= 1;
                self.expect(pairs(rest)?)?;
            }
            b'|' => self.expect(pairs(rest)?)?,
            other => return Err(ReplyFault::Type(other)),
        }
        Ok(())
    }

    fn expect(&mut self, more: u64) -> Result<(), ReplyFault> {
        self.outstanding = self.outstanding.checked_add(more).ok_or(ReplyFault::Length)?;
        if self.outstanding > MAX_ELEMENTS { Err(ReplyFault::Length) } else { Ok(()) }
    }
}

impl LastByte {
    const fn of(byte: u8) -> Self {
        if byte == b'\r' { Self::Cr } else { Self::Other }
    }
}

/// The length of the first reply, if it is as almost every reply is: a short string, a small number, OK or null, and
/// whole.
#[must_use]
#[inline]
pub fn short_reply(buf: &[u8]) -> Option<usize> {
    match buf.first()? {
        b'$' => match short_number(buf, 1) {
            Some((length, begin)) => {
                let end = begin + length + 2;
                (buf[begin - 1] == b'\n' && end <= buf.len()).then_some(end)
            }
            None => buf.starts_with(NULL).then_some(NULL.len()),
        },
        b':' => short_number(buf, 1).filter(|(_, end)| buf[end - 1] == b'\n').map(|(_, end)| end),
        b'+' => buf.starts_with(OK).then_some(OK.len()),
        _ => None,
    }
}

/// Length of the first line without CRLF, `None` while it has not ended.
fn line_length(buf: &[u8]) -> Result<Option<usize>, ReplyFault> {
    match memchr(b'\n', buf) {
        Some(0) => Err(ReplyFault::Type(b'\n')),
        Some(end) if buf[end - 1] == b'\r' => Ok(Some(end - 1)),
        Some(_) => Err(ReplyFault::Type(b'\n')),
        None => Ok(None),
    }
}

/// A length: `None` for RESP2's `-1`.
fn length(text: &[u8], max: i64) -> Result<Option<u64>, ReplyFault> {
    match parse_i64(text) {
        Some(-1) => Ok(None),
        Some(n) if n >= 0 && n <= max => Ok(Some(n as u64)),
        None if text == b"?" => Err(ReplyFault::Streamed),
        _ => Err(ReplyFault::Length),
    }
}

fn pairs(text: &[u8]) -> Result<u64, ReplyFault> {
    length(text, i64::MAX / 2)?.map(|n| n * 2).ok_or(ReplyFault::Length)
}

/// The elements of one whole array reply, each as raw bytes; `None` for every other reply, null arrays included.
#[must_use]
pub fn elements(reply: &[u8]) -> Option<Vec<&[u8]>> {
    if reply.starts_with(b"*") { parts(reply) } else { None }
}

/// The same of a set, too, and of a map, which gives its keys and values in turn.
#[must_use]
pub fn parts(reply: &[u8]) -> Option<Vec<&[u8]>> {
    let (kind, header) = reply.split_first()?;
    let end = memchr(b'\r', header)?;
    let count = usize::try_from(parse_i64(&header[..end])?).ok()?;
    let count = match kind {
        b'*' | b'~' => count,
        b'%' => count.checked_mul(2)?,
        _ => return None,
    };
    let mut rest = header.get(end + 2..)?;
    let mut found = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        let scanned = ReplyScanner::default().scan(rest).ok().filter(|s| s.end.is_some())?;
        let (element, behind) = rest.split_at(scanned.used);
        found.push(element);
        rest = behind;
    }
    rest.is_empty().then_some(found)
}

/// Each of several replies that came one after the other, whole, without copying it.
#[must_use]
pub fn each(replies: &Bytes) -> Vec<Bytes> {
    let (mut rest, mut found) = (replies.clone(), Vec::new());
    while !rest.is_empty() {
        match ReplyScanner::default().scan(&rest) {
            Ok(Scanned { used, end: Some(_) }) => found.push(rest.split_to(used)),
            _ => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Frame, ReplyFault, ReplyScanner, elements, short_reply};

    fn frames(bytes: &[u8], step: usize) -> Result<Vec<(usize, Frame)>, ReplyFault> {
        let mut scanner = ReplyScanner::default();
        let (mut found, mut start, mut shown) = (Vec::new(), 0, 0);
        while shown < bytes.len() {
            shown = (shown + step).min(bytes.len());
            loop {
                let scanned = scanner.scan(&bytes[start..shown])?;
                start += scanned.used;
                match scanned.end {
                    Some(frame) => found.push((start, frame)),
                    None => break,
                }
            }
        }
        Ok(found)
    }

    #[test]
    fn a_short_reply_ends_where_the_scanner_says() {
        for (text, length) in [
            ("+OK\r\n+OK\r\n", 5),
            (":7\r\n", 4),
            (":1234\r\n", 7),
            ("$-1\r\n", 5),
            ("$3\r\nabc\r\n$", 9),
            ("$2\r\n\r\n\r\n", 8),
        ] {
            assert_eq!(short_reply(text.as_bytes()), Some(length), "{text:?}");
            assert_eq!(ReplyScanner::default().scan_any(text.as_bytes()).map(|scanned| scanned.used), Ok(length));
            for cut in 0..length {
                assert_eq!(short_reply(&text.as_bytes()[..cut]), None, "{text:?} cut at {cut}");
            }
        }
        for other in
            ["+OKAY\r\n", "-ERR\r\n", ":1\rx", "$3\rxabc\r\n", "$0\r\n\r\n", ":-1\r\n", "*0\r\n", ">0\r\n", "_\r\n"]
        {
            assert_eq!(short_reply(other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn finds_every_boundary_at_every_step() {
        let cases: [&[u8]; 12] = [
            b"+OK\r\n",
            b":1\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"$0\r\n\r\n",
            b"$5\r\na\r\nbc\r\n",
            b"*0\r\n",
            b"*2\r\n*1\r\n$1\r\na\r\n_\r\n",
            b"%2\r\n+a\r\n:1\r\n+b\r\n~1\r\n#t\r\n",
            b"|1\r\n+k\r\n+v\r\n$2\r\nhi\r\n",
            b"=7\r\ntxt:abc\r\n",
            b"*1\r\n|1\r\n+k\r\n*2\r\n:1\r\n:2\r\n,3.10\r\n",
        ];
        let all: Vec<u8> = cases.concat();
        let mut at = 0;
        let ends: Vec<_> = cases
            .iter()
            .map(|c| {
                at += c.len();
                (at, Frame::Reply)
            })
            .collect();
        for step in 1..=all.len() {
            assert_eq!(frames(&all, step), Ok(ends.clone()), "step {step}");
        }
    }

    #[test]
    fn an_array_is_cut_into_its_elements() {
        let found = elements(b"*3\r\n$1\r\na\r\n*1\r\n:1\r\n_\r\n");
        assert_eq!(found, Some(vec![&b"$1\r\na\r\n"[..], b"*1\r\n:1\r\n", b"_\r\n"]));
        assert_eq!(elements(b"*-1\r\n"), None);
        assert_eq!(elements(b"-ERR x\r\n"), None);
        assert_eq!(elements(b"*2\r\n:1\r\n"), None);
    }

    #[test]
    fn a_push_is_told_from_a_reply() {
        let bytes = b">2\r\n+message\r\n$1\r\nx\r\n:3\r\n";
        assert_eq!(frames(bytes, 1), Ok(vec![(21, Frame::Push), (25, Frame::Reply)]));
    }

    #[test]
    fn nesting_costs_no_stack_and_lies_are_refused() {
        let mut deep = b"*1\r\n".repeat(1_000_000);
        deep.extend_from_slice(b":1\r\n");
        assert_eq!(frames(&deep, deep.len()), Ok(vec![(deep.len(), Frame::Reply)]));
        assert_eq!(frames(b"hello\r\n", 7), Err(ReplyFault::Type(b'h')));
        assert_eq!(frames(b"$?\r\n", 4), Err(ReplyFault::Streamed));
        assert_eq!(frames(b"$12x\r\n", 6), Err(ReplyFault::Length));
        assert_eq!(frames(b"*9223372036854775807\r\n", 22), Err(ReplyFault::Length));
        assert_eq!(frames(b"+a\n", 3), Err(ReplyFault::Type(b'\n')));
        assert_eq!(frames(&vec![b':'; super::MAX_LINE + 2], 4096), Err(ReplyFault::Line));
        for step in 1..=6 {
            assert_eq!(frames(b"+abc\n\r\n", step), Err(ReplyFault::Type(b'\n')), "step {step}");
        }
    }

    #[test]
    fn statuses_and_errors_may_be_as_long_as_bulk_strings() {
        for kind in [b'+', b'-'] {
            let text = [&[kind][..], &vec![b'x'; 3 * super::MAX_LINE], b"\r\r\n"].concat();
            let inside = [&b"*2\r\n"[..], &text, b":1\r\n"].concat();
            let all = [&text[..], &inside, b":2\r\n"].concat();
            let ends = [text.len(), text.len() + inside.len(), all.len()].map(|end| (end, Frame::Reply));
            for step in [all.len(), 4096, 4095, text.len() - 1, text.len() - 2] {
                assert_eq!(frames(&all, step), Ok(ends.to_vec()), "step {step}");
            }
        }
    }
}
