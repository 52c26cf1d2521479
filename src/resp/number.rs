//! Decimal integers exactly as Redis's `string2ll` reads them: no leading zeros, no plus, no spaces.

/// Reads a canonical signed 64-bit decimal; `None` for anything Redis itself would refuse.
#[must_use]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [] => return None,
        [b'0', ..] => return (text == b"0").then_some(0),
        _ => {}
    }
    let mut value: i64 = 0;
    for &byte in digits {
        let digit = i64::from(byte.checked_sub(b'0').filter(|d| *d <= 9)?);
        let shifted = value.checked_mul(10)?;
        // Negative numbers are built downwards so that i64::MIN is reachable.
        value = if negative { shifted.checked_sub(digit)? } else { shifted.checked_add(digit)? };
    }
    Some(value)
}

/// A number of one to four digits without a leading zero and the line's end behind it, as almost every length is; where
/// the next line begins. `None` for anything else.
#[inline]
pub(super) fn short_number(buf: &[u8], from: usize) -> Option<(usize, usize)> {
    const fn digit(byte: u8) -> usize {
        (byte - b'0') as usize
    }
    match *buf.get(from..)? {
        [a @ b'1'..=b'9', b'\r', _, ..] => Some((digit(a), from + 3)),
        [a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', _, ..] => Some((digit(a) * 10 + digit(b), from + 4)),
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b'\r', _, ..] => {
            Some((digit(a) * 100 + digit(b) * 10 + digit(c), from + 5))
        }
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', d @ b'0'..=b'9', b'\r', _, ..] => {
            Some((digit(a) * 1000 + digit(b) * 100 + digit(c) * 10 + digit(d), from + 6))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_i64, short_number};

    #[test]
    fn reads_what_redis_reads_and_nothing_else() {
        let good: [(&[u8], i64); 6] = [
            (b"0", 0),
            (b"7", 7),
            (b"-12", -12),
            (b"1000", 1000),
            (b"9223372036854775807", i64::MAX),
            (b"-9223372036854775808", i64::MIN),
        ];
        for (text, value) in good {
            assert_eq!(parse_i64(text), Some(value), "{}", String::from_utf8_lossy(text));
        }
        let bad: [&[u8]; 9] =
            [b"", b"-", b"-0", b"007", b"+1", b" 1", b"1 ", b"9223372036854775808", b"-9223372036854775809"];
        for text in bad {
            assert_eq!(parse_i64(text), None, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn short_lengths_are_read_with_the_end_of_their_line() {
        let read: [(&[u8], usize, usize); 4] =
            [(b"$7\r\n", 7, 4), (b"$42\r\n", 42, 5), (b"$120\r\nx", 120, 6), (b"$9999\r\n", 9999, 7)];
        for (text, number, end) in read {
            assert_eq!(short_number(text, 1), Some((number, end)), "{}", String::from_utf8_lossy(text));
        }
        for text in ["$10000\r\n", "$0\r\n", "$07\r\n", "$-1\r\n", "$7\r", "$"] {
            assert_eq!(short_number(text.as_bytes(), 1), None, "{text}");
        }
    }
}
