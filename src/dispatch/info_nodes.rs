//! One INFO of all masters of a cluster: the text of the first one, in which numbers that count what servers have or do
//! are the sums of all, and which speaks of a server that is no cluster.

use std::collections::BTreeMap;

/// Lines whose numbers are added up.
const SUMS: &[&str] = &[
    "blocked_clients",
    "total_blocking_keys",
    "used_memory",
    "used_memory_rss",
    "used_memory_peak",
    "used_memory_overhead",
    "used_memory_startup",
    "used_memory_dataset",
    "used_memory_lua",
    "used_memory_scripts",
    "used_memory_functions",
    "used_memory_vm_eval",
    "used_memory_vm_functions",
    "maxmemory",
    "rdb_changes_since_last_save",
    "total_commands_processed",
    "instantaneous_ops_per_sec",
    "total_net_input_bytes",
    "total_net_output_bytes",
    "instantaneous_input_kbps",
    "instantaneous_output_kbps",
    "expired_keys",
    "evicted_keys",
    "keyspace_hits",
    "keyspace_misses",
    "total_error_replies",
    "total_reads_processed",
    "total_writes_processed",
    "dump_payload_sanitizations",
    "used_cpu_sys",
    "used_cpu_user",
    "used_cpu_sys_children",
    "used_cpu_user_children",
];

/// The same as people read them, beside the line with the number.
const HUMAN: &[&str] = &[
    "used_memory",
    "used_memory_rss",
    "used_memory_peak",
    "used_memory_lua",
    "used_memory_scripts",
    "used_memory_vm_total",
    "maxmemory",
];

/// Lines that would tell a client that the server is a cluster's.
const PLAIN: &[(&str, &str)] = &[("redis_mode", "standalone"), ("server_mode", "standalone"), ("cluster_enabled", "0")];

/// Sections with a line for each of something, which other masters may have more of: `name:key=number,...`.
const TABLES: &[(&str, &str)] = &[("# Keyspace", "db"), ("# Commandstats", "cmdstat_"), ("# Errorstats", "errorstat_")];

/// The texts of all masters as one.
pub(super) fn joined(texts: &[Vec<u8>]) -> Vec<u8> {
    let texts: Vec<String> = texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    let mut out = String::new();
    for line in texts.first().map(String::as_str).unwrap_or_default().lines() {
        if TABLES.iter().any(|(_, prefix)| is_row(line, prefix)) {
            continue;
        }
        out.push_str(&joined_line(line, &texts));
        out.push_str("\r\n");
        if let Some((_, prefix)) = TABLES.iter().find(|(header, _)| *header == line) {
            table(prefix, &texts, &mut out);
        }
    }
    out.into_bytes()
}

/// True for a row of such a table.
fn is_row(line: &str, prefix: &str) -> bool {
    line.split_once(':').is_some_and(|(name, rest)| name.starts_with(prefix) && rest.contains('='))
}

fn joined_line(line: &str, texts: &[String]) -> String {
    let Some((name, value)) = line.split_once(':') else { return line.to_owned() };
    if let Some((_, plain)) = PLAIN.iter().find(|(known, _)| *known == name) {
        return format!("{name}:{plain}");
    }
    if let Some(of) = name.strip_suffix("_human").filter(|of| HUMAN.contains(of) && SUMS.contains(of)) {
        return format!("{name}:{}", human(sum(of, texts)));
    }
    match SUMS.contains(&name) {
        true => format!("{name}:{}", number(sum(name, texts), value)),
        false => line.to_owned(),
    }
}

/// The value of this line in all texts.
fn sum(name: &str, texts: &[String]) -> f64 {
    let of_text = |text: &String| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.parse::<f64>().ok()
    };
    texts.iter().filter_map(of_text).sum()
}

/// A number, with as many places as `like`.
fn number(number: f64, like: &str) -> String {
    let places = like.split_once('.').map_or(0, |(_, places)| places.len());
    format!("{number:.places$}")
}

/// As servers write it (`bytesToHuman`).
fn human(bytes: f64) -> String {
    let mut rest = bytes;
    for unit in ["B", "K", "M", "G", "T"] {
        if rest < 1024.0 || unit == "T" {
            return if unit == "B" { format!("{rest:.0}B") } else { format!("{rest:.2}{unit}") };
        }
        rest /= 1024.0;
    }
    String::new()
}

/// The rows of all texts, each name once.
fn table(prefix: &str, texts: &[String], out: &mut String) {
    let mut rows: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in texts.iter().flat_map(|text| text.lines()).filter(|line| is_row(line, prefix)) {
        if let Some((name, fields)) = line.split_once(':') {
            rows.entry(name).or_default().push(fields);
        }
    }
    for (name, rows) in rows {
        out.push_str(&format!("{name}:{}\r\n", row(&rows)));
    }
}

/// One row of many: numbers are added up, and means are taken by what they are means of.
fn row(rows: &[&str]) -> String {
    let value = |row: &str, key: &str| {
        let field = row.split(',').find_map(|field| field.strip_prefix(key)?.strip_prefix('='));
        field.and_then(|value| value.parse::<f64>().ok()).unwrap_or_default()
    };
    let total = |key: &str| rows.iter().map(|row| value(row, key)).sum::<f64>();
    let field = |field: &str| {
        let (key, like) = field.split_once('=').unwrap_or((field, ""));
        let joined = match key {
            "usec_per_call" => total("usec") / total("calls").max(1.0),
            "avg_ttl" => {
                let all: f64 = rows.iter().map(|row| value(row, "avg_ttl") * value(row, "expires")).sum();
                all / total("expires").max(1.0)
            }
            key => total(key),
        };
        format!("{key}={}", number(joined, like))
    };
    rows.first().map(|first| first.split(',').map(field).collect::<Vec<_>>().join(",")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn one_text_speaks_of_all_masters() {
        let first = "# Server\r\nredis_mode:cluster\r\nport:1\r\n\r\n# Memory\r\nused_memory:1048576\r\n\
            used_memory_human:1.00M\r\nused_cpu_sys:1.250000\r\n\r\n# Commandstats\r\n\
            cmdstat_get:calls=1,usec=4,usec_per_call=4.00,rejected_calls=0\r\n\r\n# Cluster\r\ncluster_enabled:1\r\n\
            \r\n\
            # Keyspace\r\ndb0:keys=2,expires=1,avg_ttl=100\r\n";
        let other = "# Memory\r\nused_memory:524288\r\nused_cpu_sys:0.250000\r\n# Commandstats\r\n\
            cmdstat_get:calls=3,usec=4,usec_per_call=1.33,rejected_calls=2\r\n\
            cmdstat_set:calls=1,usec=1,usec_per_call=1.00,rejected_calls=0\r\n\
            # Keyspace\r\ndb0:keys=5,expires=3,avg_ttl=200\r\ndb1:keys=1,expires=0,avg_ttl=0\r\n";
        let expected = "# Server\r\nredis_mode:standalone\r\nport:1\r\n\r\n# Memory\r\nused_memory:1572864\r\n\
            used_memory_human:1.50M\r\nused_cpu_sys:1.500000\r\n\r\n# Commandstats\r\n\
            cmdstat_get:calls=4,usec=8,usec_per_call=2.00,rejected_calls=2\r\n\
            cmdstat_set:calls=1,usec=1,usec_per_call=1.00,rejected_calls=0\r\n\r\n# Cluster\r\ncluster_enabled:0\r\n\
            \r\n\
            # Keyspace\r\ndb0:keys=7,expires=4,avg_ttl=175\r\ndb1:keys=1,expires=0,avg_ttl=0\r\n";
        let told = joined(&[first.into(), other.into()]);
        assert_eq!(String::from_utf8_lossy(&told), expected);
    }
}
