//! Brings what was written through the sidecar to the upstream, of mappings with `mirror = true`: who switches such a
//! mapping off finds it there. It is the state of a key that is brought, whatever the writes were, so that doing it
//! again does no harm. A key that cannot be brought keeps none of the others.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::Owned;
use crate::keys::MappingId;
use crate::mapping::{Kind, Mapping};
use crate::quota::Asker;
use crate::record::{Record, Shape};
use crate::telemetry::clock::Tick;
use crate::upstream::{Endpoint, Transaction};

/// So many keys are looked up at once.
const KEYS: usize = 100;

/// A key whose row is not there in this time waits, so that the others do not wait for it.
const LOADING: Duration = Duration::from_millis(250);

/// So many bytes are brought at once; one key may be more.
const BYTES: usize = 1 << 20;

/// Why not all of it could be brought.
#[derive(Debug, thiserror::Error)]
pub enum Unbrought {
    /// What it is now is not known.
    #[error("{0}")]
    Store(String),
    /// The upstream does not take it.
    #[error("{0}")]
    Upstream(String),
}

/// Keys that are being brought to the upstream; they wait again if that ends before they are there.
struct Brought<'o> {
    owned: &'o Owned,
    keys: HashSet<Bytes>,
}

impl Brought<'_> {
    fn arrived(&mut self, key: &Bytes) {
        if self.keys.remove(key) {
            self.owned.cache.written_arrived(key);
        }
    }
}

impl Drop for Brought<'_> {
    fn drop(&mut self) {
        self.owned.cache.give_back_written(&self.keys.drain().collect::<Vec<_>>());
    }
}

impl Owned {
    /// Brings all that was written to the upstream, of the keys that are meant; how many keys that were.
    ///
    /// # Errors
    /// Why not all of it could be brought; the rest waits.
    pub async fn mirror(
        &self,
        endpoint: &Endpoint,
        is_meant: impl Fn(MappingId, &[u8]) -> bool,
    ) -> Result<usize, Unbrought> {
        let (mut brought, mut count) = (Brought { owned: self, keys: HashSet::new() }, 0);
        let mut failed = None;
        loop {
            let keys = self
                .cache
                .take_written(KEYS, |key| self.mappings.keyspace.owner(key).is_some_and(|id| is_meant(id, key)));
            if keys.is_empty() {
                return failed.map_or(Ok(count), Err);
            }
            brought.keys.extend(keys.iter().cloned());
            let loaded = join_all(keys.iter().map(|key| self.transaction_of(key))).await;
            let mut batch = Vec::new();
            for (key, transaction) in keys.into_iter().zip(loaded) {
                match transaction {
                    Ok(transaction) => batch.push((key, transaction)),
                    Err(why) => _ = failed.get_or_insert(Unbrought::Store(why)),
                }
            }
            for part in parts(batch) {
                let (keys, transactions): (Vec<Bytes>, Vec<Transaction>) = part.into_iter().unzip();
                let outcomes = endpoint.run_transactions(&transactions).await.map_err(Unbrought::Upstream)?;
                for (key, outcome) in keys.iter().zip(outcomes) {
                    match outcome {
                        Ok(()) => {
                            brought.arrived(key);
                            count += 1;
                        }
                        Err(why) => failed = Some(Unbrought::Upstream(why)),
                    }
                }
            }
        }
    }

    /// The mappings whose written keys are brought to the upstream.
    pub fn mirrored(&self) -> impl Iterator<Item = MappingId> {
        let mirrors = |mapping: &&Mapping| mapping.kind == Kind::Cache && mapping.config.mirror;
        self.mappings.list.iter().filter(mirrors).map(|mapping| mapping.id)
    }

    /// The commands that give a key of the upstream the value that it has here. It ends there when its row does; how
    /// long memory keeps it is no matter.
    async fn transaction_of(&self, key: &Bytes) -> Result<Transaction, String> {
        let Some(mapping) = self.mappings.keyspace.owner(key) else { return Ok(Vec::new()) };
        let mut asker = Asker::new(None, Tick::now());
        let loaded = tokio::time::timeout(LOADING, self.cache.load(mapping, key, &mut asker)).await;
        let loaded = loaded
            .map_err(|_| format!("'{}': the store is slow", self.mappings.list[mapping.index()].pattern.text()))?;
        let entry = loaded.map_err(|error| self.load_error(mapping, &error))?;
        let ends = self.mappings.list[mapping.index()].config.expires_column.is_some();
        let left = entry.left(Tick::now()).filter(|_| ends).map(|left| left.as_millis() as i64);
        Ok(commands(key, entry.record.as_ref(), left))
    }
}

/// In parts that are not too large.
fn parts(batch: Vec<(Bytes, Transaction)>) -> Vec<Vec<(Bytes, Transaction)>> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (key, transaction) in batch {
        let size: usize = transaction.iter().flatten().map(Vec::len).sum();
        if !part.is_empty() && bytes + size > BYTES {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += size;
        part.push((key, transaction));
    }
    parts.extend((!part.is_empty()).then_some(part));
    parts
}

/// DEL, then what makes the value, then how long it has to live.
fn commands(key: &[u8], record: Option<&Record>, left: Option<i64>) -> Transaction {
    let words = |name: &str| vec![name.as_bytes().to_vec(), key.to_vec()];
    let mut commands = vec![words("DEL")];
    let Some(record) = record.filter(|_| left.is_none_or(|left| left > 0)) else { return commands };
    let (name, is_hash) = match record.shape() {
        Shape::Hash => ("HSET", true),
        Shape::List => ("RPUSH", false),
        Shape::String => ("SET", false),
        Shape::Set => ("SADD", false),
    };
    let mut made = words(name);
    for (field, value) in record.named_parts() {
        made.extend(is_hash.then(|| field.to_vec()));
        made.push(value.to_vec());
    }
    // Nothing in it is no key.
    if made.len() > 2 {
        commands.push(made);
        if let Some(left) = left {
            let mut expires = words("PEXPIRE");
            expires.push(left.to_string().into_bytes());
            commands.push(expires);
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{BYTES, commands, parts};
    use crate::record::Record;

    fn shown(record: Option<&Record>, left: Option<i64>) -> Vec<String> {
        let commands = commands(b"k", record, left);
        commands.iter().map(|words| String::from_utf8_lossy(&words.join(&b' ')).into_owned()).collect()
    }

    #[test]
    fn a_key_gets_the_value_and_the_time_that_it_has_here() {
        let hash = Record::hash(&[("a", "1"), ("b", "2")]).expect("a record");
        assert_eq!(shown(Some(&hash), None), ["DEL k", "HSET k a 1 b 2"]);
        assert_eq!(shown(Some(&hash), Some(50)), ["DEL k", "HSET k a 1 b 2", "PEXPIRE k 50"]);
        assert_eq!(shown(Some(&hash), Some(0)), ["DEL k"]);
        assert_eq!(shown(None, None), ["DEL k"]);
        assert_eq!(shown(Some(&Record::list(&["x", "y"]).expect("a record")), None), ["DEL k", "RPUSH k x y"]);
        assert_eq!(shown(Some(&Record::string(b"v").expect("a record")), None), ["DEL k", "SET k v"]);
        assert_eq!(shown(Some(&Record::set(&["m"]).expect("a record")), None), ["DEL k", "SADD k m"]);
    }
    #[test]
    fn what_is_large_is_brought_by_itself() {
        let of = |bytes: usize| (Bytes::from("k"), vec![vec![vec![0_u8; bytes]]]);
        let lengths = |sizes: &[usize]| -> Vec<usize> {
            parts(sizes.iter().map(|size| of(*size)).collect()).iter().map(Vec::len).collect()
        };
        assert_eq!(lengths(&[1, 2, 3]), [3]);
        assert_eq!(lengths(&[1, BYTES, 1, 1, 2 * BYTES, 1]), [1, 1, 2, 1, 1]);
        assert_eq!(lengths(&[]), [] as [usize; 0]);
    }
}
