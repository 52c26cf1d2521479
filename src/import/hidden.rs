//! Counts the keys of the upstream that a mapping hides: those that it matches, while the sidecar answers for them.

use std::time::{Duration, Instant};

use super::side::glob;
use crate::keys::{Keyspace, share_of};
use crate::mapping::Mapping;
use crate::upstream::{NotTold, Owners, Topology};

/// So long they are counted.
const MOST: Duration = Duration::from_secs(3);

/// How many keys a mapping hides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hidden {
    /// So many, at least.
    pub count: u64,
    /// These are all.
    pub is_all: bool,
}

/// What is to be known of the upstream's other databases, if they have keys: the sidecar counts, copies and brings back
/// those of `upstream.url` alone. Nothing where its user may not ask.
pub async fn elsewhere(topology: &Topology, timeout: Duration) -> Option<String> {
    let mut found = Vec::new();
    for mut server in Owners::find(topology, timeout).await.ok()?.servers {
        found.extend(server.databases().await.ok()?);
    }
    let others: Vec<&(i64, u64)> = found.iter().filter(|(number, _)| *number != topology.db()).collect();
    let first = others.first()?.0;
    let listed: Vec<String> = others.iter().map(|(number, keys)| format!("{number} ({keys} keys)")).collect();
    Some(format!(
        "keys of other databases are not looked at: {}; that of upstream.url is {}, and should be the one that the \
         application uses (redis://.../{first})",
        listed.join(", "),
        topology.db(),
    ))
}

/// Counts what each of these mappings hides, at once, for three seconds at most. A key is counted once for each time
/// that SCAN gives it, which is seldom more than once.
///
/// # Errors
/// Why the upstream does not tell.
pub async fn hidden(
    topology: &Topology,
    timeout: Duration,
    keyspace: &Keyspace,
    mappings: &[&Mapping],
) -> Result<Vec<Hidden>, NotTold> {
    let begun = Instant::now();
    let mut found = vec![Hidden { count: 0, is_all: true }; mappings.len()];
    if mappings.is_empty() {
        return Ok(found);
    }
    // One walk for all of them, where there are several.
    let glob = match mappings {
        [one] => glob(&one.pattern.pieces().0),
        _ => b"*".to_vec(),
    };
    let mut owners = Owners::find(topology, timeout).await?;
    for server in &mut owners.servers {
        let mut cursor = 0;
        loop {
            let (next, keys) = server.scan(cursor, &glob).await?;
            for key in keys {
                let owner = keyspace.owner(&key);
                let is_its = |mapping: &&Mapping| owner == Some(mapping.id);
                if let Some(at) = mappings.iter().position(is_its)
                    && share_of(&key) < mappings[at].config.percent
                {
                    found[at].count += 1;
                }
            }
            if next == 0 {
                break;
            }
            if begun.elapsed() >= MOST {
                found.iter_mut().for_each(|one| one.is_all = false);
                return Ok(found);
            }
            cursor = next;
        }
    }
    Ok(found)
}
