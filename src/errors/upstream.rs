//! Errors about connections to the upstream: there is none, or it was lost, before a command was sent or after it.

/// What an error ends with when it is safe to send the command again.
const NOT_SENT: &str = "; the command was not sent";

/// There is no upstream, for the reason `why`.
pub fn absent(why: &str) -> String {
    format!("ERR hearthside: {why}")
}

/// Why there is none: none is configured, and none is installed.
pub const NOT_INSTALLED: &str = "there is no upstream Redis for this command: set upstream.url \
    (HEARTHSIDE__UPSTREAM__URL=redis://host:6379), or install redis-server or valkey-server (apt install redis-server) \
    and start again";

/// There was no connection within `upstream.queue_timeout`, or the upstream has been away for `upstream.breaker_after`.
pub fn unreachable(upstream: &str, why: &str) -> String {
    format!("LOADING hearthside: the upstream {upstream} does not answer: {why}; the command was not sent")
}

/// This process, or its machine, may open no more files; `lack` says which limits those are.
pub fn no_files(lack: &str) -> String {
    format!("LOADING hearthside: no connection to the upstream can be opened: {lack}; the command was not sent")
}

/// The upstream has as many clients as it may have.
pub fn full(upstream: &str) -> String {
    format!(
        "LOADING hearthside: the upstream {upstream} has reached its own maxclients; raise it there, or lower \
         upstream.pinned_max or upstream.lanes here; the command was not sent"
    )
}

/// Every connection that may be lent to one client alone is lent, and none came back in time.
pub fn all_pinned(most: usize) -> String {
    format!(
        "ERR hearthside: all {most} pinned connections are in use (upstream.pinned_max) and none came free within \
         upstream.pinned_timeout; the command was not sent"
    )
}

/// The client, or the sidecar, is being closed.
pub const CLOSING: &str = "LOADING hearthside: the connection is being closed; the command was not sent";
/// The node of a cluster is gone, or has failed.
pub const RETIRED: &str =
    "LOADING hearthside: the node is not of the upstream's cluster any more; the command was not sent";
/// The upstream was one server when the command came, and is a cluster now.
pub const IS_CLUSTER: &str = "LOADING hearthside: the upstream has become a cluster; the command was not sent";
/// A command concerns several nodes of a cluster, and none has answered yet.
pub const NODES_UNKNOWN: &str =
    "LOADING hearthside: the nodes of the upstream's cluster are not known yet; the command was not sent";
/// `upstream.url` leads to no cluster any more, and a command was to be answered by all of its nodes.
pub const NO_CLUSTER: &str = "ERR hearthside: the upstream was replaced in the middle of the command; begin again";
/// The keys of a command are in several slots of a cluster.
pub fn several_slots(command: &str) -> String {
    format!(
        "CROSSSLOT hearthside: the keys of {command} are in several slots of the upstream's cluster, and {command} \
         cannot be split; give them a common {{tag}}, or ask for them one by one"
    )
}

/// The same of a command that could be split, if it need not happen at once.
pub fn not_at_once(command: &str) -> String {
    format!(
        "CROSSSLOT hearthside: the keys of {command} are in several slots of the upstream's cluster, where they \
         cannot be changed at once; give them a common {{tag}}, or set upstream.cluster_split = true if each slot may \
         be changed by itself"
    )
}

/// A command of a transaction concerns more than one node of a cluster.
pub fn several_nodes(command: &str) -> String {
    format!(
        "ERR hearthside: {command} concerns several nodes of the upstream's cluster, and a transaction runs on one; \
         send it outside of MULTI"
    )
}

/// A client asks for the nodes of a cluster.
pub const NO_CLUSTER_HERE: &str = "ERR This instance has cluster support disabled (hearthside: use a plain client; the \
    sidecar follows the nodes of the upstream's cluster itself)";

/// A very long request was passed on as it came, to a node that did not have its keys any more.
pub const PASSED_ON: &str = "TRYAGAIN hearthside: the keys of this long request have moved to another node of the \
    upstream's cluster; nothing was done, send it again";

/// Nodes have sent a command to each other for `upstream.queue_timeout`, and none has carried it out.
pub const UNSETTLED: &str = "TRYAGAIN hearthside: the nodes of the upstream's cluster do not agree which of them has \
    the keys of the command (see CLUSTER NODES of each); nothing was done, send it again";

/// SYNC, PSYNC and REPLCONF behind a cluster.
pub const NO_REPLICA_OF_ALL: &str = "ERR hearthside: the upstream is a cluster, and no replica follows all of its \
    nodes: connect to each node itself";

/// As much waits on the client's lane as may.
pub const QUEUE_FULL: &str =
    "LOADING hearthside: too much waits for the upstream (upstream.queue_bytes); the command was not sent";
/// The client's own connection ended before the command was sent.
pub const LOST_UNSENT: &str = "LOADING hearthside: the upstream connection was lost; the command was not sent";
/// The connection ended after the command was sent: a write, or a read that was lost twice.
pub const LOST: &str =
    "ERR hearthside: the upstream connection was lost before the reply; the command may have been applied";
/// The upstream was silent for `upstream.command_timeout` after the command was sent.
pub const TIMED_OUT: &str =
    "ERR hearthside: the upstream gave no reply within upstream.command_timeout; the command was not sent again";
/// The connection that a blocking command waited on alone ended.
pub const LOST_WAITING: &str =
    "ERR hearthside: the upstream connection was lost while waiting; the command may have been applied";
/// The client's own connection ended when the command was to change its state.
pub const LOST_STATE: &str = "ERR hearthside: the upstream connection was lost";
/// Inside EXEC, the rest of a reply that the sidecar gathers did not come.
pub const LOST_IN_REPLY: &str = "ERR hearthside: the upstream connection was lost in the middle of a reply";
/// True if such an error says that the command may have been applied.
#[must_use]
pub fn may_be_applied(error: &str) -> bool {
    [LOST, TIMED_OUT, LOST_IN_REPLY].contains(&error)
}

/// The shared connection of subscribers is away or slow.
pub const NOT_SUBSCRIBED: &str =
    "ERR hearthside: the upstream did not confirm the subscription in time; nothing is subscribed";

/// True for the sidecar's own word instead of a server's reply: the request was not sent, or its reply did not come.
pub fn is_instead(error: &str) -> bool {
    [LOST, TIMED_OUT].contains(&error) || error.starts_with("LOADING") && error.ends_with(NOT_SENT)
}

/// What happened, for logs: such an error without what only a client must know.
pub fn reason(error: &str) -> &str {
    let codes = ["LOADING hearthside: ", "ERR hearthside: "];
    let reason = codes.iter().find_map(|code| error.strip_prefix(code)).unwrap_or(error);
    reason.trim_end_matches(NOT_SENT)
}
