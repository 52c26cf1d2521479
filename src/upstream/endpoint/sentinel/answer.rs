//! What is asked of one sentinel, and what it answers.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;

use super::council::View;
use crate::upstream::endpoint::target::Host;

/// What one sentinel says.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) view: View,
    /// Its own id; before Redis 6.2 sentinels do not tell it.
    pub(super) id: Option<String>,
    /// The other sentinels that it knows, with their ids.
    pub(super) others: Vec<(Host, String)>,
}

type Fields = HashMap<String, String>;

/// Asks a sentinel about a service.
///
/// # Errors
/// Why there is no answer, or what is wrong with it.
pub(super) async fn ask(connection: &mut MultiplexedConnection, service: &str) -> Result<Answer, String> {
    let mut questions = redis::pipe();
    // The number first: a failover between the two gives the new master an old number, which counts for less.
    questions.cmd("SENTINEL").arg("MASTER").arg(service);
    questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(service);
    questions.cmd("SENTINEL").arg("SENTINELS").arg(service);
    let asked = questions.query_async::<(Fields, Option<(String, u16)>, Vec<Fields>)>(connection).await;
    let (master, address, others) = asked.map_err(|error| told(&error, service))?;
    let (name, port) = address.ok_or_else(|| unknown(service))?;
    let id = redis::cmd("SENTINEL").arg("MYID").query_async::<String>(connection).await;
    Ok(Answer {
        view: View { master: Host { name, port }, epoch: number(&master, "config-epoch").unwrap_or(0) },
        id: id.ok(),
        others: others.iter().filter_map(other).collect(),
    })
}

fn told(error: &redis::RedisError, service: &str) -> String {
    let text = error.to_string();
    if text.contains("No such master") { unknown(service) } else { text }
}

fn unknown(service: &str) -> String {
    format!("it knows no master of the name '{service}'")
}

fn number<T: std::str::FromStr>(fields: &Fields, name: &str) -> Option<T> {
    fields.get(name)?.parse().ok()
}

fn other(fields: &Fields) -> Option<(Host, String)> {
    let host = Host { name: fields.get("ip")?.clone(), port: number(fields, "port")? };
    Some((host, fields.get("runid")?.clone()))
}
