//! The keyspace: the patterns of all mappings as one, and which mapping owns a key.

use std::collections::HashMap;

use super::globs::globs_meet;
use super::id::MappingId;
use super::matcher::Matcher;
use super::pattern::Pattern;

/// The patterns of all mappings. Of those that match a key the most specific wins, and among others the first in the
/// order of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Keyspace {
    patterns: Vec<Pattern>,
    /// Of the patterns in the order in which they win.
    matcher: Matcher,
    /// The mappings in that order; empty where it is the order of the configuration.
    order: Vec<MappingId>,
    /// The patterns as they are written.
    by_text: HashMap<String, MappingId>,
}

impl Keyspace {
    /// A keyspace of these patterns; a mapping's number is its place in the list.
    #[must_use]
    pub fn new(patterns: Vec<Pattern>) -> Self {
        let mut by_text = HashMap::new();
        for (i, pattern) in patterns.iter().enumerate() {
            by_text.entry(pattern.text().to_owned()).or_insert(MappingId::new(i));
        }
        let order = order(&patterns);
        let matcher = match order.is_empty() {
            true => Matcher::new(&patterns),
            false => Matcher::new(order.iter().map(|id| &patterns[id.index()])),
        };
        Self { matcher, patterns, order, by_text }
    }

    /// The mapping that owns `key`; `None` for a pass-through key.
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> Option<MappingId> {
        let place = self.matcher.owner(key)?;
        if self.order.is_empty() { Some(place) } else { self.order.get(place.index()).copied() }
    }

    /// A mapping whose keys SORT may look up by `pattern`, among those that `is_meant`.
    #[must_use]
    pub fn looked_up(&self, pattern: &[u8], is_meant: impl Fn(MappingId) -> bool) -> Option<MappingId> {
        let keys = Pattern::of_sort(pattern)?;
        let mut overlapping =
            (0..self.patterns.len()).filter(|at| self.patterns[*at].overlaps(&keys)).map(MappingId::new);
        overlapping.find(|mapping| is_meant(*mapping))
    }

    /// A mapping that may own a key which `glob` matches: what a placeholder takes is not looked at.
    #[must_use]
    pub fn met_by(&self, glob: &[u8]) -> Option<MappingId> {
        let met = self.patterns.iter().position(|pattern| globs_meet(pattern.as_glob().as_bytes(), glob));
        met.map(MappingId::new)
    }

    /// True when every key is a pass-through key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The pattern of a mapping.
    #[must_use]
    pub fn pattern(&self, id: MappingId) -> &Pattern {
        &self.patterns[id.index()]
    }

    /// The mapping whose pattern is written like this.
    #[must_use]
    pub fn find(&self, pattern: &str) -> Option<MappingId> {
        self.by_text.get(pattern).copied()
    }

    /// Every pair of patterns that can match one key, neither of which is the more specific one.
    #[must_use]
    pub fn conflicts(&self) -> Vec<(MappingId, MappingId)> {
        let pairs = |a: usize| (a + 1..self.patterns.len()).map(move |b| (a, b));
        (0..self.patterns.len())
            .flat_map(pairs)
            .filter(|&(a, b)| self.patterns[a].conflicts(&self.patterns[b]))
            .map(|(a, b)| (MappingId::new(a), MappingId::new(b)))
            .collect()
    }
}

/// The patterns in the order in which they win; nothing where that is their own order. What goes before one pattern
/// goes before all that this one goes before: so it goes before more of them.
fn order(patterns: &[Pattern]) -> Vec<MappingId> {
    if !patterns.iter().any(|pattern| pattern.is_one_key() || pattern.has_path()) {
        return Vec::new();
    }
    let wider = |one: &Pattern| patterns.iter().filter(|other| one.goes_before(other)).count();
    let wider: Vec<usize> = patterns.iter().map(wider).collect();
    let mut order: Vec<MappingId> = (0..patterns.len()).map(MappingId::new).collect();
    order.sort_by_key(|id| std::cmp::Reverse(wider[id.index()]));
    order
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{Just, ProptestConfig, Strategy, any};
    use proptest::sample::{Index, select};
    use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::{Keyspace, MappingId, Pattern};

    /// What the patterns match, asked one after the other: the first of those that go before the most others.
    fn one_by_one(patterns: &[Pattern], key: &[u8]) -> Option<MappingId> {
        let before = |one: &Pattern| patterns.iter().filter(|other| one.goes_before(other)).count();
        let matching = patterns.iter().enumerate().filter(|(_, pattern)| pattern.matches(key));
        let (at, _) = matching.min_by_key(|(at, pattern)| (std::cmp::Reverse(before(pattern)), *at))?;
        Some(MappingId::new(at))
    }

    /// Few literals, most of which begin or end like others, so that patterns share what a matcher keeps once.
    fn literal() -> impl Strategy<Value = &'static str> {
        select(vec![
            "", "", "a", "ab", "ba", "b", "1", "-", "-1", "1-a", "a-1", "player", "play", "\u{e4}", "\u{e4}b", "\0",
        ])
    }

    /// A part between two colons; `@` stands for a placeholder's name.
    fn part() -> impl Strategy<Value = String> {
        let placeholder = select(vec!["", "", "{@}", "{@:int}", "{@:uuid}", "{@:date}"]);
        (literal(), placeholder, literal())
            .prop_map(|(prefix, placeholder, suffix)| format!("{prefix}{placeholder}{suffix}"))
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        let end = proptest::option::weighted(0.2, literal());
        let text = (vec(part(), 1..5), end).prop_map(|(parts, path)| {
            let path = path.map(|prefix| format!("{prefix}{{@:path}}"));
            let named = parts.iter().chain(&path).enumerate().map(|(i, part)| part.replace('@', &format!("p{i}")));
            named.collect::<Vec<_>>().join(":")
        });
        text.prop_filter_map("an empty pattern", |text| Pattern::parse(&text).ok())
    }

    /// What stands where a placeholder is: also what none accepts, and bytes that are no text.
    fn value() -> impl Strategy<Value = Vec<u8>> {
        let known = [
            "",
            "a",
            "ab",
            "b",
            "7",
            "0",
            "-7",
            "1-a",
            "007",
            "-0",
            "-",
            "9223372036854775808",
            "a:b",
            ":",
            "\u{e4}",
            "0b6ef1c6-7ac9-4e5c-a9b7-0d5b9d0a7a11",
            "0B6EF1C6-7AC9-4E5C-A9B7-0D5B9D0A7A11",
            "2026-11-28",
            "2026-02-30",
        ];
        let known = select(known.map(|text| text.as_bytes().to_vec()).to_vec());
        prop_oneof![4 => known, 1 => Just(b"\xff\0".to_vec()), 1 => vec(any::<u8>(), 0..4)]
    }

    /// A key of one of the patterns, or nearly one: values in the places of its placeholders, then perhaps one byte
    /// that is changed, removed or added.
    #[derive(Clone, Debug)]
    struct Draft {
        of: Index,
        values: Vec<Vec<u8>>,
        change: Option<(Index, Option<u8>, bool)>,
    }

    impl Draft {
        fn key(&self, patterns: &[Pattern]) -> Vec<u8> {
            let (literals, _) = self.of.get(patterns).pieces();
            let mut key = Vec::new();
            for (i, literal) in literals.iter().enumerate() {
                if i > 0 {
                    key.extend_from_slice(&self.values[i - 1]);
                }
                key.extend_from_slice(literal.as_bytes());
            }
            if let Some((at, byte, takes)) = &self.change {
                let at = at.index(key.len() + 1);
                key.splice(at..(at + usize::from(*takes)).min(key.len()), *byte);
            }
            key
        }
    }

    fn draft() -> impl Strategy<Value = Draft> {
        let byte = proptest::option::of(prop_oneof![Just(b':'), Just(b'a'), Just(b'1'), any::<u8>()]);
        let change = proptest::option::of((any::<Index>(), byte, any::<bool>()));
        (any::<Index>(), vec(value(), 5), change).prop_map(|(of, values, change)| Draft { of, values, change })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

        #[test]
        fn a_key_belongs_to_the_first_pattern_that_matches_it(
            patterns in vec(pattern(), 1..12),
            drafts in vec(draft(), 20),
            other in vec(any::<u8>(), 0..12),
        ) {
            let keyspace = Keyspace::new(patterns.clone());
            for key in drafts.iter().map(|draft| draft.key(&patterns)).chain([other]) {
                prop_assert_eq!(keyspace.owner(&key), one_by_one(&patterns, &key), "{}", key.escape_ascii());
            }
        }

        /// As in every configuration that is served: patterns in conflict are refused. The others that match a key are
        /// less specific.
        #[test]
        fn a_key_belongs_to_the_most_specific_pattern_that_matches_it(
            patterns in vec(pattern(), 1..12),
            drafts in vec(draft(), 20),
        ) {
            let mut apart: Vec<Pattern> = Vec::new();
            for pattern in patterns {
                if !apart.iter().any(|other| other.conflicts(&pattern)) {
                    apart.push(pattern);
                }
            }
            let keyspace = Keyspace::new(apart.clone());
            for key in drafts.iter().map(|draft| draft.key(&apart)) {
                let owner = keyspace.owner(&key);
                prop_assert_eq!(owner, one_by_one(&apart, &key), "{}", key.escape_ascii());
                for other in apart.iter().filter(|pattern| pattern.matches(&key)) {
                    let owner = keyspace.pattern(owner.expect("one that matches"));
                    prop_assert!(owner == other || owner.goes_before(other), "{} {}", owner.text(), other.text());
                }
            }
        }

        #[test]
        fn what_a_key_holds_makes_the_key_again(pattern in pattern(), draft in draft()) {
            let key = draft.key(std::slice::from_ref(&pattern));
            if let Some(values) = pattern.captures(&key) {
                prop_assert_eq!(pattern.render(&values), Some(key));
            }
            let values = &draft.values[..pattern.placeholders().count()];
            if let Some(key) = pattern.render(values) {
                let found = pattern.captures(&key).unwrap_or_default();
                prop_assert!(found.into_iter().eq(values.iter().map(Vec::as_slice)), "{}", key.escape_ascii());
            }
        }
    }

    #[test]
    fn many_patterns_of_one_prefix_are_told_apart() {
        for form in ["player:{id}:d#", "player:{id:int}:d#", "{id}-d#", "d#-{id}", "a:{x}:{y}-d#:b", "d#:{x}"] {
            let texts: Vec<String> = (0..400).map(|i| form.replace('#', &i.to_string())).collect();
            let patterns: Vec<Pattern> = texts.iter().map(|text| Pattern::parse(text).expect(text)).collect();
            let keyspace = Keyspace::new(patterns.clone());
            for (i, pattern) in patterns.iter().enumerate() {
                let key = pattern.render(&["7", "8"]).expect("a key");
                assert_eq!(keyspace.owner(&key), Some(MappingId::new(i)), "{}", key.escape_ascii());
                assert_eq!(keyspace.find(&texts[i]), Some(MappingId::new(i)));
                assert_eq!(keyspace.owner(&[&key[..], b":x"].concat()), None);
            }
        }
    }
}
