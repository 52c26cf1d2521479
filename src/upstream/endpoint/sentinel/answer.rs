//! What is asked of one sentinel, and what it answers.

use std::collections::HashMap;

use redis::FromRedisValue;
use redis::aio::MultiplexedConnection;

use super::council::View;
use crate::upstream::endpoint::target::Host;

/// What one sentinel says.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) view: View,
    /// Its own id, if it tells.
    pub(super) id: Option<String>,
    /// The other sentinels that it knows, with their ids.
    pub(super) others: Vec<(Host, String)>,
    /// The master's replicas that it does not take for dead, if they were asked for.
    pub(super) replicas: Vec<Host>,
}

type Fields = HashMap<String, String>;

/// Asks a sentinel about a service.
///
/// # Errors
/// Why there is no answer, or what is wrong with it.
pub(super) async fn ask(connection: &mut MultiplexedConnection, service: &str) -> Result<Answer, String> {
    // The number first: a failover between the two gives the new master an old number, which counts for less.
    let master: Fields = sentinel(connection, "MASTER", service).await?;
    let address: Option<(String, u16)> = sentinel(connection, "GET-MASTER-ADDR-BY-NAME", service).await?;
    let others: Vec<Fields> = sentinel(connection, "SENTINELS", service).await?;
    let (name, port) = address.ok_or_else(|| unknown(service))?;
    Ok(Answer {
        view: View { master: Host { name, port }, epoch: number(&master, "config-epoch").unwrap_or(0) },
        id: None,
        others: others.iter().filter_map(other).collect(),
        replicas: Vec::new(),
    })
}

/// What an error of a user holds who may not ask for replicas.
pub(super) const HIDDEN: &str = "may not ask for the replicas";

/// The replicas of the service's master that a sentinel does not take for dead.
///
/// # Errors
/// Why there is no answer.
pub(super) async fn replicas(connection: &mut MultiplexedConnection, service: &str) -> Result<Vec<Host>, String> {
    let answer = redis::cmd("SENTINEL").arg("REPLICAS").arg(service).query_async(connection).await;
    let all: Vec<Fields> = answer.map_err(|error| match error.code() {
        Some("NOPERM") => format!("its user {HIDDEN}: {error}"),
        _ => in_words(error.to_string()),
    })?;
    let is_dead = |fields: &Fields| fields.get("flags").is_some_and(|flags| flags.contains("s_down"));
    let host = |fields: &Fields| Some(Host { name: fields.get("ip")?.clone(), port: number(fields, "port")? });
    Ok(all.iter().filter(|fields| !is_dead(fields)).filter_map(host).collect())
}

/// The sentinel's own id; before Redis 6.2 they do not tell it, and its user may not ask.
pub(super) async fn own_id(connection: &mut MultiplexedConnection) -> Option<String> {
    redis::cmd("SENTINEL").arg("MYID").query_async(connection).await.ok()
}

/// One question.
async fn sentinel<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    about: &str,
    service: &str,
) -> Result<T, String> {
    let answer = redis::cmd("SENTINEL").arg(about).arg(service).query_async(connection).await;
    answer.map_err(|error| match error.to_string() {
        text if text.contains("No such master") => unknown(service),
        text => in_words(text),
    })
}

/// What a sentinel's refusal means, in an operator's words.
pub(super) fn in_words(text: String) -> String {
    if text.contains("unknown command") {
        "it is no sentinel".to_owned()
    } else if text.contains("NOAUTH") {
        "it wants a password: set upstream.sentinel_password".to_owned()
    } else if text.contains("uthentication failed") || text.contains("WRONGPASS") {
        format!("it does not take upstream.sentinel_username and upstream.sentinel_password ({text})")
    } else {
        text
    }
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
