//! What was read or written at the primary, for who reads standbys. Knows no statement.

use std::sync::Arc;

use super::Postgres;
use super::replicas::Replicas;
use crate::store::replica_reads::ReplicaReads;

impl Postgres {
    /// The hot standbys that keys are loaded from, where there are any.
    pub(in crate::store) const fn replicas(&self) -> Option<&Arc<Replicas>> {
        self.replicas.as_ref()
    }

    /// These keys were read or written here.
    pub(in crate::store) fn touched<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) {
        if let Some(replicas) = &self.replicas {
            replicas.touched(keys);
        }
    }

    pub(super) fn touched_all(&self) {
        self.replicas.iter().for_each(|replicas| replicas.touched_all());
    }

    pub(in crate::store) fn replica_reads(&self) -> Option<ReplicaReads> {
        Some(self.replicas.as_ref()?.told())
    }
}

/// The keys of a transaction.
#[derive(Debug)]
pub(super) struct Touched {
    replicas: Option<Arc<Replicas>>,
    keys: Vec<Vec<u8>>,
}

impl Touched {
    pub(super) const fn new(replicas: Option<Arc<Replicas>>) -> Self {
        Self { replicas, keys: Vec::new() }
    }

    /// It reads or writes this one.
    pub(super) fn add(&mut self, key: &[u8]) {
        if self.replicas.is_some() {
            self.keys.push(key.to_vec());
        }
    }
}

/// What it has read or written is told when it is over, however it ended.
impl Drop for Touched {
    fn drop(&mut self) {
        if let Some(replicas) = &self.replicas {
            replicas.touched(self.keys.iter().map(|key| &key[..]));
        }
    }
}
