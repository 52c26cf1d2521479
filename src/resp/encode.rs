//! Writers of synthesized RESP: each appends one value, or the header of one aggregate, to a buffer.
//!
//! Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use bytes::{BufMut, Bytes, BytesMut};

use super::Proto;

#[inline]
fn header(out: &mut BytesMut, kind: u8, number: i64) {
    match number {
        // Most lengths, in one step.
        0..=9 => out.put_slice(&[kind, b'0' + number as u8, b'\r', b'\n']),
        10..=99 => {
            let (tens, units) = (number as u8 / 10, number as u8 % 10);
            out.put_slice(&[kind, b'0' + tens, b'0' + units, b'\r', b'\n']);
        }
        _ => long_header(out, kind, number),
    }
}

fn long_header(out: &mut BytesMut, kind: u8, number: i64) {
    out.put_u8(kind);
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
    out.put_slice(b"\r\n");
}

/// `+text`; the text must hold no CR or LF.
pub fn simple(out: &mut BytesMut, text: &str) {
    out.put_u8(b'+');
    out.put_slice(text.as_bytes());
    out.put_slice(b"\r\n");
}

/// `-text`, the text beginning with its code (`ERR`, `WRONGTYPE` ...). CR and LF become spaces, as in Redis.
pub fn error(out: &mut BytesMut, text: &str) {
    error_bytes(out, text.as_bytes());
}

/// The same, of bytes that may be no text.
pub fn error_bytes(out: &mut BytesMut, text: &[u8]) {
    out.put_u8(b'-');
    out.extend(text.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }));
    out.put_slice(b"\r\n");
}

/// `:number`.
pub fn int(out: &mut BytesMut, number: i64) {
    header(out, b':', number);
}

/// `$length`, the bytes.
pub fn bulk(out: &mut BytesMut, bytes: &[u8]) {
    header(out, b'$', bytes.len() as i64);
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

/// Bytes of a bulk string of so many bytes: `$`, the digits of its length, two line ends, the bytes.
#[must_use]
pub const fn bulk_length(bytes: usize) -> usize {
    let mut length = bytes + 6;
    let mut ten = 10;
    while bytes >= ten {
        length += 1;
        ten *= 10;
    }
    length
}

/// A null array: `*-1` or `_`.
pub fn null_array(out: &mut BytesMut, proto: Proto) {
    out.put_slice(if proto == Proto::Resp3 { b"_\r\n" } else { b"*-1\r\n" });
}

/// A null string: `$-1` or `_`.
pub fn null(out: &mut BytesMut, proto: Proto) {
    out.put_slice(match proto {
        Proto::Resp2 => b"$-1\r\n",
        Proto::Resp3 => b"_\r\n",
    });
}

/// The header of an array of `n` values.
pub fn array(out: &mut BytesMut, n: usize) {
    header(out, b'*', n as i64);
}

/// The header of a map of `n` pairs: `*2n` or `%n`.
pub fn map(out: &mut BytesMut, proto: Proto, n: usize) {
    match proto {
        Proto::Resp2 => header(out, b'*', n as i64 * 2),
        Proto::Resp3 => header(out, b'%', n as i64),
    }
}

/// The header of a push message of `n` values, which RESP2 has as an array.
pub fn push(out: &mut BytesMut, proto: Proto, n: usize) {
    header(out, if proto == Proto::Resp2 { b'*' } else { b'>' }, n as i64);
}

/// The header of a set of `n` values: `*n` or `~n`.
pub fn set(out: &mut BytesMut, proto: Proto, n: usize) {
    header(out, if proto == Proto::Resp2 { b'*' } else { b'~' }, n as i64);
}

/// Text for people: a bulk string, or a verbatim string of format `txt`.
pub fn verbatim(out: &mut BytesMut, proto: Proto, text: &[u8]) {
    match proto {
        Proto::Resp2 => bulk(out, text),
        Proto::Resp3 => {
            header(out, b'=', text.len() as i64 + 4);
            out.put_slice(b"txt:");
            out.put_slice(text);
            out.put_slice(b"\r\n");
        }
    }
}

/// A whole request: an array of bulk strings.
pub fn request<A: AsRef<[u8]>>(out: &mut BytesMut, args: &[A]) {
    array(out, args.len());
    for arg in args {
        bulk(out, arg.as_ref());
    }
}

/// The same by itself.
#[must_use]
pub fn request_of<A: AsRef<[u8]>>(args: &[A]) -> Bytes {
    let mut out = BytesMut::new();
    request(&mut out, args);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{array, bulk, bulk_length, error, int, map, null, request, verbatim};
    use crate::resp::Proto;

    #[test]
    fn numbers_of_every_length_are_written_in_full() {
        for number in [0, 9, 10, 99, 100, 101, 12_345, i64::MAX, -1, -10, i64::MIN] {
            let mut out = BytesMut::new();
            int(&mut out, number);
            assert_eq!(out, format!(":{number}\r\n").as_bytes());
        }
        let mut out = BytesMut::new();
        array(&mut out, 100);
        assert_eq!(&out[..], b"*100\r\n");
    }

    #[test]
    fn the_length_of_a_bulk_string_is_known_before_it_is_written() {
        for length in [0, 1, 9, 10, 99, 100, 999, 1000, 65_536] {
            let mut out = BytesMut::new();
            bulk(&mut out, &vec![b'x'; length]);
            assert_eq!(out.len(), bulk_length(length), "{length}");
        }
    }

    #[test]
    fn forms_differ_by_protocol_only_where_they_must() {
        let mut out = BytesMut::new();
        map(&mut out, Proto::Resp2, 2);
        map(&mut out, Proto::Resp3, 2);
        null(&mut out, Proto::Resp2);
        null(&mut out, Proto::Resp3);
        verbatim(&mut out, Proto::Resp3, b"ab");
        error(&mut out, "ERR two\r\nlines");
        request(&mut out, &["GET", "k"]);
        let expected = "*4\r\n%2\r\n$-1\r\n_\r\n=6\r\ntxt:ab\r\n-ERR two  lines\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        assert_eq!(out, expected.as_bytes());
    }
}
