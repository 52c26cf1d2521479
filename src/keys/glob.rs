//! Glob matching as Redis's `stringmatchlen`: `*`, `?`, `[a-z]`, `[^x]`, `\x`.

use std::borrow::Cow;

/// True when `text` matches `pattern`.
#[must_use]
pub fn glob_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when a literal fails behind the last star: only that one must be tried again.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match step(&pattern[p..], text[t]) {
            Step::Star => {
                p += 1;
                star = Some((p, t));
            }
            Step::Taken(length) => {
                p += length;
                t += 1;
            }
            Step::Fails => match star {
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// What every text begins with that `glob` matches: what stands before its first wildcard.
#[must_use]
pub fn literal_beginning(glob: &[u8]) -> &[u8] {
    let end = glob.iter().position(|byte| b"*?[\\".contains(byte)).unwrap_or(glob.len());
    &glob[..end]
}

/// True when a text may begin with both of these: one of them begins with the other.
#[must_use]
pub fn begin_alike(one: &[u8], other: &[u8]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// True when `pattern` surely matches whatever `glob` matches: they are the same, or `pattern` is literal but for a
/// star at its end, and `glob` begins alike. A `glob` without wildcards is a text.
#[must_use]
pub fn glob_covers(pattern: &[u8], glob: &[u8]) -> bool {
    let is_literal = |text: &[u8]| literal_beginning(text) == text;
    match pattern {
        _ if is_literal(glob) => glob_match(pattern, glob),
        [start @ .., b'*'] if is_literal(start) && glob.starts_with(start) => true,
        _ => pattern == glob,
    }
}

/// The only text that `pattern` matches: it has no wildcard, or each stands behind a backslash. None where it may match
/// several texts.
#[must_use]
pub fn only_text(pattern: &[u8]) -> Option<Cow<'_, [u8]>> {
    if literal_beginning(pattern) == pattern {
        return Some(pattern.into());
    }
    let (mut text, mut rest) = (Vec::with_capacity(pattern.len()), pattern);
    while let [first, after @ ..] = rest {
        let (literal, behind) = match (first, after) {
            (b'*' | b'?' | b'[', _) => return None,
            (b'\\', [literal, behind @ ..]) => (literal, behind),
            _ => (first, after),
        };
        text.push(*literal);
        rest = behind;
    }
    Some(text.into())
}

enum Step {
    Star,
    Taken(usize),
    Fails,
}

fn step(pattern: &[u8], byte: u8) -> Step {
    match pattern {
        [] => Step::Fails,
        [b'*', ..] => Step::Star,
        [b'?', ..] => Step::Taken(1),
        [b'[', rest @ ..] => match class(rest, byte) {
            (true, length) => Step::Taken(length + 1),
            (false, _) => Step::Fails,
        },
        [b'\\', literal, ..] => {
            if *literal == byte {
                Step::Taken(2)
            } else {
                Step::Fails
            }
        }
        [literal, ..] => {
            if *literal == byte {
                Step::Taken(1)
            } else {
                Step::Fails
            }
        }
    }
}

/// A class behind its `[`: whether it accepts `byte`, and its length with the `]`.
pub(super) fn class(pattern: &[u8], byte: u8) -> (bool, usize) {
    let negated = pattern.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match &pattern[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', literal, ..] => {
                found |= *literal == byte;
                at += 2;
            }
            [from, b'-', to, ..] => {
                found |= (*from.min(to)..=*from.max(to)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= *literal == byte;
                at += 1;
            }
        }
    }
    (found != negated, at)
}

#[cfg(test)]
mod tests {
    use super::{glob_covers, glob_match, only_text};

    #[test]
    fn globs_as_redis_does() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "abc", true),
            ("a*c", "abbc", true),
            ("a*c", "ab", false),
            ("h?llo", "hallo", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hello", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("", "", true),
            ("", "a", false),
            ("*:*:x", "a:b:c:x", true),
            ("[a", "a", true),
            ("a**b", "ab", true),
            ("[\\]]", "]", true),
        ] {
            assert_eq!(glob_match(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_glob_without_wildcards_is_one_text() {
        for (pattern, text) in [
            ("a:1", Some("a:1")),
            ("", Some("")),
            (r"a:\[1]", Some("a:[1]")),
            (r"\*\?\\", Some(r"*?\")),
            (r"a\b", Some("ab")),
            (r"a\", Some(r"a\")),
            ("a:[1]", None),
            (r"\**", None),
            ("a?", None),
        ] {
            let found = only_text(pattern.as_bytes());
            assert_eq!(found.as_deref(), text.map(str::as_bytes), "{pattern}");
            assert!(text.is_none_or(|text| glob_match(pattern.as_bytes(), text.as_bytes())), "{pattern}");
        }
    }

    #[test]
    fn many_stars_stay_cheap() {
        let pattern = "a*".repeat(50) + "b";
        assert!(!glob_match(pattern.as_bytes(), "a".repeat(10_000).as_bytes()));
    }

    #[test]
    fn a_pattern_covers_what_another_can_match() {
        for (pattern, glob, expected) in [
            ("*", "*", true),
            ("*", "a[bc]", true),
            ("a:*", "a:1", true),
            ("a:*", "a:*", true),
            ("a:*", "a:1:*", true),
            ("a:*", "*", false),
            ("a:*", "a*", false),
            ("a:?", "a:*", false),
            ("a:?", "a:?", true),
            ("a:?", "a:1", true),
            ("a:[12]", "a:?", false),
            ("a\\*", "a\\*b", false),
            ("a*:b", "a*", false),
        ] {
            assert_eq!(glob_covers(pattern.as_bytes(), glob.as_bytes()), expected, "{pattern} {glob}");
        }
    }
}
