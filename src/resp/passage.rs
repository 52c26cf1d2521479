//! The rest of a request whose beginning was enough to route it: passed on as it comes, kept nowhere.

use super::request::{RequestFault, bulk_header};

/// Finds a request's end without looking at its arguments.
#[derive(Debug)]
pub struct Passage {
    /// Bytes of the current argument (and its CRLF) still to come.
    skip: u64,
    /// Arguments behind it.
    remaining: u64,
    max_bulk: usize,
}

impl Passage {
    pub(super) const fn new(skip: u64, remaining: u64, max_bulk: usize) -> Self {
        Self { skip, remaining, max_bulk }
    }

    /// Bytes of `buf` that belong to the request, and whether it ends there. Bytes that are left over, when it does not
    /// end, must be shown again with more.
    ///
    /// # Errors
    /// [`RequestFault`], after which the client must be closed.
    pub fn scan(&mut self, buf: &[u8]) -> Result<(usize, bool), RequestFault> {
        let mut at = 0;
        loop {
            let step = self.skip.min((buf.len() - at) as u64);
            self.skip -= step;
            at += step as usize;
            if self.skip > 0 {
                return Ok((at, false));
            }
            if self.remaining == 0 {
                return Ok((at, true));
            }
            let Some((length, begin)) = bulk_header(buf, at, self.max_bulk)? else { return Ok((at, false)) };
            at = begin;
            self.skip = length as u64 + 2;
            self.remaining -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::resp::request::{RequestFault, RequestScanner, Scan};

    #[test]
    fn the_rest_is_found_at_every_split() {
        let bytes = b"*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$8\r\nabc\r\ndef\r\n$2\r\nNX\r\nPING\r\n";
        let (begin, end) = (25, bytes.len() - 6);
        for first in begin..end - 10 {
            for step in 1..=bytes.len() - first {
                let mut scanner = RequestScanner::default();
                assert_eq!(scanner.scan(&bytes[..first]), Ok(Scan::Incomplete));
                let Some(awaited) = scanner.awaited() else { continue };
                assert_eq!((awaited.index, awaited.length, awaited.arguments), (2, 8, 4), "{first}");
                let mut passage = scanner.pass(first);
                let (mut from, mut to) = (first, first);
                loop {
                    to = (to + step).min(bytes.len());
                    let (used, done) = passage.scan(&bytes[from..to]).expect("no fault");
                    from += used;
                    if done {
                        break;
                    }
                }
                assert_eq!(from, end, "first {first}, step {step}");
                assert_eq!(scanner.scan(&bytes[end..]), Ok(Scan::Inline(6, vec![b"PING".to_vec()])));
            }
        }
    }

    #[test]
    fn faults_behind_the_beginning_are_seen() {
        let bytes = b"*3\r\n$3\r\nSET\r\n$9\r\nabc";
        let mut scanner = RequestScanner::default();
        assert_eq!(scanner.scan(bytes), Ok(Scan::Incomplete));
        let mut passage = scanner.pass(bytes.len());
        assert_eq!(passage.scan(b"defghi\r\n+1\r\n"), Err(RequestFault::Expected(b'+')));
    }
}
