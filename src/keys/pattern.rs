//! One key pattern: literals with placeholders such as `{name}`, `{name:int}` or, at its end, `{name:path}`.
//!
//! Invariants:
//! - a placeholder is never empty, and never spans `:`, but for a path, which is the end of its pattern; a part between
//!   two `:` has at most one, so a match is unique;
//! - placeholders of the other kinds match the one spelling of a value only, so that one row has one key (hazard 29).

use super::placeholder::{Placeholder, PlaceholderKind};

/// What stands between two `:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) prefix: String,
    pub(super) placeholder: Option<Placeholder>,
    pub(super) suffix: String,
}

/// A parsed key pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    pub(super) parts: Vec<Part>,
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
        "'{{{0}}}' is not a placeholder: write {{name}}, {{name:int}}, {{name:uuid}}, {{name:date}} or, at the end of \
             a key, {{name:path}}, the name of letters, digits and _; key_columns = {{ name = \"a column\" }} gives it \
             a column that is called otherwise"
    )]
    Name(String),
    /// A path that something stands behind.
    #[error("'{{{0}:path}}' takes the rest of a key, colons too: nothing may stand behind it")]
    Path(String),
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
        if let Some((_, name)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            return Err(PatternError::Twice((*name).to_owned()));
        }
        match pattern.path_before_the_end() {
            Some(name) => Err(PatternError::Path(name.to_owned())),
            None => Ok(pattern),
        }
    }

    /// The name of a path that something stands behind.
    fn path_before_the_end(&self) -> Option<&str> {
        let is_last = |i: usize, part: &Part| i + 1 == self.parts.len() && part.suffix.is_empty();
        let mut early = self.parts.iter().enumerate().filter(|(i, part)| !is_last(*i, part));
        early.find_map(|(_, part)| part.placeholder.as_ref().filter(|one| one.is_path())).map(|one| one.name.as_str())
    }

    /// True when it ends with a path: its keys have any number of colons.
    #[must_use]
    pub fn has_path(&self) -> bool {
        self.parts.last().and_then(|part| part.placeholder.as_ref()).is_some_and(Placeholder::is_path)
    }

    /// True when it has no placeholder: it is one key.
    #[must_use]
    pub fn is_one_key(&self) -> bool {
        self.placeholders().next().is_none()
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What each of its keys begins with.
    #[must_use]
    pub fn begin(&self) -> &[u8] {
        let end = self.text.find('{').unwrap_or(self.text.len());
        &self.text.as_bytes()[..end]
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
                (_, true) if part.placeholder.as_ref().is_some_and(Placeholder::is_path) => (behind, &[][..]),
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

    /// The key whose placeholders hold `values`; `None` when that key would not match the pattern, or match it with
    /// other values.
    #[must_use]
    pub fn render<V: AsRef<[u8]>>(&self, values: &[V]) -> Option<Vec<u8>> {
        let given = values;
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
        let is_found = match self.has_path() {
            // A path would take the colons of the values before it.
            true => self.captures(&key)?.into_iter().eq(given.iter().map(AsRef::as_ref)),
            false => self.matches(&key),
        };
        is_found.then_some(key)
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

    /// A glob that matches every key of the pattern, and may match others.
    pub(super) fn as_glob(&self) -> String {
        let literal = |text: &str| {
            let special = |c: char| matches!(c, '*' | '?' | '[' | '\\');
            text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect::<String>()
        };
        let part = |part: &Part| {
            let star = if part.placeholder.is_some() { "*" } else { "" };
            format!("{}{star}{}", literal(&part.prefix), literal(&part.suffix))
        };
        self.parts.iter().map(part).collect::<Vec<_>>().join(":")
    }
}

impl Part {
    /// `None`: no match; `Some(None)`: a literal matched; `Some(Some(text))`: the placeholder's text.
    pub(super) fn body<'k>(&self, body: &'k [u8]) -> Option<Option<&'k [u8]>> {
        let Some(placeholder) = &self.placeholder else { return body.is_empty().then_some(None) };
        let text = body.strip_suffix(self.suffix.as_bytes())?;
        placeholder.kind.accepts(text).then_some(Some(text))
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
    let placeholder = Some(Placeholder::parse(inside).ok_or_else(|| PatternError::Name(inside.to_owned()))?);
    Ok(Part { prefix: prefix.to_owned(), placeholder, suffix: suffix.to_owned() })
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
    fn a_path_takes_the_colons_at_the_end_of_a_key() {
        let flag = pattern("flag:{tenant}:b-{name:path}");
        assert_eq!(flag.captures(b"flag:t:b-beta:search:"), Some(vec![&b"t"[..], b"beta:search:"]));
        for key in ["flag:t:b-", "flag:t", "flag:t:beta", "flag:t:x:b-beta"] {
            assert!(!flag.matches(key.as_bytes()), "{key}");
        }
        assert_eq!(flag.render(&["t", "a:b"]).as_deref(), Some(&b"flag:t:b-a:b"[..]));
        assert_eq!(flag.render(&["t:b-u", "a"]), None, "its key is that of other values");
        assert_eq!(pattern("{x:path}").captures(b"a:b"), Some(vec![&b"a:b"[..]]));
    }

    #[test]
    fn a_key_without_a_placeholder_is_one_key() {
        let all = pattern("catalog:all");
        assert!(all.is_one_key() && !pattern("catalog:{x}").is_one_key());
        assert_eq!(all.captures(b"catalog:all"), Some(vec![]));
        assert_eq!(all.render::<&str>(&[]).as_deref(), Some(&b"catalog:all"[..]));
        assert!(!all.matches(b"catalog:all:x") && !all.matches(b"catalog:al"));
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
        assert_eq!(Pattern::parse("a:{x:uid}"), Err(PatternError::Name("x:uid".into())));
        for early in ["a:{x:path}:b", "a:{x:path}b", "{x:path}:{y}"] {
            assert_eq!(Pattern::parse(early), Err(PatternError::Path("x".into())), "{early}");
        }
        assert_eq!(Pattern::parse("a:{x}:{x}"), Err(PatternError::Twice("x".into())));
    }
}
