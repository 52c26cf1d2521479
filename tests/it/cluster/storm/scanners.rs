//! Full scans: keys that stay are all found in each.

use std::collections::BTreeSet;

use super::client::Told;
use super::{Part, pace};

/// Keys that are there all the time.
const STAYING: usize = 300;

pub fn name(n: usize) -> String {
    format!("stays:{n}")
}

/// Writes the keys that stay.
pub fn prepare(port: u16) {
    let mut wire = crate::support::wire::Wire::tcp(port);
    for n in 0..STAYING {
        assert_eq!(wire.ask(&format!("SET {} {n}", name(n))), "+OK\r\n");
    }
}

pub fn run(part: &Part<'_>) {
    let mut client = part.client();
    while !part.weather.is_over() {
        let mut cursor = "0".to_owned();
        let mut found = BTreeSet::new();
        while let Some(told) = client.one(false, &["SCAN", &cursor, "MATCH", "stays:*", "COUNT", "100"]) {
            let Told::Many(parts) = &told else { return part.weather.wrong(format!("SCAN is answered {told:?}")) };
            let [Told::Text(next), keys] = &parts[..] else {
                return part.weather.wrong(format!("SCAN is answered {told:?}"));
            };
            found.extend(keys.texts().into_iter().map(str::to_owned));
            pace(part);
            if next == "0" {
                // What a failover in the middle of a move has cost the cluster is there for nobody.
                let is_there = |name: &String| matches!(client.one(false, &["EXISTS", name]), Some(Told::Number(1)));
                let missing = (0..STAYING).map(name).filter(|name| !found.contains(name));
                let missing: Vec<String> = missing.filter(is_there).collect();
                if !missing.is_empty() || found.len() > STAYING {
                    let count = found.len();
                    let some = &missing[..missing.len().min(5)];
                    part.weather.wrong(format!("a scan finds {count} of {STAYING} keys, and misses {some:?}"));
                }
                break;
            }
            cursor.clone_from(next);
        }
    }
}
