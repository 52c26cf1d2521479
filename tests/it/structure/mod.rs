//! The source and the documents, read as text: what is said of them is so.

mod architecture;
mod documents;
