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

#[cfg(test)]
mod tests {
    use super::parse_i64;

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
}
