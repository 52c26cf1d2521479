//! The unique indexes of a table, and whether they keep the rows of two keys, or two rows of one key, apart. Knows no
//! engine.

use super::requirements::{ColumnFault, unique_columns};
use crate::config::{MappingConfig, Shape};
use crate::store::StoreError;

/// A unique index, or a primary key.
#[derive(Clone, Debug)]
pub(in crate::store) struct UniqueIndex {
    pub(in crate::store) name: String,
    /// Its columns, and those of its expressions.
    pub(in crate::store) columns: Vec<String>,
    pub(in crate::store) weakness: Option<Weakness>,
    /// True of a table whose inheritance children have rows of their own, for which the index does not hold.
    pub(in crate::store) has_children: bool,
}

/// Why a unique index does not keep all rows apart at all times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Weakness {
    /// It is on some of the rows.
    Partial,
    /// It is judged when the transaction ends: others never see two rows, but `ON CONFLICT` does not take it.
    Deferrable,
    /// It could not be built.
    Invalid,
    /// Where an expression is NULL, there may be several rows.
    Expressions,
}

impl Weakness {
    const fn text(self) -> &'static str {
        match self {
            Self::Partial => "is partial",
            Self::Deferrable => "is deferrable",
            Self::Invalid => "is not valid",
            Self::Expressions => "is on expressions",
        }
    }
}

impl UniqueIndex {
    fn is_within(&self, columns: &[String]) -> bool {
        self.columns.iter().all(|column| columns.contains(column))
    }
}

/// The indexes within these columns that do not serve, each with the reason.
fn unfit(indexes: &[UniqueIndex], columns: &[String]) -> String {
    let within = indexes.iter().filter(|index| index.is_within(columns));
    within.filter_map(|index| Some(format!("; {} {}", index.name, index.weakness?.text()))).collect()
}

/// What is not certain of a mapping over a table with these unique indexes. `keys` are the key's columns.
///
/// # Errors
/// [`StoreError::Faults`] where writes could not find their row, or where a hash or string may have several.
pub(in crate::store) fn check_unique(
    block: &MappingConfig,
    keys: &[String],
    indexes: &[UniqueIndex],
) -> Result<Option<ColumnFault>, StoreError> {
    let found = match block.shape {
        _ if block.writes_table() => {
            let columns = unique_columns(block, keys);
            let on_all = |index: &&UniqueIndex| index.columns.len() == columns.len() && index.is_within(&columns);
            let mut serving = indexes.iter().filter(|index| index.weakness.is_none());
            let needs = "a mapping that writes to its table needs a unique index (or primary key) on exactly";
            let fault = || format!("{needs}: {}{}", columns.join(", "), unfit(indexes, &columns));
            serving.find(on_all).ok_or_else(|| StoreError::fault("write", fault()))?
        }
        Shape::Hash | Shape::String => best_within(indexes, keys)?,
        Shape::List | Shape::Set => return Ok(None),
    };
    let doubt = match found {
        UniqueIndex { has_children: true, name, .. } => {
            format!("{name} does not hold for the rows of the table's inheritance children")
        }
        UniqueIndex { weakness: Some(Weakness::Expressions), name, .. } => {
            format!("{name} is on expressions, and does not keep rows apart for which they are NULL")
        }
        _ => return Ok(None),
    };
    Ok(Some(("key", format!("{doubt}: a key that has several rows is an error when it is read"))))
}

/// The index that keeps the rows of every key apart, where only reads are asked for.
fn best_within<'i>(indexes: &'i [UniqueIndex], keys: &[String]) -> Result<&'i UniqueIndex, StoreError> {
    let within = || indexes.iter().filter(|index| index.is_within(keys));
    let serves = |index: &&UniqueIndex| matches!(index.weakness, None | Some(Weakness::Deferrable));
    let perhaps = |index: &&UniqueIndex| index.weakness == Some(Weakness::Expressions);
    within().find(serves).or_else(|| within().find(perhaps)).ok_or_else(|| {
        let text = format!(
            "a hash or string is one row, and several rows may have the same {}: make a unique index (or primary key) \
             on the key's columns or some of them, or write a query with LIMIT 1{}",
            keys.join(", "),
            unfit(indexes, keys)
        );
        StoreError::fault("key", text)
    })
}

#[cfg(test)]
mod tests {
    use super::{UniqueIndex, Weakness, check_unique};
    use crate::config::{SHIPPED, read};

    /// What is said of the shipped mapping of that key over a table with these indexes.
    fn told(pattern: &str, keys: &[&str], indexes: &[(&str, Option<Weakness>)]) -> String {
        let config = read("config.toml", SHIPPED, std::iter::empty()).config;
        let mut blocks = config.definitions.iter().chain(&config.caches);
        let block = blocks.find(|block| block.key == pattern).expect("a shipped mapping");
        let texts = |names: &str| names.split(' ').map(str::to_owned).collect();
        let index = |(names, weakness): &(&str, Option<Weakness>)| UniqueIndex {
            name: format!("on {names}"),
            columns: texts(names),
            weakness: *weakness,
            has_children: false,
        };
        let indexes: Vec<UniqueIndex> = indexes.iter().map(index).collect();
        match check_unique(block, &keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>(), &indexes) {
            Ok(doubt) => doubt.map(|(_, text)| text).unwrap_or_default(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_read_needs_a_unique_index_within_the_key_and_a_write_one_on_all_of_it() {
        use Weakness::{Deferrable, Expressions, Invalid, Partial};
        let read = |indexes: &[(&str, Option<Weakness>)]| told("item:{item_id}:def", &["a", "b"], indexes);
        for serving in [("a", None), ("a b", None), ("b a", None), ("b", Some(Deferrable))] {
            assert_eq!(read(&[("c", None), serving]), "", "{serving:?}");
        }
        for (other, why) in [("a c", None), ("c", None), ("a", Some(Partial)), ("a b", Some(Invalid))].map(|o| (o, o.1))
        {
            let told = read(&[other]);
            assert!(told.contains("several rows may have the same a, b"), "{other:?}: {told}");
            assert_eq!(told.contains("; on "), why.is_some(), "{told}");
        }
        assert!(read(&[("a", Some(Expressions))]).contains("for which they are NULL"));
        let write = |names: &str| told("player:{character_id:int}:session", &["a", "b"], &[(names, None)]);
        assert_eq!(write("b a"), "");
        assert!(write("a").contains("on exactly: a, b") && write("a b c").contains("on exactly"));
    }
}
