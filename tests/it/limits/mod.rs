//! Limits: what one client and all of them together may cost.

mod bounds;
mod crowd;
mod gathered;
mod memory;
mod quotas;
mod spare;
