//! What an engine says about a statement without running it. Knows no engine.

/// A statement's parameters, and the names of the columns that it selects.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Described {
    pub(in crate::store) parameters: Vec<Parameter>,
    pub(in crate::store) columns: Vec<String>,
}

/// A parameter of a statement.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Parameter {
    /// How it is bound; `None` where its type has more than one spelling for a value, or is not known.
    pub(in crate::store) bound: Option<Param>,
    /// The name of its type; empty where parameters have none.
    pub(in crate::store) kind: String,
}

impl Described {
    /// How the parts of a key are bound to its parameters: as text where a type has several spellings for a value.
    pub(in crate::store) fn params(self) -> Vec<Param> {
        self.parameters.into_iter().map(|parameter| parameter.bound.unwrap_or(Param::Text)).collect()
    }
}

/// How the text of a key's placeholder is bound to a statement of Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Param {
    /// An integer of so many bytes.
    Int(usize),
    /// Text as it is.
    Text,
    /// Text that the statement casts to a type.
    Cast {
        /// The type.
        to: String,
        /// What the column is cast to, of a domain: not every type's equality knows the domains over it.
        column: Option<String>,
    },
    /// A UUID in its canonical spelling.
    Uuid,
    /// A date as ISO 8601 has it.
    Date,
}
