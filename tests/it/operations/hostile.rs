//! Whatever a configuration says, `hearthside check` answers with what is wrong, by the names of the keys.

use std::fmt::Write;
use std::process::Output;

use fastrand::Rng;
use hearthside::config::SHIPPED;

use crate::support::setting;
use crate::support::sidecar::Sidecar;

/// How many configurations are tried; each holds many keys, because a process for each value would take long.
const CONFIGURATIONS: u64 = 200;

/// Values as TOML.
const VALUES: [&str; 42] = [
    "9223372036854775807",
    "-9223372036854775808",
    "-1",
    "0",
    "1",
    "65536",
    "1e308",
    "nan",
    "-inf",
    "0.5",
    "true",
    "1979-05-27T07:32:00Z",
    "\"\"",
    "\" \"",
    "\"x\"",
    "\"\\u0000\"",
    "\"a\\u0000b\"",
    "\"\\u001b[31mred\\u0007\\r\\n\"",
    "\"\\u202E\\U0001F600\\u0301\"",
    "\"99999999999999999999h\"",
    "\"584942417355y 1ns\"",
    "\"-1s\"",
    "\"18446744073709551616gb\"",
    "\"127.0.0.1:99999999\"",
    "\"[::1\"",
    "\"unix://\"",
    "\"postgres://\"",
    "\"postgres://u:secret-of-mine@[::1:x/%zz?sslmode=\\u0001\"",
    "\"sqlite://?mode=memory&cache=\"",
    "\"redis://:secret-of-mine@h:0/-1?protocol=9\"",
    "\"{\"",
    "\"}{:\"",
    "\"{a}{b}\"",
    "\"{a:int}:{a}\"",
    "\"a:{x:float}\"",
    "\"*?[^\\\\\"",
    "[]",
    "[\"\", 1, []]",
    "[[[[[[[[\"deep\"]]]]]]]]",
    "{}",
    "{ a = { b = { c = { d = 1 } } } }",
    "[{ table = \"\", key = { a = \"\", b = [] } }]",
];

const OF_MAPPINGS: [&str; 28] = [
    "key",
    "type",
    "table",
    "query",
    "file",
    "key_columns",
    "fields",
    "value",
    "overflow",
    "timestamps",
    "watch",
    "ttl",
    "renew",
    "stale_while_revalidate",
    "stale_if_error",
    "max_staleness",
    "negative_ttl",
    "write",
    "deferred",
    "expires_column",
    "delete",
    "push",
    "remove",
    "load_rate",
    "load_burst",
    "loads",
    "no_such_key",
    "\"odd \\u0007 key\"",
];

const SOUND: &str = "key = \"sound:{id}\"\ntype = \"hash\"\ntable = \"t\"\n";

/// The keys of each section that the shipped file shows.
fn settings() -> Vec<(String, Vec<String>)> {
    let shipped: toml::Table = SHIPPED.parse().expect("TOML");
    let keys = |table: &toml::Table| table.keys().cloned().collect();
    shipped.iter().filter_map(|(name, section)| Some((name.clone(), keys(section.as_table()?)))).collect()
}

fn value(rng: &mut Rng) -> String {
    match rng.u8(0..30) {
        0 => format!("\"{}\"", "long ".repeat(20_000)),
        1 => format!("\"{}\"", "{a}:".repeat(2000)),
        2 => format!("{}{}", "[".repeat(60), "]".repeat(60)),
        _ => VALUES[rng.usize(..VALUES.len())].to_owned(),
    }
}

/// Each key is written once in its table: twice is a fault of the file, behind which nothing else is read.
fn configuration(rng: &mut Rng) -> String {
    let mut text = String::new();
    for (section, keys) in settings() {
        writeln!(text, "[{section}]").expect("written");
        for key in keys {
            if rng.u8(0..4) > 0 {
                continue;
            }
            writeln!(text, "{key} = {}", value(rng)).expect("written");
        }
    }
    for _ in 0..rng.u8(0..4) {
        let kind = ["[[caches]]", "[[definitions]]", "[[users]]"][rng.usize(..3)];
        writeln!(text, "{kind}").expect("written");
        let of_users = ["name", "password_hash", "password", "keys", "commands", "upstream_user"];
        let keys = if kind == "[[users]]" { &of_users[..] } else { &OF_MAPPINGS };
        for key in keys {
            if rng.u8(0..5) > 0 {
                continue;
            }
            writeln!(text, "{key} = {}", value(rng)).expect("written");
        }
    }
    // Two blocks of the same keys.
    if rng.bool() {
        write!(text, "[[caches]]\n{SOUND}[[caches]]\n{SOUND}").expect("written");
    }
    text
}

/// Fails where a check does anything else than accepting, or saying what is wrong.
fn judge(output: &Output, config: &str) {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let shown = || format!("{:?}:\n{}\n--- of\n{}", output.status, &told[..told.len().min(4000)], config);
    assert!(matches!(output.status.code(), Some(0 | 2)), "{}", shown());
    assert!(!told.contains("panicked"), "{}", shown());
    // Of an address, that is: where no address belongs, no value is a secret.
    let is_told = told.lines().any(|line| line.contains("url: ") && line.contains("secret-of-mine"));
    assert!(!is_told, "{}", shown());
    assert!(!told.chars().any(|c| c.is_control() && c != '\n'), "control characters: {}", shown());
    if output.status.code() == Some(2) {
        for line in told.lines().filter(|line| !line.starts_with("hearthside: warning: ") && !line.contains(" WARN ")) {
            let place =
                line.strip_prefix("hearthside: config.toml:").map(|rest| rest.trim_start_matches(char::is_numeric));
            let named = place.and_then(|place| place.strip_prefix(": ")).unwrap_or_default();
            assert!(named.split(": ").next().is_some_and(|key| !key.is_empty()), "{line}: {}", shown());
            assert!(line.len() < 2000, "a line of {} bytes: {}", line.len(), shown());
        }
    }
}

#[test]
fn no_configuration_makes_a_check_fail_without_saying_which_key_is_wrong() {
    let count = setting("HEARTHSIDE_CONFIGURATIONS", CONFIGURATIONS);
    let seed = setting("HEARTHSIDE_SEED", 1);
    std::thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || {
                for i in (part..count).step_by(4) {
                    let config = configuration(&mut Rng::with_seed(seed * 1_000_000 + i));
                    judge(&Sidecar::builder().config(&config).execute(&["check"]), &config);
                }
            });
        }
    });
}

#[test]
fn what_is_no_configuration_at_all_is_refused_too() {
    let deep = format!("[server]\nlisten = {}", "[".repeat(100_000));
    let wide = format!("[{}]\n", vec!["a"; 50_000].join("."));
    for config in ["\u{feff}", "\0", "[", "[[caches]", "= 1", "a = ", "[server]\n[server]\n", "caches = 1\nusers = {}"]
    {
        let output = Sidecar::builder().config(config).execute(&["check"]);
        assert!(matches!(output.status.code(), Some(0 | 2)), "{config:?}: {output:?}");
    }
    for config in [deep, wide] {
        let output = Sidecar::builder().config(&config).execute(&["check"]);
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
