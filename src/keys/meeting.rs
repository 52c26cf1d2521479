//! How two key patterns stand to each other: whether some key matches both, and whether one is the more specific one.

use super::pattern::{Part, Pattern};
use super::placeholder::{Placeholder, PlaceholderKind};

impl Pattern {
    /// True when some key could match both patterns.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (a, b) = if other.has_path() && !(self.has_path() && self.parts.len() <= other.parts.len()) {
            (other, self)
        } else {
            (self, other)
        };
        let alike = |count: usize| a.parts.iter().zip(&b.parts).take(count).all(|(a, b)| a.overlaps(b));
        if !a.has_path() {
            return a.parts.len() == b.parts.len() && alike(a.parts.len());
        }
        let before = a.parts.len() - 1;
        b.parts.len() > before && alike(before) && a.parts[before].begins(&b.parts[before..])
    }

    /// True when both can match one key, and it does not go without saying whose it is. Of a key without a placeholder,
    /// and of a pattern whose keys a path takes too, it does: they are more specific.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        self.overlaps(other) && !self.goes_before(other) && !other.goes_before(self)
    }

    /// True when the keys of this pattern are its own, although `other` matches all of them.
    #[must_use]
    pub fn goes_before(&self, other: &Self) -> bool {
        let may = self.is_one_key() || other.has_path();
        may && self.is_within(other) && !other.is_within(self)
    }

    /// True when `other` matches every key of this pattern.
    fn is_within(&self, other: &Self) -> bool {
        let alike = |count: usize| self.parts.iter().zip(&other.parts).take(count).all(|(a, b)| a.is_within(b));
        if !other.has_path() {
            return !self.has_path() && self.parts.len() == other.parts.len() && alike(other.parts.len());
        }
        let before = other.parts.len() - 1;
        let (Some(last), Some(path)) = (self.parts.get(before), other.parts.last()) else { return false };
        let is_more = self.parts.len() > other.parts.len() || last.placeholder.is_some() || last.prefix != path.prefix;
        alike(before) && is_more && last.prefix.starts_with(&*path.prefix)
    }
}

impl Part {
    fn literal_matches(&self, literal: &str) -> bool {
        literal.strip_prefix(&*self.prefix).is_some_and(|body| self.body(body.as_bytes()).is_some())
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (&self.placeholder, &other.placeholder) {
            (None, _) => other.literal_matches(&self.prefix),
            (_, None) => self.literal_matches(&other.prefix),
            (Some(a), Some(b)) => {
                let is_same_text = self.prefix == other.prefix && self.suffix == other.suffix;
                let never = is_same_text && a.kind.excludes(b.kind);
                !never && self.begins_as(other, a, b) && self.ends_as(other, a, b)
            }
        }
    }

    /// True when both, with these placeholders, can begin a text: one prefix continues the other, and what follows the
    /// shorter one could be the rest.
    fn begins_as(&self, other: &Self, a: &Placeholder, b: &Placeholder) -> bool {
        match (self.prefix.strip_prefix(&*other.prefix), other.prefix.strip_prefix(&*self.prefix)) {
            (Some(rest), _) => b.could_hold_or_end(rest, other),
            (_, Some(rest)) => a.could_hold_or_end(rest, self),
            (None, None) => false,
        }
    }

    /// The same of the end of a text.
    fn ends_as(&self, other: &Self, a: &Placeholder, b: &Placeholder) -> bool {
        match (self.suffix.strip_suffix(&*other.suffix), other.suffix.strip_suffix(&*self.suffix)) {
            (Some(rest), _) => b.could_begin_or_hold(rest, other),
            (_, Some(rest)) => a.could_begin_or_hold(rest, self),
            (None, None) => false,
        }
    }

    /// True when this part, which ends with a path, could match what these parts match.
    fn begins(&self, parts: &[Self]) -> bool {
        let Some(first) = parts.first() else { return false };
        match first.prefix.strip_prefix(&*self.prefix) {
            Some(rest) => !rest.is_empty() || first.placeholder.is_some() || parts.len() > 1,
            None => {
                let rest = self.prefix.strip_prefix(&*first.prefix);
                rest.is_some_and(|rest| {
                    first.placeholder.as_ref().is_some_and(|one| one.could_hold_or_end(rest, first))
                })
            }
        }
    }

    /// True when `other` matches whatever this part does; neither ends with a path.
    fn is_within(&self, other: &Self) -> bool {
        match (&self.placeholder, &other.placeholder) {
            (None, None) => self.prefix == other.prefix,
            (None, Some(_)) => other.literal_matches(&self.prefix),
            (Some(_), None) => false,
            (Some(a), Some(b)) => {
                let ends = (self.prefix.strip_prefix(&*other.prefix), self.suffix.strip_suffix(&*other.suffix));
                match ends {
                    (Some(before), Some(behind)) => {
                        let is_same = a.kind == b.kind && before.is_empty() && behind.is_empty();
                        b.kind == PlaceholderKind::Text || is_same
                    }
                    _ => false,
                }
            }
        }
    }
}

impl Placeholder {
    /// True when its text, with what stands behind it in its part, could begin with this piece.
    fn could_hold_or_end(&self, piece: &str, part: &Part) -> bool {
        let is_in_suffix = |at: usize| part.suffix.starts_with(&piece[at..]) && self.could_hold(&piece[..at]);
        self.could_hold(piece) || (1..piece.len()).filter(|at| piece.is_char_boundary(*at)).any(is_in_suffix)
    }

    /// True when its text, with what stands before it in its part, could end with this piece.
    fn could_begin_or_hold(&self, piece: &str, part: &Part) -> bool {
        let is_in_prefix = |at: usize| part.prefix.ends_with(&piece[..at]) && self.could_hold(&piece[at..]);
        self.could_hold(piece) || (1..piece.len()).filter(|at| piece.is_char_boundary(*at)).any(is_in_prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect(text)
    }

    #[test]
    fn overlaps_are_seen() {
        for (a, b, meet) in [
            ("a:{x}", "a:{y:int}", true),
            ("a:{x}:b", "a:{x}:c", false),
            ("a:{x}", "a:b", true),
            ("a:{x:int}", "a:b", false),
            ("a:{x:int}", "a:7", true),
            ("a{x:int}", "ab{x:int}", false),
            ("a{x}", "ab{x}", true),
            ("a{x:int}", "a1{x:int}", true),
            ("{x}", "{y}:z", false),
            ("{x}-s", "{y}-t", false),
            ("a", "a", true),
            ("a:{x:uuid}", "a:{y:int}", false),
            ("a:{x:uuid}-b", "a:{y:date}-b", false),
            ("a:{x:uuid}", "a:{y}", true),
            ("a:1{x:int}", "a:{y:date}", true),
            ("{x:int}-c5", "1-c{y}", true),
            ("{x}-c", "a-{y:int}-c", true),
            ("{x:int}-c", "1-{y:int}", false),
            ("a:{x:uuid}", "a:all", false),
            ("a:{x:date}", "a:2026-02-29", false),
            ("a:{x:date}", "a:2026-02-28", true),
            ("a:{x:path}", "a:b:{y}:c", true),
            ("a:{x:path}", "a", false),
            ("a:{x:path}", "a:", false),
            ("a:{x:path}", "{y}", false),
            ("a:{x:path}", "{y}:{z}", true),
            ("a:b{x:path}", "a:b", false),
            ("a:b{x:path}", "a:bc", true),
            ("a:b{x:path}", "a:{y:int}", false),
            ("a:b{x:path}", "a:{y}", true),
            ("a:b-c{x:path}", "a:{y}-c:{z}", true),
            ("a:{x:path}", "a:b:{y:path}", true),
            ("a:c:{x:path}", "a:b:{y:path}", false),
            ("{x:path}", "a:b", true),
        ] {
            assert_eq!(pattern(a).overlaps(&pattern(b)), meet, "{a} / {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), meet, "{b} / {a}");
        }
    }

    #[test]
    fn the_more_specific_of_two_goes_before() {
        for (first, second) in [
            ("a:all", "a:{x}"),
            ("a:7", "a:{x:int}"),
            ("a:b:c", "a:{x:path}"),
            ("a:{x}", "a:{y:path}"),
            ("a:{x}:c", "a:{y:path}"),
            ("a:b:{x:path}", "a:{y:path}"),
            ("a:b{x:path}", "a:{y:path}"),
            ("a:{x:int}:{y:path}", "a:{x}:{y:path}"),
            ("a:{x}", "{y:path}"),
        ] {
            let (first, second) = (pattern(first), pattern(second));
            assert!(first.goes_before(&second), "{} / {}", first.text(), second.text());
            assert!(!second.goes_before(&first) && !first.conflicts(&second) && !second.conflicts(&first));
        }
        for (one, other) in [
            ("a:{x}", "a:{y}"),
            ("a:{x:int}", "a:{y}"),
            ("a", "a"),
            ("{x}:b:c", "a:{y:path}"),
            ("a:{x:path}", "a:{y:path}"),
            ("a:{x}:b:{y:path}", "a:b:{x:path}"),
        ] {
            let (one, other) = (pattern(one), pattern(other));
            assert!(one.conflicts(&other) && other.conflicts(&one), "{} / {}", one.text(), other.text());
        }
    }
}
