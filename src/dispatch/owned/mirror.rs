//! Brings what was written through the sidecar to the upstream, of mappings with `mirror = true`: who switches such a
//! mapping off finds it there. It is the state of a key that is brought, whatever the writes were, so that doing it
//! again does no harm.

use bytes::Bytes;
use futures_util::future::join_all;

use super::Owned;
use crate::keys::MappingId;
use crate::mapping::{Kind, Mapping};
use crate::quota::Asker;
use crate::record::{Record, Shape};
use crate::telemetry::clock::Tick;
use crate::upstream::Endpoint;

/// So many keys are brought at once.
const MOST: usize = 500;

/// Keys that are being brought to the upstream; they wait again if that ends before they are there.
struct Brought<'o> {
    owned: &'o Owned,
    keys: Vec<Bytes>,
}

impl Drop for Brought<'_> {
    fn drop(&mut self) {
        self.owned.cache.give_back_written(std::mem::take(&mut self.keys));
    }
}

impl Owned {
    /// Brings all that was written of these mappings to the upstream; how many keys that were.
    ///
    /// # Errors
    /// Why not all of it could be brought; the rest waits.
    pub async fn mirror(&self, endpoint: &Endpoint, mappings: &[MappingId]) -> Result<usize, String> {
        let mut count = 0;
        loop {
            let is_meant = |key: &[u8]| self.mappings.keyspace.owner(key).is_some_and(|id| mappings.contains(&id));
            let keys = self.cache.take_written(MOST, is_meant);
            if keys.is_empty() && self.cache.has_lost_written() {
                return Err("more keys were written, while the upstream took none, than are remembered".to_owned());
            }
            if keys.is_empty() {
                return Ok(count);
            }
            let mut brought = Brought { owned: self, keys };
            let loading = brought.keys.iter().map(|key| self.transaction_of(key));
            let transactions: Result<Vec<_>, String> = join_all(loading).await.into_iter().collect();
            let transactions: Vec<_> = transactions?.into_iter().flatten().collect();
            endpoint.run_transactions(&transactions).await?;
            count += brought.keys.len();
            brought.keys.clear();
        }
    }

    /// The mappings whose written keys are brought to the upstream.
    pub fn mirrored(&self) -> Vec<MappingId> {
        let mirrors = |mapping: &&Mapping| mapping.kind == Kind::Cache && mapping.config.mirror;
        self.mappings.list.iter().filter(mirrors).map(|mapping| mapping.id).collect()
    }

    /// The commands that give a key of the upstream the value that it has here.
    async fn transaction_of(&self, key: &Bytes) -> Result<Option<Vec<Vec<Vec<u8>>>>, String> {
        let Some(mapping) = self.mappings.keyspace.owner(key) else { return Ok(None) };
        let loaded = self.cache.load(mapping, key, &mut Asker::new(None, Tick::now())).await;
        let entry = loaded.map_err(|error| self.load_error(mapping, &error))?;
        let left = entry.left(Tick::now()).map(|left| left.as_millis() as i64);
        Ok(Some(commands(key, entry.record.as_ref(), left)))
    }
}

/// DEL, then what makes the value, then how long it has to live.
fn commands(key: &[u8], record: Option<&Record>, left: Option<i64>) -> Vec<Vec<Vec<u8>>> {
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
    use super::commands;
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
}
