//! A radix tree: the literals of many patterns, stored once where they begin alike. To look a text up costs a step for
//! each place where literals part, however many literals there are. Pure; knows nothing of patterns.
//! Source: <https://en.wikipedia.org/wiki/Radix_tree>

/// A set of literals, each with a value.
#[derive(Clone, Debug, Default)]
pub(super) struct Literals<T> {
    /// What a text must have here, behind what the branches above have taken.
    label: Box<[u8]>,
    /// The value of the literal that ends here; the default where none does.
    value: T,
    /// The first byte of each branch's label, in the order of the branches; no two are the same.
    firsts: Vec<u8>,
    branches: Vec<Self>,
}

impl<T: Default> Literals<T> {
    /// The value of `literal`, which is added if it is not there.
    pub(super) fn entry(&mut self, literal: &[u8]) -> &mut T {
        let Some(first) = literal.first() else { return &mut self.value };
        let at = self.place(*first).unwrap_or_else(|| {
            self.firsts.push(*first);
            self.branches.push(Self { label: literal.into(), ..Self::default() });
            self.branches.len() - 1
        });
        let branch = &mut self.branches[at];
        let common = branch.label.iter().zip(literal).take_while(|(a, b)| a == b).count();
        if common < branch.label.len() {
            branch.split(common);
        }
        branch.entry(&literal[common..])
    }

    /// Leaves the first `length` bytes of the label here, and everything else one branch below.
    fn split(&mut self, length: usize) {
        let mut below = std::mem::take(self);
        let (above, rest) = below.label.split_at(length);
        (self.label, self.firsts, below.label) = (above.into(), rest[..1].into(), rest.into());
        self.branches.push(below);
    }
}

impl<T> Literals<T> {
    /// The value of the literal that ends here; the default where none does.
    #[inline]
    pub(super) const fn value(&self) -> &T {
        &self.value
    }

    /// The branch that `text` goes on with, and what of `text` is behind it.
    #[inline]
    pub(super) fn forward<'t>(&self, text: &'t [u8]) -> Option<(&Self, &'t [u8])> {
        let branch = self.branch(text.first())?;
        let (label, behind) = text.split_at_checked(branch.label.len())?;
        is_same(label, &branch.label).then_some((branch, behind))
    }

    /// The same from the end of `text`, for literals that have been added in reverse, with the part of `text` that is
    /// before the branch.
    #[inline]
    pub(super) fn backward<'t>(&self, text: &'t [u8]) -> Option<(&Self, &'t [u8])> {
        let branch = self.branch(text.last())?;
        let (before, end) = text.split_at(text.len().checked_sub(branch.label.len())?);
        end.iter().rev().eq(&*branch.label).then_some((branch, before))
    }

    #[inline]
    fn branch(&self, first: Option<&u8>) -> Option<&Self> {
        self.place(*first?).map(|at| &self.branches[at])
    }

    #[inline]
    fn place(&self, first: u8) -> Option<usize> {
        self.firsts.iter().position(|byte| *byte == first)
    }
}

/// True for equal texts of one length. Labels are short: to compare eight bytes in one step here costs less than to
/// call a comparison of strings.
#[inline]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let ((words, rest), (other_words, other_rest)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    words.iter().zip(other_words).all(|(a, b)| a == b) && rest.iter().zip(other_rest).all(|(a, b)| a == b)
}

#[cfg(test)]
mod tests {
    use super::Literals;

    fn literals(all: &[&str], reverse: bool) -> Literals<Option<String>> {
        let mut literals = Literals::default();
        for literal in all {
            let mut bytes = literal.as_bytes().to_vec();
            if reverse {
                bytes.reverse();
            }
            *literals.entry(&bytes) = Some((*literal).to_owned());
        }
        literals
    }

    type Step<'t> = fn(&'t Literals<Option<String>>, &'t [u8]) -> Option<(&'t Literals<Option<String>>, &'t [u8])>;

    /// The literals on the way, and the rest of the text at each.
    fn way<'t>(literals: &'t Literals<Option<String>>, text: &'t str, step: Step<'t>) -> Vec<(&'t str, &'t str)> {
        let steps = std::iter::successors(Some((literals, text.as_bytes())), |(at, rest)| step(at, rest));
        let shown = |rest| std::str::from_utf8(rest).expect("text");
        steps.filter_map(|(at, rest)| Some((at.value().as_deref()?, shown(rest)))).collect()
    }

    #[test]
    fn every_literal_that_a_text_begins_with_is_on_its_way() {
        let literals = literals(&["player:", "play", "", "planet", "place", "play:x"], false);
        let of = |text: &'static str| way(&literals, text, Literals::forward);
        assert_eq!(of("player:7"), [("", "player:7"), ("play", "er:7"), ("player:", "7")]);
        assert_eq!(of("plan"), [("", "plan")]);
        assert_eq!(of("planet"), [("", "planet"), ("planet", "")]);
        assert_eq!(of(""), [("", "")]);
    }

    fn nodes<T>(of: &Literals<T>) -> usize {
        1 + of.branches.iter().map(nodes).sum::<usize>()
    }

    #[test]
    fn a_literal_takes_two_nodes_at_most() {
        let names: Vec<String> = (0..400).map(|i| format!("player:{}:d{i}", i % 7)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for count in 0..=names.len() {
            assert!(nodes(&literals(&names[..count], false)) <= 1 + 2 * count, "{count}");
        }
    }

    #[test]
    fn every_literal_that_a_text_ends_with_is_on_its_way_back() {
        let literals = literals(&[".html", ".xhtml", "l", ".htm"], true);
        let of = |text: &'static str| way(&literals, text, Literals::backward);
        assert_eq!(of("a.html"), [("l", "a.htm"), (".html", "a")]);
        assert_eq!(of("html"), [("l", "htm")]);
        assert_eq!(of("a.xhtml"), [("l", "a.xhtm"), (".xhtml", "a")]);
        assert!(of("x").is_empty());
    }
}
