//! Inline requests: what a person types into a plain socket. Splits as Redis's `sdssplitargs` does.

/// A quote was opened and not closed, or not followed by a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnbalancedQuotes;

/// Splits a line into arguments; `"..."` knows `\n \r \t \b \a \xHH`, `'...'` knows only `\'`.
///
/// # Errors
/// [`UnbalancedQuotes`], as Redis answers it.
pub fn split_inline(line: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
    let mut args = Vec::new();
    let mut rest = line;
    loop {
        rest = &rest[rest.iter().take_while(|byte| is_space(**byte)).count()..];
        if rest.is_empty() || rest[0] == 0 {
            return Ok(args);
        }
        let (arg, behind) = argument(rest)?;
        args.push(arg);
        rest = behind;
    }
}

fn argument(mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), UnbalancedQuotes> {
    let mut arg = Vec::new();
    loop {
        match rest {
            [] | [b' ' | b'\n' | b'\r' | b'\t' | 0, ..] => return Ok((arg, rest)),
            [b'"', behind @ ..] => return double_quoted(arg, behind),
            [b'\'', behind @ ..] => return single_quoted(arg, behind),
            [byte, behind @ ..] => {
                arg.push(*byte);
                rest = behind;
            }
        }
    }
}

fn double_quoted(mut arg: Vec<u8>, mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), UnbalancedQuotes> {
    loop {
        rest = match rest {
            [] => return Err(UnbalancedQuotes),
            [b'\\', b'x', hi, lo, behind @ ..] if hi.is_ascii_hexdigit() && lo.is_ascii_hexdigit() => {
                arg.push(hex(*hi) << 4 | hex(*lo));
                behind
            }
            [b'\\', escaped, behind @ ..] => {
                arg.push(unescape(*escaped));
                behind
            }
            [b'"', behind @ ..] => return closed(arg, behind),
            [byte, behind @ ..] => {
                arg.push(*byte);
                behind
            }
        };
    }
}

fn single_quoted(mut arg: Vec<u8>, mut rest: &[u8]) -> Result<(Vec<u8>, &[u8]), UnbalancedQuotes> {
    loop {
        rest = match rest {
            [] => return Err(UnbalancedQuotes),
            [b'\\', b'\'', behind @ ..] => {
                arg.push(b'\'');
                behind
            }
            [b'\'', behind @ ..] => return closed(arg, behind),
            [byte, behind @ ..] => {
                arg.push(*byte);
                behind
            }
        };
    }
}

/// C's `isspace`, which knows the vertical tab too.
const fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// A closing quote must end the argument.
fn closed(arg: Vec<u8>, rest: &[u8]) -> Result<(Vec<u8>, &[u8]), UnbalancedQuotes> {
    match rest.first() {
        Some(byte) if !is_space(*byte) && *byte != 0 => Err(UnbalancedQuotes),
        _ => Ok((arg, rest)),
    }
}

const fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::{UnbalancedQuotes, split_inline};

    #[test]
    fn splits_as_redis_does() {
        let cases: [(&[u8], &[&[u8]]); 7] = [
            (b"", &[]),
            (b"   ", &[]),
            (b"PING", &[b"PING"]),
            (b"  set  k\tv ", &[b"set", b"k", b"v"]),
            (b"set k \"a b\\x41\\n\\\"\"", &[b"set", b"k", b"a bA\n\""]),
            (b"set k 'it\\'s \\n'", &[b"set", b"k", b"it's \\n"]),
            (b"set \"\" ''", &[b"set", b"", b""]),
        ];
        for (line, expected) in cases {
            assert_eq!(split_inline(line).expect("splits"), expected, "{}", String::from_utf8_lossy(line));
        }
        for line in [&b"\"a"[..], b"'a", b"\"a\"b", b"'a'b", b"\"\\"] {
            assert_eq!(split_inline(line), Err(UnbalancedQuotes));
        }
    }
}
