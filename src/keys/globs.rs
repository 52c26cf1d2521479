//! Whether two globs can match one text.

use super::glob::class;

/// One thing that a glob wants of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Want {
    /// Any bytes, or none.
    Star,
    /// One byte, whichever: of a class it is not looked at which.
    Any,
    /// This byte.
    Byte(u8),
}

fn wants(glob: &[u8]) -> Vec<Want> {
    let (mut wants, mut rest) = (Vec::with_capacity(glob.len()), glob);
    while let [first, after @ ..] = rest {
        let (want, behind) = match (first, after) {
            (b'*', _) => (Want::Star, after),
            (b'?', _) => (Want::Any, after),
            (b'[', _) => (Want::Any, &after[class(after, 0).1..]),
            (b'\\', [literal, behind @ ..]) => (Want::Byte(*literal), behind),
            _ => (Want::Byte(*first), after),
        };
        wants.push(want);
        rest = behind;
    }
    wants
}

/// True when some text may match both; a class counts as any byte.
#[must_use]
pub fn globs_meet(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (wants(a), wants(b));
    // Whether the rest of `a` from here on and that of `b` from each place on can match one text.
    let mut next = vec![false; b.len() + 1];
    for at in (0..=a.len()).rev() {
        let mut row = vec![false; b.len() + 1];
        for other in (0..=b.len()).rev() {
            row[other] = match (a.get(at), b.get(other)) {
                (None, None) => true,
                (Some(Want::Star), None) => next[other],
                (None, Some(Want::Star)) => row[other + 1],
                (None, Some(_)) | (Some(_), None) => false,
                (Some(Want::Star), Some(_)) | (Some(_), Some(Want::Star)) => next[other] || row[other + 1],
                (Some(Want::Byte(one)), Some(Want::Byte(two))) => one == two && next[other + 1],
                (Some(_), Some(_)) => next[other + 1],
            };
        }
        next = row;
    }
    next[0]
}

#[cfg(test)]
mod tests {
    use super::globs_meet;

    #[test]
    fn two_globs_meet_where_one_text_matches_both() {
        for (a, b, expected) in [
            ("cfg:*", "cfg:a", true),
            ("cfg:*", "cfg", false),
            ("location:*:players", "location:*:cache", false),
            ("location:*", "location:*:cache", true),
            ("player:7:*", "player:*:session", true),
            ("a?", "a[xy]", true),
            ("a?", "a", false),
            ("*a", "b*", true),
            ("*a*", "*b", true),
            ("x\\*", "x*", true),
            ("x\\*", "xy", false),
            ("[\\]]", "a", true),
            ("[^a", "b", true),
            ("", "*", true),
            ("", "", true),
            ("a*", "b*", false),
        ] {
            assert_eq!(globs_meet(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
            assert_eq!(globs_meet(b.as_bytes(), a.as_bytes()), expected, "{b} {a}");
        }
    }
}
