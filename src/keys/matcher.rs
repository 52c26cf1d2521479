//! All key patterns compiled into one matcher: what a key costs does not grow with the number of patterns
//! (decision 0020).
//!
//! Invariants:
//! - it finds what the patterns themselves match (`Pattern::matches`), and of several the first in the order given;
//! - its memory is in proportion to the length of the patterns.

use super::id::MappingId;
use super::pattern::{Pattern, Segment};
use super::placeholder::PlaceholderKind;
use super::radix::Literals;

/// The patterns from one place of the key on: the literals that may come next, each up to a placeholder or the end of
/// the key.
#[derive(Clone, Debug, Default)]
pub(super) struct Matcher(Literals<Next>);

/// What may come behind a literal.
#[derive(Clone, Debug, Default)]
struct Next {
    /// The end of the key, if a pattern ends here.
    end: Option<MappingId>,
    /// A path, which is the rest of the key.
    path: Option<MappingId>,
    /// A placeholder: the literals that may stand between its text and the next `:`, in reverse.
    suffixes: Option<Box<Literals<Behind>>>,
}

/// What may come behind a placeholder and its suffix, by the placeholder's kind: the end of the key, or `:` and more.
/// There are few kinds, and mostly one.
#[derive(Clone, Debug, Default)]
struct Behind(Vec<(PlaceholderKind, Matcher)>);

impl Matcher {
    /// A matcher of these patterns; a number is a place among them.
    pub(super) fn new<'p>(patterns: impl IntoIterator<Item = &'p Pattern>) -> Self {
        let mut matcher = Self::default();
        for (i, pattern) in patterns.into_iter().enumerate() {
            matcher.add(MappingId::new(i), pattern);
        }
        matcher
    }

    fn add(&mut self, id: MappingId, pattern: &Pattern) {
        let (mut segments, end) = pattern.segments();
        if let Some(path) = segments.pop_if(|segment| segment.kind == PlaceholderKind::Path) {
            let before = segments.iter().fold(self, |matcher, segment| matcher.behind(segment));
            before.0.entry(path.literal.as_bytes()).path.get_or_insert(id);
            return;
        }
        let last = segments.iter().fold(self, |matcher, segment| matcher.behind(segment));
        last.0.entry(end.as_bytes()).end.get_or_insert(id);
    }

    /// The matcher of what comes behind `segment`, which is added if it is not there.
    fn behind(&mut self, segment: &Segment<'_>) -> &mut Self {
        let suffixes = self.0.entry(segment.literal.as_bytes()).suffixes.get_or_insert_default();
        let reversed: Vec<u8> = segment.suffix.bytes().rev().collect();
        let Behind(kinds) = suffixes.entry(&reversed);
        let at = kinds.iter().position(|(kind, _)| *kind == segment.kind).unwrap_or_else(|| {
            kinds.push((segment.kind, Self::default()));
            kinds.len() - 1
        });
        &mut kinds[at].1
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
            Some(suffixes) => first(self.path, Behind::owner(suffixes, rest)),
            None => self.path,
        }
    }
}

impl Behind {
    /// The owner of a key that goes on with a placeholder's text and one of these suffixes.
    fn owner(suffixes: &Literals<Self>, rest: &[u8]) -> Option<MappingId> {
        let (part, behind) = rest.split_at(memchr::memchr(b':', rest).unwrap_or(rest.len()));
        let (mut at, mut text, mut found) = (suffixes, part, None);
        loop {
            let Self(kinds) = at.value();
            for (_, matcher) in kinds.iter().filter(|(kind, _)| kind.accepts(text)) {
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
