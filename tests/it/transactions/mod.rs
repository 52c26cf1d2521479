//! Transactions of a client: MULTI, EXEC and WATCH, what ends them, and what they cost.

mod endings;
mod exec;
mod limits;
mod losses;
mod road;
mod torn;
