//! The tables of docs/OPERATIONS.md name what is in the code, and nothing is missing in them.

use std::collections::BTreeSet;

use hearthside::telemetry::Metrics;
use hearthside::telemetry::metrics::Format;

use super::texts::{files, quoted, read, rows, tests};

/// `section.key` of every setting that is a value.
fn settings() -> BTreeSet<String> {
    let all = serde_json::to_value(hearthside::config::Settings::default()).expect("settings");
    let mut names = BTreeSet::new();
    for (section, settings) in all.as_object().expect("sections") {
        for key in settings.as_object().into_iter().flat_map(serde_json::Map::keys) {
            names.insert(format!("{section}.{key}"));
        }
    }
    names
}

/// The settings that a row is about.
fn names_of(row: &[String]) -> Vec<String> {
    let names: Vec<&str> = quoted(&row[0]).collect();
    // "`limits.client_output_soft`, `..._soft_time`" names the second by what follows their common beginning.
    let whole = |name: &&str| match name.strip_prefix("...") {
        Some(end) => format!("{}{end}", names[0].trim_end_matches("_soft")),
        None => (*name).to_owned(),
    };
    names.iter().map(whole).collect()
}

#[test]
fn the_table_of_settings_is_that_of_the_code() {
    let mut documented = BTreeSet::new();
    for row in rows("docs/OPERATIONS.md", "## Settings") {
        documented.extend(names_of(&row));
    }
    let known = settings();
    assert_eq!(documented.difference(&known).collect::<Vec<_>>(), [""; 0], "no such setting");
    assert_eq!(known.difference(&documented).collect::<Vec<_>>(), [""; 0], "docs/OPERATIONS.md does not name them");
}

/// The settings of a row, and what it shows as their defaults, as TOML.
fn defaults_of(row: &[String]) -> Vec<(String, String)> {
    let names = names_of(row);
    let shown: Vec<&str> = quoted(&row[1]).collect();
    match (names.len(), shown.len()) {
        (_, 0) => names.into_iter().map(|name| (name, "\"\"".to_owned())).collect(),
        (1, 2..) => vec![(names[0].clone(), format!("{shown:?}"))],
        _ => names.into_iter().zip(shown.into_iter().map(as_toml)).collect(),
    }
}

fn as_toml(shown: &str) -> String {
    match shown.parse::<f64>().is_ok() || shown.parse::<bool>().is_ok() || shown.starts_with('[') {
        true => shown.to_owned(),
        false => format!("\"{shown}\""),
    }
}

#[test]
fn the_table_of_settings_shows_the_defaults() {
    let mut wrong = Vec::new();
    for (name, default) in rows("docs/OPERATIONS.md", "## Settings").iter().flat_map(|row| defaults_of(row)) {
        let (section, key) = name.split_once('.').expect("a section and a key");
        let text = format!("[{section}]\n{key} = {default}\n");
        let loaded = hearthside::config::read("test.toml", &text, std::iter::empty());
        if !loaded.faults.is_empty() || loaded.config.settings != hearthside::config::Settings::default() {
            wrong.push(format!("{name} = {default} is not the default {}", loaded.faults));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is wrong with the settings when one has this value.
fn faults_with(setting: &str, value: &str) -> String {
    let (section, key) = setting.split_once('.').expect("a section and a key");
    let text = format!("[{section}]\n{key} = \"{value}\"\n");
    hearthside::config::read("test.toml", &text, std::iter::empty()).faults.to_string()
}

#[test]
fn the_table_of_least_values_is_that_of_the_code() {
    let mut documented = BTreeSet::new();
    for row in rows("docs/OPERATIONS.md", "### Least values") {
        let (name, least) = (row[0].trim_matches('`').to_owned(), row[1].trim_matches('`'));
        let too_little = if least.ends_with("ms") { "1us" } else { "1b" };
        let told = faults_with(&name, too_little);
        assert!(told.contains(&format!("{name}: must be at least \"{least}\"")), "{name}: {told}");
        let told = faults_with(&name, least);
        assert!(!told.contains(&format!("{name}: must be at least")), "{name}: {told}");
        documented.insert(name);
    }
    let has_least = |name: &String| {
        let told = [faults_with(name, "1us"), faults_with(name, "1b")].concat();
        told.contains(&format!("{name}: must be at least \""))
    };
    let known: BTreeSet<String> = settings().into_iter().filter(has_least).collect();
    assert_eq!(known.difference(&documented).collect::<Vec<_>>(), [""; 0], "docs/OPERATIONS.md does not name them");
}

/// The fields of a struct that is read from a file, by the names that stand there.
fn keys_of(source: &str, name: &str) -> BTreeSet<String> {
    let text = read(source);
    let body = text.split(&format!("pub struct {name} {{")).nth(1).and_then(|rest| rest.split("\n}").next());
    let mut keys = BTreeSet::new();
    let mut attributes = String::new();
    for line in body.unwrap_or_else(|| panic!("{source} has no {name}")).lines().map(str::trim) {
        if line.starts_with("#[") {
            attributes.push_str(line);
        } else if let Some((key, _)) = line.strip_prefix("pub ").and_then(|field| field.split_once(':')) {
            let renamed = attributes.split("rename = \"").nth(1).and_then(|rest| rest.split('"').next());
            if !attributes.contains("serde(skip)") {
                keys.insert(renamed.unwrap_or(key).to_owned());
            }
            attributes.clear();
        }
    }
    keys
}

#[test]
fn the_tables_of_blocks_have_every_key() {
    let tables = [
        ("## Mappings", "src/config/mapping.rs", "MappingConfig"),
        ("## Near cache", "src/config/near.rs", "NearConfig"),
        ("## Users", "src/config/user.rs", "UserConfig"),
    ];
    for (heading, source, name) in tables {
        let documented: BTreeSet<String> = rows("docs/OPERATIONS.md", heading)
            .iter()
            .flat_map(|row| quoted(&row[0]).map(str::to_owned).collect::<Vec<_>>())
            .collect();
        assert_eq!(documented, keys_of(source, name), "{heading}");
    }
}

#[test]
fn the_table_of_admin_routes_is_that_of_the_code() {
    let text = read("src/admin/mod.rs");
    let (behind_the_token, open) = text.split_once("authorized))").expect("a layer that asks for the token");
    let routes = |text: &str, token: &str| -> Vec<[String; 2]> {
        let found = text.split(".route(\"").skip(1).filter_map(|piece| piece.split_once("\", "));
        let name = |(path, handler): (&str, &str)| {
            let method = handler.split('(').next().expect("a method").to_ascii_uppercase();
            [format!("`{method} {path}`"), token.to_owned()]
        };
        found.map(name).collect()
    };
    let mut known: BTreeSet<_> =
        routes(behind_the_token, "required").into_iter().chain(routes(open, "never")).collect();
    known.extend(routes(&read("src/admin/api.rs"), "required"));
    known.extend(routes(&read("src/admin/actions.rs"), "a token alone"));
    let row = |row: &Vec<String>| [row[0].clone(), row[2].clone()];
    let documented: BTreeSet<_> = rows("docs/OPERATIONS.md", "## The admin port").iter().map(row).collect();
    assert!(known.len() > 4, "{known:?}");
    assert_eq!(documented, known);
}

#[test]
fn the_limits_that_are_counted_are_documented() {
    let documented: BTreeSet<String> = rows("docs/OPERATIONS.md", "### Limits that are counted")
        .iter()
        .flat_map(|row| quoted(&row[0]).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let mut known = BTreeSet::new();
    for name in files(&["src"]).into_iter().filter(|name| name.ends_with(".rs")) {
        let text = read(&name);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for piece in [".limited(\"", ".cut(&peer, \"", ".cut(peer, \""].iter().flat_map(|call| code.split(call).skip(1))
        {
            known.insert(piece.split('"').next().unwrap_or_default().to_owned());
        }
    }
    // What a request is past, and what a client was past for too long, are named where that is judged.
    for (source, function, end) in
        [("src/resp/request.rs", "fn limit(", "\n    }\n"), ("src/server/reaper.rs", "fn overdue(", "\n}\n")]
    {
        let text = read(source);
        let body = text.split(function).nth(1).and_then(|rest| rest.split(end).next());
        let body = body.unwrap_or_else(|| panic!("{source} has no {function}"));
        known.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
    }
    assert_eq!(documented, known);
}

/// The names with which the code registers its metrics; those by mapping are not shown before there are mappings.
fn registered() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for text in files(&["src/telemetry/metrics"]).iter().map(|name| read(name)) {
        let calls = [".counter(", ".gauge(", ".family(", ".family_of(", ".seconds(", ".seconds_counter("];
        for behind in calls.iter().flat_map(|call| text.split(call).skip(1)) {
            let name = behind.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
            names.extend(name.map(str::to_owned));
        }
    }
    names
}

#[test]
fn the_table_of_metrics_is_that_of_the_code() {
    let text = Metrics::default().render(Format::OpenMetrics);
    let shown: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE hearthside_")?.split_once(' ')).collect();
    let mut documented = BTreeSet::new();
    for row in rows("docs/OPERATIONS.md", "## Probes and metrics") {
        let name = quoted(&row[0]).next().unwrap_or_else(|| panic!("{row:?}"));
        let (name, has_labels) = name.split_once('{').map_or((name, false), |(name, _)| (name, true));
        let name = name.strip_prefix("hearthside_").unwrap_or_else(|| panic!("{row:?}"));
        assert_eq!(name.ends_with("_total"), row[1] == "counter", "{row:?}");
        let name = name.trim_end_matches("_total");
        let is_shown = shown.contains(&(name, row[1].as_str()));
        assert!(is_shown || has_labels, "{row:?}: there is no such metric of this kind");
        documented.insert(name.to_owned());
    }
    let known = registered();
    assert!(known.len() > 40);
    assert_eq!(documented.difference(&known).collect::<Vec<_>>(), [""; 0], "no such metric");
    assert_eq!(known.difference(&documented).collect::<Vec<_>>(), [""; 0], "docs/OPERATIONS.md does not name them");
}

/// Every setting, metric and test that the table "What can grow" names is there.
#[test]
fn what_can_grow_has_a_bound_and_a_metric() {
    let (settings, metrics, tests) = (settings(), registered(), tests());
    let rows = rows("docs/OPERATIONS.md", "## What can grow, and its bound");
    assert!(rows.len() > 20);
    for row in &rows {
        let [_, bound, metric, at_the_bound, test] = &row[..] else { panic!("{row:?}") };
        assert!(!bound.is_empty() && !at_the_bound.is_empty() && metric.starts_with("`hearthside_"), "{row:?}");
        for name in quoted(bound).filter(|name| name.contains('.')) {
            assert!(settings.contains(name), "there is no setting {name}");
        }
        for name in quoted(metric) {
            let short = name.trim_start_matches("hearthside_").trim_end_matches("_total");
            assert!(metrics.contains(short), "there is no metric {name}");
        }
        for name in quoted(test) {
            assert!(tests.contains(&format!("fn {name}(")), "there is no test {name}");
        }
    }
}

/// The constants behind the bounds that are no settings: where each stands, and how the table writes it.
const BOUNDS: [(&str, &str, &str); 19] = [
    ("src/near/front.rs", "PLACES: usize = 512", "512 replies"),
    ("src/near/front.rs", "LONGEST: usize = 2 << 10", "at most 2 KiB"),
    ("src/upstream/pipeline/client_window.rs", "FIRST_ASKED: usize = 32", "32 requests before its first reply"),
    ("src/upstream/pipeline/client_window.rs", "KNOWN_ASKED: usize = 512", "then 512"),
    ("src/upstream/pipeline/client_window.rs", "MOST_ASKED: usize = 8 * 1024", "up to 8,192"),
    ("src/upstream/pipeline/client_window.rs", "MOST_EXPECTED: usize = 1 << 20", "1 MiB, judged by the length"),
    ("src/upstream/pipeline/arrivals.rs", "ENOUGH: usize = 256 * 1024", "256 KiB here"),
    ("src/upstream/pipeline/lanes.rs", "MOST_GROUPS: usize = 32", "32 groups for each worker"),
    ("src/cache/memory/thread_cache.rs", "MOST: usize = 32 * 1024", "32,768 keys"),
    ("src/cache/memory/thread_cache.rs", "MOST_BYTES: usize = 32 << 20", "32 MiB"),
    ("src/cache/memory/thread_cache.rs", "LONG: usize = 1 << 20", "none longer than 1 MiB"),
    ("src/dispatch/listing/scans.rs", "MOST: usize = 10_000", "10,000, an hour"),
    ("src/dispatch/listing/scans.rs", "LIFE: u64 = 3_600_000", "10,000, an hour"),
    ("src/cache/resting_rows.rs", "MOST: usize = 10_000", "10,000 rows of each mapping"),
    ("src/cache/write_behind/expiry.rs", "MOST_WAITING: usize = 65_536", "65,536"),
    ("src/cache/memory/own_writes.rs", "MOST: usize = 100_000", "100,000, a minute"),
    ("src/cache/memory/own_writes.rs", "KEPT: u64 = 60_000", "100,000, a minute"),
    ("src/server/client/replies.rs", "MOST_ENTRIES: usize = 1024", "1,024 for each client"),
    ("src/server/listen.rs", "BACKLOG: u32 = 4096", "the backlog (of 4096)"),
];

#[test]
fn the_bounds_that_are_no_settings_are_those_of_the_code() {
    let document = read("docs/OPERATIONS.md");
    for (source, constant, written) in BOUNDS {
        assert!(read(source).contains(&format!("const {constant};")), "{source} has no {constant}");
        assert!(document.contains(written), "docs/OPERATIONS.md does not say \"{written}\"");
    }
}

/// The names of an enum's variants that carry nothing.
fn variants(source: &str, name: &str) -> Vec<String> {
    let text = read(source);
    let body = text.split(&format!("pub enum {name} {{")).nth(1).and_then(|rest| rest.split("\n}").next());
    let lines = body.unwrap_or_else(|| panic!("{source} has no {name}")).lines().map(str::trim);
    lines
        .filter(|line| !line.starts_with("//") && !line.is_empty())
        .map(|line| line.trim_end_matches(',').to_owned())
        .collect()
}

#[test]
fn routes_and_outcomes_of_commands_are_documented() {
    let operations = read("docs/OPERATIONS.md");
    let said =
        operations.split("Routes of `hearthside_commands_total`").nth(1).and_then(|rest| rest.split("###").next());
    let said: Vec<&str> = quoted(said.expect("the sentences")).collect();
    let labels = [("commands.rs", "RouteLabel"), ("labels.rs", "Outcome"), ("command_family.rs", "CommandFamily")];
    for name in labels.iter().flat_map(|(file, name)| variants(&format!("src/telemetry/metrics/{file}"), name)) {
        let label = name.to_lowercase();
        assert!(said.contains(&label.as_str()), "{label} is not documented");
    }
}

/// The configurations that a document shows: blocks of TOML, and files that a shell block writes.
fn configurations(document: &str) -> Vec<String> {
    let text = read(document);
    let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let files = text.split(".toml <<'EOF'\n").skip(1).filter_map(|rest| rest.split("\nEOF\n").next());
    blocks.chain(files).map(str::to_owned).collect()
}

#[test]
fn the_configurations_that_documents_show_are_read_without_a_fault() {
    let mut documents = files(&["docs/recipes"]);
    documents.extend(["README.md", "docs/OPERATIONS.md", "docs/ADOPTION.md"].map(str::to_owned));
    let shown: Vec<String> = documents.iter().flat_map(|document| configurations(document)).collect();
    assert!(shown.len() >= 11, "{shown:#?}");
    for text in shown {
        let loaded = hearthside::config::read("shown.toml", &text, std::iter::empty());
        assert!(loaded.faults.is_empty(), "{text}\n{}", loaded.faults);
    }
}
