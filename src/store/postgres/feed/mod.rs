//! The change feeds of Postgres, which report [`Change`](crate::store::Change)s: `notify` listens for what triggers
//! send. Another feed is another file here; what receives the changes does not know which feed reported them.

mod next_notice;
pub(super) mod notify;
