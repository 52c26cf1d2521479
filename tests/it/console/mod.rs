//! The console of the admin port, in a real Chromium.

mod acts;
mod appearance;
mod drafts;
mod looks;
mod mapping;
mod modes;
mod page;
mod troubles;
