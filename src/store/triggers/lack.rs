//! What is missing on a table, rights or triggers, and which mappings miss it.

/// What is missing on one table, and whom it concerns.
#[derive(Debug)]
pub struct Lack {
    /// A line that says it.
    pub text: String,
    /// The mappings that miss it, by their positions in the list that was asked about, in order.
    pub mappings: Vec<usize>,
}

/// Adds a mapping to those that a line concerns.
pub(in crate::store) fn note(lacks: &mut Vec<Lack>, text: String, mapping: usize) {
    match lacks.iter_mut().find(|lack| lack.text == text) {
        Some(lack) => {
            if let Err(at) = lack.mappings.binary_search(&mapping) {
                lack.mappings.insert(at, mapping);
            }
        }
        None => lacks.push(Lack { text, mappings: vec![mapping] }),
    }
}
