//! One key pattern: literals with `{name}` or `{name:int}` placeholders.
//!
//! Invariants:
//! - a placeholder never spans `:` and is never empty; a part between two `:` has at most one, so a match is unique;
//! - an int placeholder matches the canonical decimal of a signed 64-bit integer only, so that one row has one key
//!   (hazard 29).

use crate::resp::number::parse_i64;

/// What a placeholder accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceholderKind {
    /// One or more bytes other than `:`.
    Text,
    /// A canonical decimal within i64.
    Int,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Placeholder {
    name: String,
    kind: PlaceholderKind,
}

/// What stands between two `:`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    prefix: String,
    placeholder: Option<Placeholder>,
    suffix: String,
}

/// A parsed key pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

/// One placeholder, and the literals around it.
pub(super) struct Segment<'p> {
    /// What stands before it: from the `:` that ends the segment before, or from the key's beginning.
    pub(super) literal: String,
    /// What it accepts.
    pub(super) kind: PlaceholderKind,
    /// What stands between its text and the next `:`, or the key's end.
    pub(super) suffix: &'p str,
}

/// Why a text is no key pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// An empty pattern.
    #[error("a key pattern cannot be empty")]
    Empty,
    /// `{` without `}` or the other way round.
    #[error("unbalanced braces in '{0}'")]
    Braces(String),
    /// A placeholder's name is no identifier.
    #[error(
        "'{{{0}}}' is not a placeholder: write {{name}} or {{name:int}}, the name of letters, digits and \
             _; key_columns = {{ name = \"a column\" }} gives it a column that is called otherwise"
    )]
    Name(String),
    /// Two placeholders without a `:` between them.
    #[error("'{0}' has two placeholders between colons; their borders would be ambiguous")]
    Adjacent(String),
    /// One name twice.
    #[error("placeholder '{0}' stands twice in one pattern")]
    Twice(String),
}

impl Pattern {
    /// Reads a pattern such as `player:{character_id:int}:session`.
    ///
    /// # Errors
    /// [`PatternError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        let parts = split_parts(text).into_iter().map(parse_part).collect::<Result<Vec<_>, _>>()?;
        let pattern = Self { text: text.to_owned(), parts };
        let names: Vec<_> = pattern.placeholders().map(|(name, _)| name).collect();
        match names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            Some((_, name)) => Err(PatternError::Twice((*name).to_owned())),
            None => Ok(pattern),
        }
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The placeholders in order: name and kind.
    pub fn placeholders(&self) -> impl Iterator<Item = (&str, PlaceholderKind)> {
        self.parts.iter().filter_map(|part| part.placeholder.as_ref()).map(|one| (one.name.as_str(), one.kind))
    }

    /// True when `key` is one of this pattern's keys.
    #[must_use]
    pub fn matches(&self, key: &[u8]) -> bool {
        self.walk(key, |_| {})
    }

    /// The text in each placeholder, in order; `None` when the key does not match.
    #[must_use]
    pub fn captures<'k>(&self, key: &'k [u8]) -> Option<Vec<&'k [u8]>> {
        let mut found = Vec::new();
        self.walk(key, |text| found.push(text)).then_some(found)
    }

    fn walk<'k>(&self, key: &'k [u8], mut capture: impl FnMut(&'k [u8])) -> bool {
        let mut rest = key;
        for (i, part) in self.parts.iter().enumerate() {
            let last = i + 1 == self.parts.len();
            // The first literal tells most foreign keys apart, before a colon is searched.
            let Some(behind) = rest.strip_prefix(part.prefix.as_bytes()) else { return false };
            let colon = memchr::memchr(b':', behind);
            let (body, next) = match (colon, last) {
                (None, true) => (behind, &[][..]),
                (Some(at), false) => (&behind[..at], &behind[at + 1..]),
                _ => return false,
            };
            match part.body(body) {
                Some(Some(text)) => capture(text),
                Some(None) => {}
                None => return false,
            }
            rest = next;
        }
        true
    }

    /// The key whose placeholders hold `values`; `None` when that key would not match the pattern.
    #[must_use]
    pub fn render<V: AsRef<[u8]>>(&self, values: &[V]) -> Option<Vec<u8>> {
        let mut values = values.iter();
        let mut key = Vec::with_capacity(self.text.len());
        for (i, part) in self.parts.iter().enumerate() {
            if i > 0 {
                key.push(b':');
            }
            key.extend_from_slice(part.prefix.as_bytes());
            if part.placeholder.is_some() {
                key.extend_from_slice(values.next()?.as_ref());
            }
            key.extend_from_slice(part.suffix.as_bytes());
        }
        self.matches(&key).then_some(key)
    }

    /// The pattern as literals and placeholders in turn, literal first and last (either may be empty).
    #[must_use]
    pub fn pieces(&self) -> (Vec<String>, Vec<&str>) {
        let (mut literals, mut names, mut literal) = (Vec::new(), Vec::new(), String::new());
        for (i, part) in self.parts.iter().enumerate() {
            if i > 0 {
                literal.push(':');
            }
            literal.push_str(&part.prefix);
            if let Some(placeholder) = &part.placeholder {
                literals.push(std::mem::take(&mut literal));
                names.push(placeholder.name.as_str());
            }
            literal.push_str(&part.suffix);
        }
        literals.push(literal);
        (literals, names)
    }

    /// The parts of a key from its beginning to its end: a segment for each placeholder, and the literal behind the
    /// last one.
    pub(super) fn segments(&self) -> (Vec<Segment<'_>>, String) {
        let (mut segments, mut literal) = (Vec::new(), String::new());
        for (i, part) in self.parts.iter().enumerate() {
            if i > 0 {
                literal.push(':');
            }
            literal.push_str(&part.prefix);
            if let Some(placeholder) = &part.placeholder {
                let literal = std::mem::take(&mut literal);
                segments.push(Segment { literal, kind: placeholder.kind, suffix: &part.suffix });
            }
        }
        (segments, literal)
    }

    /// The keys that SORT looks up by `pattern`, its first star standing for an element without a colon; `None` if it
    /// looks up none. What stands behind `->` is a field.
    /// Source: `lookupKeyByPattern` of Redis 7.0.
    #[must_use]
    pub fn of_sort(pattern: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(pattern).into_owned();
        let (before, behind) = text.split_once('*')?;
        let behind = match behind.split_once("->") {
            Some((key, field)) if !field.is_empty() => key,
            _ => behind,
        };
        let literal = |text: &str| Part { prefix: text.to_owned(), placeholder: None, suffix: String::new() };
        let mut parts: Vec<Part> = before.split(':').map(literal).collect();
        let mut rest = behind.split(':');
        if let (Some(part), Some(suffix)) = (parts.last_mut(), rest.next()) {
            let placeholder = Placeholder { name: "element".into(), kind: PlaceholderKind::Text };
            (part.placeholder, part.suffix) = (Some(placeholder), suffix.to_owned());
        }
        parts.extend(rest.map(literal));
        Some(Self { text, parts })
    }

    /// True when some key could match both patterns.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.parts.len() == other.parts.len() && self.parts.iter().zip(&other.parts).all(|(a, b)| a.overlaps(b))
    }
}

impl Part {
    /// `None`: no match; `Some(None)`: a literal matched; `Some(Some(text))`: the placeholder's text.
    fn body<'k>(&self, body: &'k [u8]) -> Option<Option<&'k [u8]>> {
        let Some(placeholder) = &self.placeholder else { return body.is_empty().then_some(None) };
        let text = body.strip_suffix(self.suffix.as_bytes())?;
        placeholder.accepts(text).then_some(Some(text))
    }

    fn literal_matches(&self, literal: &str) -> bool {
        literal.strip_prefix(&*self.prefix).is_some_and(|body| self.body(body.as_bytes()).is_some())
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (&self.placeholder, &other.placeholder) {
            (None, _) => other.literal_matches(&self.prefix),
            (_, None) => self.literal_matches(&other.prefix),
            (Some(a), Some(b)) => {
                edges_meet(&self.prefix, &other.prefix, a, b, |s, p| s.strip_prefix(p))
                    && edges_meet(&self.suffix, &other.suffix, a, b, |s, p| s.strip_suffix(p))
            }
        }
    }
}

/// True when two literals can stand at one edge: one continues the other, and the placeholder behind the shorter
/// one could hold the rest.
fn edges_meet<'t>(
    x: &'t str,
    y: &'t str,
    a: &Placeholder,
    b: &Placeholder,
    cut: fn(&'t str, &'t str) -> Option<&'t str>,
) -> bool {
    cut(x, y).is_some_and(|rest| b.could_hold(rest)) || cut(y, x).is_some_and(|rest| a.could_hold(rest))
}

impl Placeholder {
    fn accepts(&self, text: &[u8]) -> bool {
        match self.kind {
            PlaceholderKind::Text => !text.is_empty(),
            PlaceholderKind::Int => parse_i64(text).is_some(),
        }
    }

    fn could_hold(&self, piece: &str) -> bool {
        self.kind == PlaceholderKind::Text || piece.bytes().all(|b| b == b'-' || b.is_ascii_digit())
    }
}

/// Splits at the colons outside braces.
fn split_parts(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    text.split(|c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ':' && depth == 0
    })
    .collect()
}

fn parse_part(text: &str) -> Result<Part, PatternError> {
    let unbalanced = || PatternError::Braces(text.to_owned());
    let Some((prefix, rest)) = text.split_once('{') else {
        return if text.contains('}') {
            Err(unbalanced())
        } else {
            Ok(Part { prefix: text.to_owned(), placeholder: None, suffix: String::new() })
        };
    };
    let (inside, suffix) = rest.split_once('}').ok_or_else(unbalanced)?;
    if suffix.contains('{') {
        return Err(PatternError::Adjacent(text.to_owned()));
    }
    if prefix.contains('}') || suffix.contains('}') {
        return Err(unbalanced());
    }
    let placeholder = Some(parse_placeholder(inside)?);
    Ok(Part { prefix: prefix.to_owned(), placeholder, suffix: suffix.to_owned() })
}

fn parse_placeholder(text: &str) -> Result<Placeholder, PatternError> {
    let (name, kind) = match text.split_once(':') {
        None => (text, PlaceholderKind::Text),
        Some((name, "int")) => (name, PlaceholderKind::Int),
        Some(_) => return Err(PatternError::Name(text.to_owned())),
    };
    let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
    if name.is_empty() || !name.chars().all(word) {
        return Err(PatternError::Name(text.to_owned()));
    }
    Ok(Placeholder { name: name.to_owned(), kind })
}

#[cfg(test)]
mod tests {
    use super::{Pattern, PatternError};

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect(text)
    }

    #[test]
    fn matches_canonical_keys_only() {
        let session = pattern("player:{character_id:int}:session");
        for (key, id) in [("player:7:session", "7"), ("player:-7:session", "-7"), ("player:0:session", "0")] {
            assert_eq!(session.captures(key.as_bytes()), Some(vec![id.as_bytes()]), "{key}");
        }
        for key in [
            "player:007:session",
            "player:+7:session",
            "player::session",
            "player:x:session",
            "player:7:session:",
            "player:7",
            "player:7:sessions",
            "xplayer:7:session",
            "player:9223372036854775808:session",
            "player:-0:session",
            "",
        ] {
            assert!(!session.matches(key.as_bytes()), "{key}");
        }
        let page = pattern("page-{slug}.html:{lang}");
        assert_eq!(page.captures(b"page-a-b.html:en"), Some(vec![&b"a-b"[..], b"en"]));
        assert!(!page.matches(b"page-.html:en") && !page.matches(b"page-a.html:en:x"));
    }

    #[test]
    fn renders_what_it_matches() {
        let session = pattern("player:{id:int}:session");
        assert_eq!(session.render(&["7"]).as_deref(), Some(&b"player:7:session"[..]));
        assert_eq!(session.render(&["007"]), None);
        assert_eq!(pattern("a:{x}").render(&["b:c"]), None);
        assert_eq!(session.pieces(), (vec!["player:".into(), ":session".into()], vec!["id"]));
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
        ] {
            assert_eq!(pattern(a).overlaps(&pattern(b)), meet, "{a} / {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), meet, "{b} / {a}");
        }
    }

    #[test]
    fn what_sort_looks_up_is_seen() {
        let session = pattern("player:{id:int}:session");
        for (by, meets) in [
            ("player:*:session->hp", Some(true)),
            ("player:*:session", Some(true)),
            ("player:1*:session->*", Some(true)),
            ("play*:7:session", Some(true)),
            ("player:*:session->", Some(false)),
            ("player:*:score", Some(false)),
            ("player:x*:session", Some(false)),
            ("weight_*", Some(false)),
            ("*", Some(false)),
            ("player:7:session", None),
            ("#", None),
        ] {
            let found = Pattern::of_sort(by.as_bytes()).map(|keys| keys.overlaps(&session));
            assert_eq!(found, meets, "{by}");
        }
        let braces = Pattern::of_sort(b"{*}:x");
        assert!(braces.is_some_and(|keys| keys.overlaps(&pattern("{a}:x"))), "braces are no placeholders");
    }

    #[test]
    fn faults_name_the_piece() {
        assert_eq!(Pattern::parse(""), Err(PatternError::Empty));
        assert_eq!(Pattern::parse("a:{x"), Err(PatternError::Braces("{x".into())));
        assert_eq!(Pattern::parse("a:{x}{y}"), Err(PatternError::Adjacent("{x}{y}".into())));
        assert_eq!(Pattern::parse("a:{x:uuid}"), Err(PatternError::Name("x:uuid".into())));
        assert_eq!(Pattern::parse("a:{x}:{x}"), Err(PatternError::Twice("x".into())));
    }
}
