//! Refuses numbers, sizes and durations that nobody can mean. Further on they would overflow, or ask for memory that is
//! not there.

use std::time::Duration;

use humantime_serde::re::humantime::{format_duration, parse_duration};
use serde_json::Value;

use super::{ByteSize, Config, Faults, Settings};

const MOST_COUNT: u64 = 2_147_483_647;
const MOST_SIZE: ByteSize = ByteSize(1 << 40);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// In every clock that time is counted by.
const LONGEST: Duration = Duration::from_secs(36_500 * 24 * 60 * 60);

/// What has a bound of its own, by the operating system or the database: TCP keepalive is at most 32767 s, and Postgres
/// and SQLite count timeouts in milliseconds of 31 bits.
/// Sources: tcp(7), <https://www.postgresql.org/docs/current/config-setting.html>
const SHORTER: [(&str, Duration); 3] = [
    ("server.keepalive", Duration::from_secs(9 * 60 * 60)),
    ("store.query_timeout", DAY),
    ("store.connect_timeout", DAY),
];
/// Of these, room is made beforehand.
const FEWER: [(&str, u64); 2] = [("store.max_connections", 10_000), ("upstream.pinned_max", 1_000_000)];

pub(super) fn check(config: &Config, faults: &mut Faults) {
    let tree = |settings: &Settings| serde_json::to_value(settings).unwrap_or_default();
    compare("", &tree(&Settings::default()), &tree(&config.settings), faults);
    near(config, faults);
    for block in config.definitions.iter().chain(&config.caches) {
        for (key, duration) in [
            ("ttl", block.ttl),
            ("stale_while_revalidate", block.stale_while_revalidate),
            ("stale_if_error", block.stale_if_error),
            ("max_staleness", block.max_staleness),
            ("negative_ttl", block.negative_ttl),
        ] {
            if duration.is_some_and(|duration| duration > LONGEST) {
                faults.add(format!("{}.{key}", block.path), too_long(LONGEST));
            }
        }
    }
}

/// The same of the blocks of the near cache.
fn near(config: &Config, faults: &mut Faults) {
    for block in &config.near {
        if block.ttl > LONGEST {
            faults.add(format!("{}.ttl", block.path), too_long(LONGEST));
        }
        if block.max_bytes > MOST_SIZE {
            faults.add(format!("{}.max_bytes", block.path), format!("must be at most \"{MOST_SIZE}\""));
        }
    }
}

fn compare(path: &str, default: &Value, value: &Value, faults: &mut Faults) {
    let Value::Object(defaults) = default else {
        return extreme(path, default, value).into_iter().for_each(|message| faults.add(path, message));
    };
    for (key, default) in defaults {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        compare(&path, default, &value[key], faults);
    }
}

/// What is wrong with the value of a setting, whose default tells what it is.
fn extreme(path: &str, default: &Value, value: &Value) -> Option<String> {
    if default.is_f64() {
        // Parts of a whole are checked where they stand.
        return None;
    }
    if default.is_number() {
        let most = FEWER.iter().find(|(name, _)| *name == path).map_or(MOST_COUNT, |(_, most)| *most);
        return value.as_u64().is_none_or(|number| number > most).then(|| format!("must be at most {most}"));
    }
    let (default, text) = (default.as_str()?, value.as_str()?);
    if ByteSize::parse(default).is_some() {
        let is_extreme = ByteSize::parse(text).is_none_or(|size| size > MOST_SIZE);
        return is_extreme.then(|| format!("must be at most \"{MOST_SIZE}\""));
    }
    parse_duration(default).ok()?;
    let most = SHORTER.iter().find(|(name, _)| *name == path).map_or(LONGEST, |(_, most)| *most);
    parse_duration(text).is_ok_and(|duration| duration > most).then(|| too_long(most))
}

fn too_long(most: Duration) -> String {
    let most = if most == LONGEST { "36500d".to_owned() } else { format_duration(most).to_string() };
    format!("must be at most \"{most}\"")
}

#[cfg(test)]
mod tests {
    use crate::config::{Settings, read};

    /// What somebody may write by mistake, or to see what happens.
    const HOSTILE: [&str; 22] = [
        "0",
        "-1",
        "1",
        "9223372036854775807",
        "1e308",
        "nan",
        "true",
        "\"\"",
        "\" \"",
        "\"0\"",
        "\"0s\"",
        "\"1ns\"",
        "\"584554530872years\"",
        "\"18446744073709551615s\"",
        "\"17179869183gb\"",
        "\"99999999999999999999gb\"",
        "[]",
        "[0, 1]",
        "[\"\", \"\"]",
        "{ a = 1 }",
        "1979-05-27T07:32:00Z",
        "\"\\u0000\"",
    ];

    fn settings() -> Vec<(String, String)> {
        let tree = serde_json::to_value(Settings::default()).expect("a tree");
        let sections = tree.as_object().expect("sections").iter();
        let keys = |keys: &serde_json::Value| keys.as_object().expect("keys").keys().cloned().collect::<Vec<_>>();
        sections.flat_map(|(name, section)| keys(section).into_iter().map(move |key| (name.clone(), key))).collect()
    }

    #[test]
    fn any_value_of_any_setting_is_read_or_is_a_fault_that_names_the_setting() {
        let mut cases = 0;
        for (section, key) in settings() {
            for value in HOSTILE {
                let text = format!("[{section}]\n{key} = {value}\n");
                let told = read("x.toml", &text, std::iter::empty()).faults.to_string();
                assert!(!told.contains("syntax"), "{text}{told}");
                let names = |line: &str| line.contains(&format!("{section}.")) || line.contains("is beyond loopback");
                assert!(told.lines().all(names), "{text}{told}");
                let variable = format!("HEARTHSIDE__{section}__{key}").to_ascii_uppercase();
                let given = std::iter::once((variable.into(), value.trim_matches('"').into()));
                let _ = read("x.toml", "", given).faults.to_string();
                cases += 2;
            }
        }
        assert!(cases > 2000, "{cases}");
    }

    #[test]
    fn what_no_machine_can_mean_is_a_fault_that_says_what_to_write() {
        for (line, expected) in [
            ("store.max_connections = 4294967295", "store.max_connections: must be at most 10000"),
            ("limits.clients = 9223372036854775807", "limits.clients: must be at most 2147483647"),
            ("limits.buffers = 9223372036854775807", "limits.buffers: must be at most \"1024gb\""),
            ("store.query_timeout = \"30d\"", "store.query_timeout: must be at most \"1day\""),
            ("server.keepalive = \"10h\"", "server.keepalive: must be at most \"9h\""),
            ("cache.max_staleness = \"200years\"", "cache.max_staleness: must be at most \"36500d\""),
            (
                "[[caches]]\nkey = \"a:{b}\"\ntype = \"hash\"\ntable = \"t\"\nttl = \"200years\"",
                "caches[0].ttl: must be at most \"36500d\"",
            ),
        ] {
            let told = read("x.toml", line, std::iter::empty()).faults.to_string();
            assert!(told.contains(expected), "{line}: {told}");
        }
    }
}
