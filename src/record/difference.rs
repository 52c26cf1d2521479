//! In what two values of one key differ. Pure.

use crate::config::Shape;

use super::Record;

/// A number of so many digits is kept as it is.
const EXACT_DIGITS: usize = 15;

/// Longer texts are not looked into.
const LONGEST_JSON: usize = 1 << 20;

/// One field, element or member that differs; the value of a string has no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference<'r> {
    /// The field or member, or the place of an element in its list.
    pub name: String,
    /// What the first has there, if anything.
    pub first: Option<&'r [u8]>,
    /// What the second has there, if anything.
    pub second: Option<&'r [u8]>,
}

impl Difference<'_> {
    /// Where it is: of a hash the field's name, of the others what it is, because a name would say what it holds.
    #[must_use]
    pub fn place(&self, shape: Shape) -> String {
        match shape {
            Shape::Hash => self.name.clone(),
            Shape::List => "(element)".to_owned(),
            Shape::Set => "(member)".to_owned(),
            Shape::String => "(value)".to_owned(),
        }
    }

    /// What differs, without a value: the first is the upstream's, the second the store's.
    #[must_use]
    pub fn words(&self) -> String {
        match (self.first, self.second) {
            (Some(theirs), Some(ours)) if are_same_json(theirs, ours) => format!(
                "equal as JSON, and written otherwise: the upstream has {} bytes, the store {}",
                theirs.len(),
                ours.len()
            ),
            (Some(theirs), Some(ours)) => {
                format!("the upstream has {} bytes, the store {}, and they differ", theirs.len(), ours.len())
            }
            (Some(theirs), None) => format!("the upstream has it ({} bytes), the store has not", theirs.len()),
            (None, Some(ours)) => format!("the store has it ({} bytes), the upstream has not", ours.len()),
            (None, None) => String::new(),
        }
    }
}

/// True of two objects or arrays that hold the same, whatever their white space and the order of members. Where a
/// number is too long for a parser to keep all of it, they are not said to be the same.
fn are_same_json(first: &[u8], second: &[u8]) -> bool {
    let is_exact = |text: &[u8]| !text.split(|byte| !byte.is_ascii_digit()).any(|digits| digits.len() > EXACT_DIGITS);
    let holds_values = |text: &[u8]| matches!(text.trim_ascii_start().first(), Some(b'{' | b'['));
    let is_looked_at = |text: &[u8]| holds_values(text) && text.len() <= LONGEST_JSON && is_exact(text);
    if !is_looked_at(first) || !is_looked_at(second) {
        return false;
    }
    let parsed = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).ok();
    parsed(first).is_some_and(|first| parsed(second) == Some(first))
}

impl Record {
    /// Where two values of one key differ. One that is not there has nothing.
    #[must_use]
    pub fn differences<'r>(first: Option<&'r Self>, second: Option<&'r Self>) -> Vec<Difference<'r>> {
        let of = |record: Option<&'r Self>, name: &[u8], at: usize| record.and_then(|record| record.part(name, at));
        let parts = |record: Option<&'r Self>| record.map_or(0, Self::len);
        let named = |record: &'r Self, at: usize| (record.part_name(at), record.name(at), at);
        let firsts = first.into_iter().flat_map(|record| (0..record.len()).map(move |at| named(record, at)));
        let is_new = |(_, name, at): &(String, &[u8], usize)| of(first, name, *at).is_none();
        let news = second.into_iter().flat_map(|record| (0..parts(second)).map(move |at| named(record, at)));
        let all = firsts.chain(news.filter(is_new));
        let found = all.map(|(shown, name, at)| Difference {
            name: shown,
            first: of(first, name, at),
            second: of(second, name, at),
        });
        found.filter(|difference| difference.first != difference.second).collect()
    }

    /// The fields of a hash with their values, members of a set, elements of a list, or a string's value, as they are
    /// shown.
    pub fn parts(&self) -> impl Iterator<Item = (String, &[u8])> {
        (0..self.len()).filter_map(|at| Some((self.part_name(at), self.part(self.name(at), at)?)))
    }

    /// The same with the fields' names as they are; a name means nothing where there are none.
    pub fn named_parts(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        (0..self.len()).filter_map(|at| Some((self.name(at), self.part(self.name(at), at)?)))
    }

    fn part_name(&self, at: usize) -> String {
        match self.shape {
            Shape::Hash | Shape::Set => String::from_utf8_lossy(self.name(at)).into_owned(),
            Shape::List => at.to_string(),
            Shape::String => String::new(),
        }
    }

    /// What is under a name, or at a place where names mean nothing.
    fn part(&self, name: &[u8], at: usize) -> Option<&[u8]> {
        match self.shape {
            Shape::Hash => self.find(name).map(|i| self.text(i * 2 + 1)),
            Shape::Set => self.find(name).map(|i| self.text(i)),
            Shape::List | Shape::String => (at < self.len()).then(|| self.text(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Record;

    fn told(first: Option<&Record>, second: Option<&Record>) -> Vec<(String, String, String)> {
        let text = |bytes: Option<&[u8]>| bytes.map_or("-".into(), |bytes| String::from_utf8_lossy(bytes).into_owned());
        let differences = Record::differences(first, second);
        differences.into_iter().map(|it| (it.name, text(it.first), text(it.second))).collect()
    }

    fn expected(texts: &[[&str; 3]]) -> Vec<(String, String, String)> {
        texts.iter().map(|[a, b, c]| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect()
    }

    #[test]
    fn json_that_is_written_otherwise_is_told_apart() {
        for (first, second, is_same) in [
            (r#"{"a": 1, "b": [1, 2]}"#, r#"{"b":[1,2],"a":1}"#, true),
            (r#"{"a":1}"#, r#"{"a":2}"#, false),
            (r#"[1,2]"#, r#"[2,1]"#, false),
            (r#" {}"#, r#"{ }"#, true),
            ("1.50", "1.5", false),
            (r#"{"a":12345678901234567890123}"#, r#"{"a": 12345678901234567890124}"#, false),
            (r#"{"a":1"#, r#"{"a": 1"#, false),
        ] {
            let [theirs, ours] = [first, second].map(|text| Record::string(text.as_bytes()).expect("a record"));
            let differences = Record::differences(Some(&theirs), Some(&ours));
            assert_eq!(differences[0].words().starts_with("equal as JSON"), is_same, "{first} {second}");
        }
    }

    #[test]
    fn fields_members_elements_and_strings_are_told_where_they_differ() {
        let hash = |pairs: &[(&str, &str)]| Record::hash(pairs).expect("a record");
        let (a, b) = (hash(&[("x", "1"), ("y", "2"), ("z", "3")]), hash(&[("z", "4"), ("y", "2"), ("w", "5")]));
        assert_eq!(told(Some(&a), Some(&b)), expected(&[["x", "1", "-"], ["z", "3", "4"], ["w", "-", "5"]]));
        assert_eq!(told(Some(&a), Some(&a)), []);
        let set = |members: &[&str]| Record::set(members).expect("a record");
        assert_eq!(told(Some(&set(&["a", "b"])), Some(&set(&["b"]))), expected(&[["a", "a", "-"]]));
        let list = |elements: &[&str]| Record::list(elements).expect("a record");
        let (short, long) = (list(&["a", "b"]), list(&["a", "c", "d"]));
        assert_eq!(told(Some(&short), Some(&long)), expected(&[["1", "b", "c"], ["2", "-", "d"]]));
        let string = Record::string(b"v").expect("a record");
        assert_eq!(told(Some(&string), None), expected(&[["", "v", "-"]]));
        assert_eq!(a.parts().map(|(name, _)| name).collect::<Vec<_>>(), ["x", "y", "z"]);
    }
}
