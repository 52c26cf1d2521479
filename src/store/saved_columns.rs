//! The columns that deferred writes go to, saved as text: a sidecar that starts while its store cannot be reached
//! refuses the same values as one that runs. Knows no engine, nor where the text is kept.

use serde::{Deserialize, Serialize};

use super::Plan;
use super::catalog::relation::{Column, Surety, quote};
use super::catalog::target::{Expires, Target};
use super::plan::KeySource;
use crate::config::MappingConfig;
use crate::mapping::Mapping;

#[derive(Serialize, Deserialize)]
struct Known {
    /// The block that they were read for: for another one they say nothing.
    block: String,
    columns: Vec<Column>,
    overflow: Option<Column>,
    #[serde(default)]
    others: Vec<String>,
    /// As [`Expires::is_required`].
    #[serde(default)]
    must_end: bool,
}

/// A block, whatever its place in the file.
fn name_of(block: &MappingConfig) -> String {
    format!("{:?}", MappingConfig { path: String::new(), ..block.clone() })
}

impl Plan {
    /// The columns of a mapping that takes writes, as text; `None` for one that takes none.
    #[must_use]
    pub fn columns(&self) -> Option<String> {
        let target = self.target.as_ref()?;
        let (columns, overflow, others) = (target.columns.clone(), target.overflow.clone(), target.others.clone());
        let (block, must_end) = (name_of(&self.mapping.config), self.must_end());
        serde_json::to_string(&Known { block, columns, overflow, others, must_end }).ok()
    }

    /// A plan that can do nothing but [`Plan::check`], by the columns of [`Plan::columns`]; `None` where those are of
    /// another block, or no such text.
    #[must_use]
    pub fn from_saved_columns(mapping: &Mapping, columns: &str) -> Option<Self> {
        let known: Known = serde_json::from_str(columns).ok()?;
        if known.block != name_of(&mapping.config) {
            return None;
        }
        let Known { columns, overflow, others, must_end, .. } = known;
        let expires = mapping.config.expires_column.as_deref().map(|column| Expires {
            column: quote(column),
            zone: None,
            surety: Surety::Doubted,
            is_required: must_end,
        });
        let target = Target { columns, overflow, others, expires, ..Target::default() };
        Some(Self { target: Some(target), ..Self::new(mapping, KeySource::Bound) })
    }
}

#[cfg(test)]
mod tests {
    use super::{KeySource, Plan};
    use crate::config::{Config, Faults, Shape};
    use crate::mapping::{Mapping, Mappings};
    use crate::store::catalog::relation::{Column, Holds, Relation};
    use crate::store::catalog::target::Target;

    fn mapping(table: &str) -> Mapping {
        let text = format!(
            "[[caches]]\nkey = \"a:{{id}}\"\ntype = \"hash\"\ntable = \"{table}\"\nwrite = \"deferred\"\nttl = \"1m\"\n"
        );
        let config: Config = crate::config::read("test", &text, std::iter::empty()).config;
        let mapping = Mappings::compile(&config, &mut Faults::default()).list.remove(0);
        assert_eq!(mapping.config.shape, Shape::Hash);
        mapping
    }

    #[test]
    fn columns_are_remembered_for_the_same_block_only() {
        let mapping_of_then = mapping("t");
        let hp = Column::new("hp".into(), "int4".into(), Holds::Integers);
        let table = Relation::new("t".into(), vec![hp]);
        let target = Target::of(&mapping_of_then, &table, String::new());
        let plan = Plan { target: Some(target), ..Plan::new(&mapping_of_then, KeySource::Extra) };
        let text = plan.columns().expect("it takes writes");
        let again = Plan::from_saved_columns(&mapping("t"), &text).expect("the same block");
        assert_eq!(again.check(b"hp", b"7"), Ok(()));
        assert!(again.check(b"hp", b"seven").is_err());
        assert!(again.check(b"nosuch", b"7").is_err());
        assert!(Plan::from_saved_columns(&mapping("other"), &text).is_none());
        assert!(Plan::from_saved_columns(&mapping("t"), "nonsense").is_none());
    }
}
