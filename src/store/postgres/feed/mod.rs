//! What Postgres says of its changes, as [`Change`](crate::store::Change): `notify` listens for what triggers send. Who
//! takes the changes cannot see by which feed they came.

pub(super) mod notify;
