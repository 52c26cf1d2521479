//! The wire: how requests are read, in pieces and damaged ones too, and that replies come back in order.

mod command_answers;
mod command_table;
mod malformed;
mod pipeline;
mod requests;
mod scanners;
mod slots;
mod transcripts;
