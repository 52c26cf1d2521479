//! The names of attributes, and how values stand in them: those of the conventions where these have one.
//! Source: <https://opentelemetry.io/docs/specs/semconv/db/database-spans/> and its pages about Redis and PostgreSQL

use opentelemetry::KeyValue;

use crate::telemetry::cut;

pub(super) const BATCH_SIZE: &str = "db.operation.batch.size";
pub(super) const CLIENT_ADDRESS: &str = "client.address";
pub(super) const CLIENT_ID: &str = "hearthside.client.id";
pub(super) const CLIENT_NAME: &str = "hearthside.client.name";
pub(super) const CLIENT_PORT: &str = "client.port";
pub(super) const COLLECTION: &str = "db.collection.name";
pub(super) const ERROR_TYPE: &str = "error.type";
pub(super) const FOUND: &str = "hearthside.found";
pub(super) const MAPPING: &str = "hearthside.mapping";
pub(super) const NAMESPACE: &str = "db.namespace";
pub(super) const OPERATION: &str = "db.operation.name";
pub(super) const OUTCOME: &str = "hearthside.outcome";
pub(super) const REASON: &str = "hearthside.reason";
pub(super) const RESPONSE_STATUS: &str = "db.response.status_code";
pub(super) const ROUTE: &str = "hearthside.route";
pub(super) const SERVER_ADDRESS: &str = "server.address";
pub(super) const SERVER_PORT: &str = "server.port";
pub(super) const SYSTEM: &str = "db.system.name";

/// A longer text is cut.
const LONGEST: usize = 256;

/// An attribute whose value others choose.
pub(super) fn text(name: &'static str, value: &str) -> KeyValue {
    KeyValue::new(name, cut(value, LONGEST).to_owned())
}

/// A server, or a client, by `host:port` or the path of its socket.
pub(super) fn place(names: [&'static str; 2], shown: &str) -> Vec<KeyValue> {
    match shown.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) {
        Some((host, port)) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            vec![text(names[0], host), KeyValue::new(names[1], i64::from(port))]
        }
        None if shown.is_empty() => Vec::new(),
        None => vec![text(names[0], shown)],
    }
}

/// A command's name as it stands in spans: `CONFIG GET` for the row `config|get`.
pub(super) fn operation(row: &str) -> String {
    row.replace('|', " ").to_uppercase()
}

/// The code of a reply that is an error: its first word, if that is one of a code.
pub(super) fn error_code(reply: &[u8]) -> Option<String> {
    let line = reply.strip_prefix(b"-")?;
    let word = line.split(|byte| b" \r\n".contains(byte)).next().unwrap_or_default();
    let is_code = (1..=24).contains(&word.len()) && word.iter().all(|byte| byte.is_ascii_uppercase());
    Some(if is_code { String::from_utf8_lossy(word).into_owned() } else { "ERR".into() })
}

#[cfg(test)]
mod tests {
    use super::{error_code, operation, place};

    #[test]
    fn a_place_is_a_host_and_a_port_or_a_path() {
        let of = |shown| place(["a", "p"], shown).iter().map(|it| it.value.to_string()).collect::<Vec<_>>();
        assert_eq!(of("redis:6379"), ["redis", "6379"]);
        assert_eq!(of("[::1]:6379"), ["::1", "6379"]);
        assert_eq!(of("/run/redis.sock"), ["/run/redis.sock"]);
        assert!(of("").is_empty());
    }

    #[test]
    fn of_an_error_only_its_code_is_told() {
        assert_eq!(error_code(b"-WRONGTYPE of secret\r\n").as_deref(), Some("WRONGTYPE"));
        assert_eq!(error_code(b"-secret value\r\n").as_deref(), Some("ERR"));
        assert_eq!(error_code(b"+OK\r\n"), None);
        assert_eq!(operation("config|get"), "CONFIG GET");
    }
}
