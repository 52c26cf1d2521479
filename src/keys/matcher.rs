//! All key patterns compiled into one matcher: what a key costs does not grow with the number of patterns
//! (decision 0020).
//!
//! Invariants:
//! - it finds what the patterns themselves match (`Pattern::matches`), and of several the first;
//! - its memory is in proportion to the length of the patterns.

use super::id::MappingId;
use super::pattern::{Pattern, PlaceholderKind, Segment};
use super::radix::Literals;
use crate::resp::number::parse_i64;

/// The patterns from one place of the key on: the literals that may come next, each up to a placeholder or the end of
/// the key.
#[derive(Clone, Debug, Default)]
pub(super) struct Matcher(Literals<Next>);

/// What may come behind a literal.
#[derive(Clone, Debug, Default)]
struct Next {
    /// The end of the key, if a pattern ends here.
    end: Option<MappingId>,
    /// A placeholder: the literals that may stand between its text and the next `:`, in reverse.
    suffixes: Option<Box<Literals<Behind>>>,
}

/// What may come behind a placeholder and its suffix, by the placeholder's kind: the end of the key, or `:` and more.
#[derive(Clone, Debug, Default)]
struct Behind {
    text: Option<Matcher>,
    int: Option<Matcher>,
}

impl Matcher {
    /// A matcher of these patterns; a mapping's number is its place among them.
    pub(super) fn new(patterns: &[Pattern]) -> Self {
        let mut matcher = Self::default();
        for (i, pattern) in patterns.iter().enumerate() {
            matcher.add(MappingId::new(i), pattern);
        }
        matcher
    }

    fn add(&mut self, id: MappingId, pattern: &Pattern) {
        let (segments, end) = pattern.segments();
        let last = segments.iter().fold(self, |matcher, segment| matcher.behind(segment));
        last.0.entry(end.as_bytes()).end.get_or_insert(id);
    }

    /// The matcher of what comes behind `segment`, which is added if it is not there.
    fn behind(&mut self, segment: &Segment<'_>) -> &mut Self {
        let suffixes = self.0.entry(segment.literal.as_bytes()).suffixes.get_or_insert_default();
        let reversed: Vec<u8> = segment.suffix.bytes().rev().collect();
        let behind = suffixes.entry(&reversed);
        let matcher = match segment.kind {
            PlaceholderKind::Text => &mut behind.text,
            PlaceholderKind::Int => &mut behind.int,
        };
        matcher.get_or_insert_default()
    }

    /// The first mapping whose pattern matches `key`, from here on.
    pub(super) fn owner(&self, key: &[u8]) -> Option<MappingId> {
        let (mut at, mut rest, mut found) = (&self.0, key, None);
        loop {
            found = first(found, at.value().owner(rest));
            match at.forward(rest) {
                Some(next) => (at, rest) = next,
                None => return found,
            }
        }
    }
}

impl Next {
    #[inline]
    fn owner(&self, rest: &[u8]) -> Option<MappingId> {
        match &self.suffixes {
            _ if rest.is_empty() => self.end,
            Some(suffixes) => Behind::owner(suffixes, rest),
            None => None,
        }
    }
}

impl Behind {
    /// The owner of a key that goes on with a placeholder's text and one of these suffixes.
    fn owner(suffixes: &Literals<Self>, rest: &[u8]) -> Option<MappingId> {
        let (part, behind) = rest.split_at(memchr::memchr(b':', rest).unwrap_or(rest.len()));
        let (mut at, mut text, mut found) = (suffixes, part, None);
        loop {
            if let Some(matcher) = at.value().text.as_ref().filter(|_| !text.is_empty()) {
                found = first(found, matcher.owner(behind));
            }
            if let Some(matcher) = at.value().int.as_ref().filter(|_| parse_i64(text).is_some()) {
                found = first(found, matcher.owner(behind));
            }
            match at.backward(text) {
                Some(next) => (at, text) = next,
                None => return found,
            }
        }
    }
}

/// Of two patterns that match, the first in the configuration's order.
#[inline]
fn first(one: Option<MappingId>, other: Option<MappingId>) -> Option<MappingId> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}
