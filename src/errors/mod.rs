//! Everything that a client is told in an error: one text for each, in one place. Pure: plain values in, a text out.
//!
//! An error of the sidecar's own says what happened, to which mapping or upstream, and names the setting that changes
//! it; its row in docs/OPERATIONS.md says what to do. Redis's own errors are in [`as_redis`], to the byte. Each error
//! begins with the code that client libraries look at: `LOADING` only where nothing of the command was done and it is
//! safe to send it again.
//!
//! What the store or the journal gives as a reason, and the log too, is in their own `error.rs`; here are the texts
//! that it follows. Nothing here is built where a request goes well.

pub mod as_redis;
pub mod connection;
pub mod denied;
pub mod fallback;
pub mod hearthside;
pub mod limits;
pub mod owned;
pub mod protocol;
pub mod store_words;
pub mod transaction;
pub mod upstream;
