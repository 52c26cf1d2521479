//! Asks the upstream about its health over a connection of the `redis` crate, which no request of a client uses.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::Endpoint;
use super::asking::open;
use super::cluster;
use super::commands::learn;
use super::greeting::{NAME, NO_MASTER, PING};
use super::not_told::NotTold;
use super::replicas;
use super::sentinel;
use super::target::{Host, Target};
use super::topology::Topology;
use crate::telemetry::metrics::UpstreamMetrics;

/// One INFO, or what comes nearest to it, and before it the sentinels are asked, if there are any. What an operator
/// should know although the upstream answers.
///
/// # Errors
/// Why the upstream does not answer, without secrets, or what its user may not ask without which there is none.
pub async fn probe(topology: &Topology, timeout: Duration) -> Result<Vec<String>, NotTold> {
    let (target, mut doubts) = match topology {
        Topology::Single(target) => (target.clone(), Vec::new()),
        Topology::Hosts(servers) => replicas::find(servers, timeout).await.map_err(NotTold::Silent)?,
        Topology::Sentinels(sentinels) => sentinel::find(sentinels, timeout).await.map_err(NotTold::Silent)?,
        Topology::Cluster(members) => cluster::find(members, timeout).await?,
    };
    let its = |error: String| {
        NotTold::Silent(match topology {
            Topology::Single(_) => error,
            Topology::Hosts(_) => format!("the primary {}: {error}", target.name()),
            Topology::Sentinels(_) => format!("the master {}: {error}", target.name()),
            Topology::Cluster(_) => format!("the node {}: {error}", target.name()),
        })
    };
    let mut connection = open(&target, timeout).await.map_err(its)?;
    let server = server(&mut connection).await.map_err(its)?;
    doubts.extend(server.doubt.filter(|_| matches!(topology, Topology::Single(_))).map(str::to_owned));
    is_right(&mut connection, &target).await.map_err(its)?;
    has_database(&mut connection, topology.db()).await.map_err(its)?;
    if matches!(topology, Topology::Cluster(_)) {
        doubts.extend(no_slots_read(&mut connection).await);
    }
    Ok(doubts)
}

/// Slots that are on their way are read by a command of their own (decision 0036). What fails where the node does not
/// permit it.
async fn no_slots_read(connection: &mut MultiplexedConnection) -> Option<String> {
    // No key of the first slot.
    let asked = redis::cmd("CLUSTER").arg("GETKEYSINSLOT").arg(0).arg(0).query_async::<Value>(connection).await;
    let NotTold::Forbidden(why) = asked.err()?.into() else { return None };
    Some(format!("KEYS and SCAN of clients fail while slots of the cluster move, whose keys cannot be read: {why}"))
}

/// Whether the server has the database of `upstream.url`, which clients begin in.
async fn has_database(connection: &mut MultiplexedConnection, db: i64) -> Result<(), String> {
    if db == 0 {
        return Ok(());
    }
    let selected = redis::cmd("SELECT").arg(db).query_async::<()>(connection).await;
    selected.map_err(|error| format!("database {db} of upstream.url cannot be selected: {error}"))
}

/// What a server is.
struct Server {
    version: String,
    /// A Valkey that has become a replica sends clients on to its primary.
    is_valkey: bool,
    /// It lets us ask INFO.
    may_ask: bool,
    /// What is perhaps not meant, if it is the one server that `upstream.url` leads to.
    doubt: Option<&'static str>,
}

/// What a server in this mode and role, as HELLO tells them, does that is perhaps not meant.
fn doubt(mode: Option<&str>, role: Option<&str>) -> Option<&'static str> {
    match (mode, role) {
        (Some("cluster"), _) => Some(
            "the server is a node of a cluster, which answers commands for the keys of other nodes with MOVED: \
             write redis+cluster:// for the whole cluster",
        ),
        (Some("sentinel"), _) => Some(
            "the server is a sentinel, which has no keys: write redis+sentinel://host:port/service for the master that \
             it watches over",
        ),
        (_, Some("replica" | "slave")) => Some(
            "the server is a replica, which answers writes with READONLY: name its primary, or all of them \
             (redis://host:port,host:port), if that is not meant",
        ),
        _ => None,
    }
}

/// What the upstream is. If it does not let us ask INFO, HELLO tells, which needs no permission.
async fn server(connection: &mut MultiplexedConnection) -> Result<Server, String> {
    let mut hello = hello(connection).await.unwrap_or_default();
    let mut told = |name| redis::from_redis_value::<String>(hello.remove(name)?).ok();
    let (version, is_valkey) = (told("version"), told("server").is_some_and(|server| server == "valkey"));
    let doubt = doubt(told("mode").as_deref(), told("role").as_deref());
    let info = redis::cmd("INFO").arg("server").query_async::<String>(connection).await;
    let (version, may_ask) = match info {
        Ok(info) => {
            let line = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let version = line("valkey_version").or_else(|| line("redis_version"));
            (version.map(|version| version.trim().to_owned()), true)
        }
        Err(error) if is_forbidden(&error) => (version, false),
        Err(error) => return Err(error.to_string()),
    };
    Ok(Server { version: version.unwrap_or_else(|| "unknown".to_owned()), is_valkey, may_ask, doubt })
}

/// The upstream answered that its user may not ask this: it is well.
fn is_forbidden(error: &redis::RedisError) -> bool {
    error.code() == Some("NOPERM")
}

/// What HELLO tells; the name tells monitors that it is ours. Nothing where the server does not know it.
async fn hello(connection: &mut MultiplexedConnection) -> Option<HashMap<String, Value>> {
    redis::cmd("HELLO").arg(2).arg("SETNAME").arg(NAME).query_async(connection).await.ok()
}

/// Whether it is a master, where it must be one; a server that does not tell is believed.
async fn is_right(connection: &mut MultiplexedConnection, target: &Target) -> Result<(), String> {
    if !target.must_be_master {
        return Ok(());
    }
    if is_replica(connection).await { Err(NO_MASTER.to_owned()) } else { Ok(()) }
}

/// It says that it is a replica.
async fn is_replica(connection: &mut MultiplexedConnection) -> bool {
    let role = |mut said: HashMap<String, Value>| redis::from_redis_value::<String>(said.remove("role")?).ok();
    hello(connection).await.and_then(role).is_some_and(|role| role != "master")
}

/// A Valkey that has become a replica says so on a lane, to whoever asks for a key. Clients that have a connection of
/// their own do not get to hear it, and so it is asked, too.
async fn follow_primary(connection: &mut MultiplexedConnection, endpoint: &Endpoint, generation: u64) {
    if !endpoint.may_be_redirected() || !is_replica(connection).await {
        return;
    }
    // Where its user may not ask for that, a lane is told.
    let role = redis::cmd("ROLE").query_async::<Vec<Value>>(connection).await.unwrap_or_default();
    if let [_, name, port, ..] = &role[..]
        && let (Ok(name), Ok(port)) = (redis::from_redis_value_ref(name), redis::from_redis_value_ref(port))
    {
        endpoint.is_redirected(generation, &Host { name, port });
    }
}

async fn ping(connection: &mut MultiplexedConnection, metrics: &UpstreamMetrics) -> Result<(), String> {
    let asked = Instant::now();
    let answer = redis::cmd(PING[0]).arg(PING[1]).query_async::<()>(connection).await;
    let is_forbidden = answer.as_ref().is_err_and(is_forbidden);
    metrics.light.took(asked.elapsed());
    metrics.forbidden.note("PING", is_forbidden);
    if is_forbidden { Ok(()) } else { answer.map_err(|error| error.to_string()) }
}

/// Asks again and again, for ever, and at once when a lane has lost its connection or found the upstream again; keeps
/// `upstream_up` and the version.
pub async fn watch(endpoint: Arc<Endpoint>) {
    let timeout = endpoint.settings.connect_timeout;
    let mut was_up = None;
    loop {
        let (target, generation) = endpoint.location.numbered();
        show(&endpoint, target.as_deref().ok());
        let mut lookout = endpoint.location.lookout(generation);
        // Without any upstream there is none to ask until a reload, or a sentinel, names one.
        let target = match target {
            Ok(target) => target,
            Err(error) => {
                endpoint.metrics.up.set(0);
                endpoint.metrics.light.down(&error.to_string());
                lookout.moved().await;
                continue;
            }
        };
        let asked = async {
            let mut connection = open(&target, timeout).await?;
            is_right(&mut connection, &target).await?;
            stay(&mut connection, &endpoint, (&target, generation), &mut was_up).await
        };
        let up = tokio::select! {
            up = asked => up,
            () = lookout.moved() => Ok(()),
        };
        endpoint.commands.may_be_of_another();
        endpoint.version.may_be_of_another();
        if lookout.has_moved() {
            continue;
        }
        if let Err(error) = up {
            is_up(&endpoint, &target, false);
            endpoint.metrics.light.down(&error);
            endpoint.circuit.is_open();
            if was_up != Some(false) {
                tracing::warn!(upstream = %target.name(), %error, "the upstream does not answer");
                was_up = Some(false);
            }
            if endpoint.location.go_back(generation) {
                tracing::info!("the primary that the upstream named does not answer; upstream.url is tried again");
                continue;
            }
        }
        asked_again(&endpoint, Duration::from_secs(1)).await;
    }
}

/// Waits for so long, or until those who use the upstream have learnt something about it.
async fn asked_again(endpoint: &Endpoint, most: Duration) {
    // The timeout is the other way to go on.
    let _late = tokio::time::timeout(most, endpoint.circuit.is_doubted()).await;
}

/// Of one server, that is shown by itself, too; of several each is (`cluster/watch.rs`, `replicas/watch.rs`).
fn show(endpoint: &Endpoint, target: Option<&Target>) {
    if !endpoint.is_several() {
        let name = target.map(Target::name);
        endpoint.metrics.servers.keep(name.as_slice());
        name.iter().for_each(|name| drop(endpoint.metrics.servers.of(name)));
    }
}

/// Whether this server answers.
fn is_up(endpoint: &Endpoint, target: &Target, is_up: bool) {
    endpoint.metrics.up.set(i64::from(is_up));
    if !endpoint.cluster.is_there() {
        endpoint.metrics.servers.of(&target.name()).up.set(i64::from(is_up));
    }
}

/// Asks over one connection until it fails.
async fn stay(
    connection: &mut MultiplexedConnection,
    endpoint: &Endpoint,
    (target, generation): (&Target, u64),
    was_up: &mut Option<bool>,
) -> Result<(), String> {
    let Server { version, is_valkey, may_ask, doubt } = server(connection).await?;
    endpoint.metrics.forbidden.note("INFO", !may_ask);
    if *was_up != Some(true) {
        tracing::info!(upstream = %target.name(), %version, "the upstream answers");
        if let Some(doubt) = doubt.filter(|_| endpoint.location.is_single()) {
            tracing::warn!(upstream = %target.name(), "{doubt}");
        }
        endpoint.circuit.begin_again();
        *was_up = Some(true);
    }
    endpoint.version.set(version);
    ping(connection, &endpoint.metrics).await?;
    let mut is_learned = false;
    loop {
        is_up(endpoint, target, true);
        endpoint.metrics.light.up();
        is_learned = is_learned || learn(endpoint).await;
        let most = if is_valkey { Duration::from_secs(1) } else { Duration::from_secs(5) };
        asked_again(endpoint, endpoint.settings.ping_interval.min(most)).await;
        ping(connection, &endpoint.metrics).await?;
        is_right(connection, target).await?;
        if is_valkey {
            follow_primary(connection, endpoint, generation).await;
        }
    }
}
