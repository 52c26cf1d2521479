//! Errors about MULTI, EXEC and what is queued between them. What begins with EXECABORT has done nothing.

/// EXEC after a reload that changed the mappings, the client's rules or `security.deny`, or after HEARTHSIDE MODE.
pub const OUTDATED: &str = "EXECABORT hearthside: the configuration was reloaded inside this transaction, or a mapping \
    has another mode; nothing was done, send it again";

/// The upstream connection ended before this command was queued.
pub const LOST: &str = "ERR hearthside: the upstream connection of this transaction was lost";
/// It ended before EXEC was sent.
pub const LOST_BEFORE_EXEC: &str =
    "EXECABORT hearthside: the upstream connection of this transaction was lost; nothing of it was done";
/// It ended, or gave no reply in time, when EXEC was on its way.
pub const LOST_AT_EXEC: &str =
    "ERR hearthside: the upstream connection of this transaction was lost; the transaction may have been applied";
/// The same for a transaction that also writes owned keys.
pub const LOST_AT_EXEC_WITH_WRITES: &str = "ERR hearthside: the upstream connection of this transaction was \
    lost; its writes to owned keys were not done, the rest may have been applied";

/// A command whose keys are not where those of the others are, behind a cluster.
pub fn in_another_slot(command: &str) -> String {
    format!(
        "CROSSSLOT hearthside: the keys of {command} are in another slot of the upstream's cluster than those of the \
         transaction, and no node has both; give them a common {{tag}}"
    )
}

/// The slot of a transaction's keys has moved, and what was queued is too long to be queued again.
pub const MOVED: &str = "TRYAGAIN hearthside: the keys of this transaction have moved to another node of the \
    upstream's cluster; nothing was done, send the transaction again";

/// EXEC at a node that does not have the keys any more, and `why` it was not run elsewhere.
pub fn not_run(why: &str) -> String {
    format!("EXECABORT hearthside: nothing of the transaction was done, send it again: {why}")
}

/// The store could not do its part, so the upstream's part did not run either; `why` is the store's reason.
pub fn nothing_done(why: &str) -> String {
    format!("ERR hearthside: nothing of the transaction was done: {why}")
}

/// The same where the store takes reads only.
pub fn takes_reads_only(why: &str) -> String {
    format!("READONLY hearthside: nothing of the transaction was done: {why}")
}

/// The upstream's part was done, the store's was not, or its answer was lost; `why` is the store's reason.
pub fn store_part_failed(why: &str) -> String {
    format!("ERR hearthside: the store's part of the transaction failed: {why}")
}

// What cannot be queued.

/// DEL, UNLINK, EXISTS, TOUCH or MGET over both kinds of keys: it would run half here and half there.
pub fn both_kinds(command: &str) -> String {
    let command = command.to_ascii_uppercase();
    format!(
        "ERR hearthside: {command} over owned and pass-through keys is not supported inside MULTI; send one command \
         for each kind"
    )
}

/// SUBSCRIBE and related commands over a connection that carries nothing else.
pub fn shared_subscription(command: &str) -> String {
    let command = command.to_ascii_uppercase();
    format!("ERR hearthside: {command} is not supported inside MULTI with pubsub.mode = \"shared\" or behind a cluster")
}

/// AUTH, where another login means other connections.
pub const AUTH: &str = "ERR hearthside: AUTH is not supported inside MULTI with auth.mode = \"upstream\"";
/// HELLO with AUTH, for the same reason.
pub const HELLO_AUTH: &str = "ERR hearthside: HELLO with AUTH is not supported inside MULTI";
/// CLIENT TRACKING to another client, whose id would have to be translated.
pub const TRACKING_REDIRECT: &str = "ERR hearthside: CLIENT TRACKING with REDIRECT is not supported inside MULTI";
/// CLIENT TRACKING behind a cluster, which begins at every node.
pub const TRACKING: &str = "ERR hearthside: CLIENT TRACKING is not supported inside MULTI behind a cluster: it begins \
    at every node, and a transaction runs on one";
/// PUBLISH to a channel of the client's own.
pub const OWN_MESSAGE: &str = "ERR hearthside: publishing inside MULTI to a channel that the client itself is \
    subscribed to is not supported: the message would stand between the elements of EXEC's reply";
/// The one command that pushes something besides its reply.
pub const DEBUG_PUSH: &str = "ERR hearthside: DEBUG PROTOCOL PUSH is not supported inside MULTI: its push would \
    stand between the elements of EXEC's reply";
/// What a replica says of itself: the connection of a transaction is lent to others afterwards.
pub const REPLCONF: &str = "ERR hearthside: REPLCONF is not supported inside MULTI";
/// What is no command at all.
pub const NOT_A_COMMAND: &str = "ERR hearthside: not a command";
/// At EXEC, a command that needs the whole client for itself.
pub const NOT_INSIDE_EXEC: &str = "ERR hearthside: the command cannot run inside EXEC";
