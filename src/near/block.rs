//! The blocks `[[near]]`: which pass-through keys are kept, for how long, and in how much memory.

use crate::config::{AuthMode, Config, Faults, NearConfig};
use crate::keys::{Keyspace, begin_alike, glob_match, literal_beginning};
use crate::telemetry::clock::millis;

/// The least memory of a block.
const LEAST: usize = 64 << 10;

/// One block, as it is asked.
#[derive(Debug)]
pub(super) struct Block {
    /// As it is written.
    pub(super) keys: String,
    /// What all its keys begin with.
    pub(super) prefix: Vec<u8>,
    /// Every key that begins so is one of its keys.
    is_whole: bool,
    /// How long what was read is kept, in milliseconds.
    pub(super) ttl: u64,
    /// Most memory for that.
    pub(super) max_bytes: usize,
}

impl Block {
    pub(super) fn new(config: &NearConfig) -> Self {
        let prefix = literal_beginning(config.keys.as_bytes());
        Self {
            keys: config.keys.clone(),
            prefix: prefix.to_vec(),
            is_whole: &config.keys[prefix.len()..] == "*",
            ttl: millis(config.ttl),
            max_bytes: config.max_bytes.0,
        }
    }

    /// True of its keys.
    #[inline]
    pub(super) fn has(&self, key: &[u8]) -> bool {
        key.starts_with(&self.prefix) && (self.is_whole || glob_match(self.keys.as_bytes(), key))
    }
}

/// Checks every block; what is wrong is noted. A key has one owner, and the upstream tells of prefixes that do not
/// overlap.
pub fn check(config: &Config, keyspace: &Keyspace, faults: &mut Faults) {
    for (i, block) in config.near.iter().enumerate() {
        if config.settings.auth.mode == AuthMode::Upstream {
            let text = "has no effect, because auth.mode is \"upstream\": what one user may read another may not";
            faults.doubt(format!("{}.keys", block.path), text);
        }
        let mut fault = |key: &str, text: String| faults.add(format!("{}.{key}", block.path), text);
        let start = literal_beginning(block.keys.as_bytes());
        if start.is_empty() {
            let text = "must begin with a text that all its keys begin with, such as \"cfg:*\": the upstream tells \
                what has changed by such beginnings";
            fault("keys", text.to_owned());
        } else if let Some(owner) = keyspace.met_by(block.keys.as_bytes()) {
            let pattern = keyspace.pattern(owner).text();
            let text = "which the sidecar answers itself; near caches are for keys of the upstream alone";
            fault("keys", format!("'{}' can match keys of the mapping '{pattern}', {text}", block.keys));
        }
        let before = config.near[..i].iter().find(|before| {
            let other = literal_beginning(before.keys.as_bytes());
            !start.is_empty() && !other.is_empty() && begin_alike(start, other)
        });
        if let Some(before) = before {
            let text = "a key must not be in two blocks, and the upstream tells of no beginning twice";
            fault("keys", format!("'{}' begins as '{}' does: {text}", block.keys, before.keys));
        }
        if block.ttl.is_zero() {
            fault("ttl", "must be at least \"1ms\"".to_owned());
        }
        if block.max_bytes.0 < LEAST {
            fault("max_bytes", "must be at least \"64kb\"".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, check};
    use crate::config::{NearConfig, read};
    use crate::keys::{Keyspace, Pattern};

    #[test]
    fn a_block_has_the_keys_of_its_glob() {
        for (keys, key, expected) in [
            ("cfg:*", "cfg:a:b", true),
            ("cfg:*", "cfg", false),
            ("cfg:*:x", "cfg:a:x", true),
            ("cfg:*:x", "cfg:a:y", false),
            ("cfg", "cfg", true),
            ("cfg", "cfg:", false),
            ("cfg:?", "cfg:a", true),
        ] {
            let block = Block::new(&NearConfig { keys: keys.into(), ..NearConfig::default() });
            assert_eq!(block.has(key.as_bytes()), expected, "{keys} {key}");
        }
    }

    #[test]
    fn what_cannot_be_kept_is_told_with_its_block() {
        let text = "[[near]]\nkeys = \"*\"\n[[near]]\nkeys = \"player:7:*\"\n[[near]]\nkeys = \"a:*\"\nttl = \"0s\"\n\
            [[near]]\nkeys = \"a:b:*\"\nmax_bytes = 1\n[[near]]\nkeys = \"c:*\"\nmaxbytes = 1\n\
            [[near]]\nkyes = \"d:*\"\n[[near]]\nkeys = \"e:*\"\nttl = \"-1s\"\n";
        let mut loaded = read("test.toml", text, std::iter::empty());
        let pattern = Pattern::parse("player:{id:int}:session").expect("a pattern");
        check(&loaded.config, &Keyspace::new(vec![pattern]), &mut loaded.faults);
        let told = loaded.faults.to_string();
        for expected in [
            "test.toml:2: near[0].keys: must begin with a text",
            "near[1].keys: 'player:7:*' can match keys of the mapping 'player:{id:int}:session'",
            "near[2].ttl: must be at least \"1ms\"",
            "near[3].keys: 'a:b:*' begins as 'a:*' does",
            "near[3].max_bytes: must be at least \"64kb\"",
            "near[4].maxbytes: unknown key; did you mean 'max_bytes'?",
            "near[5].kyes: unknown key; did you mean 'keys'?",
            "near[6].ttl: is no duration of 0 or more; write \"30s\", \"10m\" or \"250ms\"",
        ] {
            assert!(told.contains(expected), "missing {expected:?} in\n{told}");
        }
    }
}
