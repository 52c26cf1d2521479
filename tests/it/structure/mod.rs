//! The source and the documents, read as text: what is said of them is so.

mod architecture;
mod code;
mod documents;
mod error_texts;
mod operators_document;
mod shape;
pub mod texts;
