//! Who may connect, and what each user may do.

mod browsers;
mod deleted;
mod refusals;
mod revoked;
mod tls;
mod users;
