//! What a sidecar may warn of where a test brings it about. Each is a whole message of its log without the fields
//! behind it; `{}` stands for what a message says of the case.

// The machine and the configuration.
pub const FEW_FILES: &str = "too few files may be open for limits.clients and upstream.pinned_max: fewer clients are \
    let in. \
                             Raise the limit (ulimit -n, LimitNOFILE=)";
pub const NO_WATCH: &str =
    "{}: has a ttl and no watch: what changes in the store is seen only after its ttl; name the tables in watch";
pub const NO_SUCH_COMMAND: &str =
    "{}: '{}' is no command that is known, and denies nothing but a module's; did you mean {}?";
pub const FAULTY_RELOAD: &str =
    "SIGHUP: the configuration is faulty and was not reloaded; the old one stays in force, all of it";
pub const NEEDS_A_RESTART: &str = "this setting is changed by a restart only; its old value stays in force";

/// A bug that is planted (`src/telemetry/planted.rs`).
pub const PANICKED: &str = "{} ended in a panic, which is a bug: please report it, with the lines before this one. {}";

pub const COLLECTOR_AWAY: &str =
    "the collector of traces takes no spans; they are lost until it does (traces.endpoint)";

pub const COLLECTOR_REFUSES_SOME: &str = "the collector of traces refuses some spans; they are lost";

// Clients.
pub const SUBSCRIPTION_REFUSED: &str = "the upstream refuses a shared subscription";
pub const NO_ROOM: &str = "a newcomer is refused: the limit is reached";
pub const USER_LIMITED: &str = "a user's limit is reached; what is over is refused";
pub const MAPPING_LIMITED: &str = "a mapping's limit is reached; loads that are over are refused";
pub const NOT_ACCEPTED: &str = "no client can be accepted: {}; those who come wait in the backlog until a file is \
    free, \
                                those who are in go on";
pub const LOGIN_REFUSED: &str = "a login was refused";
pub const DOES_NOT_READ: &str = "a client did not read what waits for it, or holds too much, and is disconnected";
pub const DOES_NOT_READ_MESSAGES: &str = "a client did not read its messages and is disconnected";
pub const SPEAKS_HTTP: &str =
    "a client speaks HTTP (POST or Host:), perhaps somebody's browser was made to; it is closed";
pub const CUT_AT_THE_END: &str = "some clients did not end in time and are cut";
pub const ADMIN_REFUSED: &str = "the admin port refused a request: {}; more of them are only counted for a minute";

// The upstream.
pub const COMMAND_UNREADABLE: &str =
    "the upstream's answer to COMMAND cannot be read; the built-in command table is used until it can";
pub const UNVERIFIED: &str = "{}: nothing of the upstream is verified, and whoever stands between can read and change \
    everything; a server that nobody vouches for can be verified by its fingerprint";
pub const NODE_SILENT: &str = "a node of the cluster does not answer; it is asked again and again";
pub const STRANGER: &str = "a node belongs to another cluster than the others, or to none any more; it is left out, \
    and nothing is sent to it";
pub const LOGIN_UNKNOWN: &str = "a node of the cluster does not take a login that the home takes; its requests are \
    answered with that error, and its clients stay: give all nodes the same users";
pub const NODE_FAILED: &str = "a node of the cluster has failed, and another one has its slots";
pub const SLOTS_UNOWNED: &str = "slots of the cluster have no owner: commands for their keys are answered with \
    CLUSTERDOWN; `redis-cli --cluster fix` gives them one";
pub const SENTINEL_MUTE: &str = "a sentinel does not let its user subscribe to its events: failovers are noticed within \
    a second only, and writes that the old master takes meanwhile are lost";
pub const SENTINEL_HIDES: &str = "a sentinel does not let its user ask for the replicas (+sentinel|replicas): those that \
    no other one tells of are not read";
pub const SENTINEL_SILENT: &str = "a sentinel does not answer; it is tried again and again";
pub const SENTINELS_SILENT: &str =
    "no sentinel answers; the last master stays in use, and a failover is noticed when one answers again";
pub const REPLICA_SILENT: &str =
    "a server of the upstream does not tell of its replication; it is asked again and again";
pub const NEAR_WITHOUT_EFFECT: &str =
    "{}: has no effect, because auth.mode is \"upstream\": what one user may read another may not";
pub const NEAR_SILENT: &str = "the upstream does not tell what changes (CLIENT TRACKING): keys of [[near]] are read \
    there until it does";
pub const LANE_LOST: &str = "a lane lost its connection";
pub const LANE_CLOSED: &str = "a lane cannot be connected";
pub const NOT_OPENED: &str = "a lane or pinned connection cannot be opened";
pub const UPSTREAM_SILENT: &str = "the upstream does not answer";
pub const UPSTREAM_IS_A_NODE: &str = "the server is a node of a cluster, which answers commands for the keys of other \
    nodes with MOVED: write redis+cluster:// for the whole cluster";
pub const UPSTREAM_IS_A_SENTINEL: &str = "the server is a sentinel, which has no keys: write \
    redis+sentinel://host:port/service for the master that it watches over";
pub const UPSTREAM_IS_A_REPLICA: &str = "the server is a replica, which answers writes with READONLY: name its primary, \
    or all of them (redis://host:port,host:port), if that is not meant";
pub const PINNED_SILENT: &str = "a pinned connection gave no reply within upstream.command_timeout";
pub const OWN_CONNECTION_LOST: &str =
    "a client's own upstream connection was lost, and its subscriptions or tracking with it; the client is closed";
pub const SUBSCRIBED_AGAIN: &str =
    "a subscriber's upstream connection was lost; it is subscribed again, and may have missed messages";
pub const SUBSCRIBER_REFUSED: &str = "the upstream refuses a subscriber; it is closed";
pub const SHARED_SUBSCRIBER_DOWN: &str =
    "the shared subscriber connection is down; messages are missed until it is back";
pub const HELD_BACK: &str = "commands for the upstream are held back (HEARTHSIDE PAUSE)";
pub const NOT_PERMITTED: &str =
    "the user of upstream.url may not run this command at the upstream; the sidecar does without its answer";
pub const NO_UPSTREAM: &str = "owned keys are served; pass-through commands are answered with this error";
pub const PRIVATE_ENDED: &str = "the private redis-server ended; it is started again";
pub const PRIVATE_STILL_SAVES: &str =
    "the private redis-server has not ended in time and is left to finish saving; the next start waits for it";
pub const PRIVATE_LEFT: &str = "a private redis-server was left behind by a sidecar that was killed; it is ended";
pub const PRIVATE_IS_WAITED_FOR: &str = "waiting for the private redis-server that was left behind to save and end";

/// The upstream cannot be reached, or connections to it end.
pub const UPSTREAM_AWAY: &[&str] = &[
    COMMAND_UNREADABLE,
    LANE_LOST,
    LANE_CLOSED,
    NOT_OPENED,
    UPSTREAM_SILENT,
    PINNED_SILENT,
    OWN_CONNECTION_LOST,
    SUBSCRIBED_AGAIN,
];

// The store.
pub const WAITING_FOR_THE_STORE: &str = "waiting for the store; commands on keys that need it are answered LOADING";
pub const WAITING_WITH_A_CLOSED_PORT: &str = "waiting for the store; the port stays closed (server.wait_for_store)";
pub const STORE_SILENT: &str = "the store does not answer; keys that are not in memory get an error at once";
pub const STORE_MOVED: &str = "the store is another of its hosts from now on; what is in memory is forgotten";
pub const NO_STANDBY: &str = "no standby of store.read_url can be read; loads go to the primary";
pub const STORE_HEALTH: &str = "the store's health changed";
pub const IS_A_STANDBY: &str = "the store is a hot standby: reads only. Writes are refused, deferred writes wait in the \
    journal, and no changes are told, until it is promoted";
pub const IS_READ_ONLY: &str = "the store takes reads only (default_transaction_read_only). Writes are refused, and \
    deferred writes wait in the journal, until the setting is off";
pub const NO_WARM_START: &str = "no warm start: its file is of no use";
pub const NOT_WARM_YET: &str = "warm start: keys that were hot before cannot be loaded yet; they are tried again";
pub const NOT_NOTED: &str = "the hot keys cannot be noted (cache.warm)";
pub const OTHER_MODE: &str = "a mapping has another mode";
pub const LOAD_FAILED: &str = "a load failed";
pub const WRITE_FAILED: &str = "a write failed";
pub const COMMIT_FAILED: &str = "the store's part of a transaction failed";
pub const DEFINITIONS_NOT_LOADED: &str = "definitions could not be loaded; the last good version stays";
pub const AUDIT_LOST: &str = "the audit log cannot be written; its lines are lost";
pub const STALE: &str = "a stale record was served: the store holds something else and no change was told; \
                         check the triggers (`hearthside check --connect`). It is forgotten";
pub const NO_TRIGGERS: &str = "change triggers are missing: changes of this mapping are noticed only {}; \
                               `hearthside check --connect` says what to do";
pub const UNTOLD: &str = "not every change of this mapping is told: it is noticed only {}; \
                          `hearthside check --connect` says what to do";
pub const TRIGGER_FAILED: &str = "a change trigger failed, and everything of the mapping is taken as changed: has the \
                                  table changed? `hearthside check --connect`, `hearthside triggers --install`";
pub const NOTICE_UNREADABLE: &str = "what a change trigger has told cannot be read; everything is taken as changed";
pub const FEED_LOST: &str = "changes may be missed; the cache is emptied when the change feed is back";
pub const FEED_CLOSED: &str = "the change feed cannot be connected; it is tried again";
pub const UNFIT: &str = "a mapping does not fit the store's schema: {}; everything else is served. It is tried again \
                         every few seconds";
pub const UNPLANNED: &str = "a mapping's tables could not be looked at (is one locked?): its keys are answered with an \
                             error; everything else is served. It is tried again every few seconds";
pub const FILE_REPLACED: &str = "the store's file was replaced by another one, which is opened";
pub const LOG_REMOVED: &str = "the write-ahead log of the store's file was removed while it is in use; what it held is \
    in the file, which is opened again";
pub const LOG_OF_OTHERS: &str = "the write-ahead log of the store's file was removed while it is in use, and another \
    program has written to the file since: of what was written last some may be missing. If `rescued` names a file, \
    it is a copy of all that the removed log knew";
pub const NOT_OPENED_AGAIN: &str = "the store's file is not opened again: nothing is read or written";
pub const ZONE_UNCLEAR: &str = "the column '{}' is a timestamp without time zone, and {}: it is read as {}; \
                                make it a timestamptz, or say its zone (store.timezone)";
pub const NO_ORDER: &str = "the elements of the list may come in another order each time: the query has no ORDER BY";
pub const NO_INDEXES: &str = "'{}' is a view or a virtual table, and no index keeps its rows apart: a key that has \
                              several rows is an error when it is read";
pub const NOT_SWEPT: &str = "rows of keys that have ended cannot be removed now";

/// The store cannot be asked, and does not say what changes.
pub const STORE_AWAY: &[&str] = &[
    STORE_SILENT,
    STORE_HEALTH,
    LOAD_FAILED,
    WRITE_FAILED,
    COMMIT_FAILED,
    DEFINITIONS_NOT_LOADED,
    FEED_LOST,
    FEED_CLOSED,
    NOT_SWEPT,
];

/// The store is a hot standby, or was one a moment ago.
pub const READS_ONLY: &[&str] = &[IS_A_STANDBY, IS_READ_ONLY, FEED_CLOSED, DEFERRED_WAIT, DEFERRED_STAY];

/// The store is not there at the start.
pub const STORE_LATE: &[&str] =
    &[WAITING_FOR_THE_STORE, WAITING_WITH_A_CLOSED_PORT, STORE_HEALTH, FEED_LOST, FEED_CLOSED];

// Deferred writes.
pub const JOURNAL_FULL: &str = "deferred writes are refused until the journal has room";
pub const DEFERRED_WAIT: &str = "deferred writes wait: the store does not take them";
pub const DEFERRED_REFUSED: &str = "deferred writes of a mapping are refused: the store could not save them. \
                                    Everything else is served. It is looked at again every few seconds";
pub const NOT_WRITABLE: &str = "a mapping may not be written: the role of store.url lacks a right. Writes are answered \
    with the store's error, deferred ones wait, and its keys are read. It is looked at again every few seconds";
pub const DEFERRED_STAY: &str = "deferred writes stay in the journal until the next start";
pub const STORE_TOO_SLOW: &str = "the store was too slow; deferred writes stay in the journal until the next start";
pub const PUT_ASIDE: &str = "what the store refuses of deferred writes is put aside (mapping and reason are those of \
    the first key); \
     `hearthside journal` shows it, and sends it again or removes it while no sidecar runs";
pub const NO_ROW: &str = "deferred writes to rows that are not there are dropped: they were taken while the store was \
    away, \
                          or the rows were deleted after them";
pub const NO_MAPPING: &str = "deferred writes wait for a mapping that is not configured any more (or writes no table): \
    they are put aside (the mapping is that of the first key); `hearthside journal` shows them";
pub const WAITS_FOR_A_MAPPING: &str = "a deferred write waits for a mapping that is not configured any more (or writes \
    no table); it stays in the journal until it is configured";
pub const JOURNAL_NOT_WRITTEN: &str = "the journal cannot be written: deferred writes are refused";
pub const JOURNAL_MADE_AGAIN: &str = "files of the journal were removed or replaced while it is in use; it was made \
    again with all that waits in it, and nothing is lost";
pub const JOURNAL_NOT_MADE_AGAIN: &str = "files of the journal were removed or replaced while it is in use, and it \
    cannot be made again: deferred writes are refused. Those that wait go on to the store";
pub const JOURNAL_LACKS: &str =
    "acknowledged deferred writes are missing in the journal: it was damaged, or an older file put back";
pub const JOURNAL_COPIED: &str = "the journal's file is a copy that was put back, or is in use elsewhere: another \
    start has taken over the deferred \
     writes that wait in it, and has saved them, or may have. They are put aside, so that no newer value is \
     overwritten; \
     `hearthside journal` shows them: compare them with the store, and write what is missing";
pub const NOTED_BY_ANOTHER: &str = "a batch of this journal has been noted by somebody else: is a copy of the \
    journal, or of the machine, in use? \
     It is sent again under another name";
pub const NOTE_GONE: &str = "the store has no note of this journal (hearthside.journals): it is not known whether the \
    last \
                             batch had been applied; it is saved again";
pub const WAITING_FOR_THE_NOTE: &str = "waiting for the store, which knows what of the journal it has applied";
pub const OLD_NOTES_STAY: &str =
    "old notes of journals cannot be removed; GRANT DELETE ON hearthside.journals and flushed";

/// Whether a log line warns of this.
pub fn is_of(line: &str, message: &str) -> bool {
    // "2026-11-26T18:00:00Z  WARN hearthside::cache: a load failed mapping="a:{id}" error=..."
    let Some((_, said)) = line.split_once(": ") else { return false };
    let mut pieces = message.split("{}");
    let Some(mut rest) = pieces.next().and_then(|piece| said.strip_prefix(piece)) else { return false };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.is_empty() || message.ends_with("{}") || rest.strip_prefix(' ').is_some_and(begins_with_a_field)
}

/// `name=value`.
fn begins_with_a_field(text: &str) -> bool {
    let is_name = |c: char| c.is_ascii_lowercase() || "_.".contains(c);
    text.split_once('=').is_some_and(|(name, _)| !name.is_empty() && name.chars().all(is_name))
}

#[test]
fn a_warning_that_is_allowed_is_a_whole_message() {
    let line = |said: &str| format!("2026-11-26T18:00:00.000001Z  WARN hearthside::upstream::pipeline::lane: {said}");
    assert!(is_of(&line("a lane lost its connection error=closed: by the upstream in_flight=2"), LANE_LOST));
    assert!(is_of(&line("caches[0].query: has a ttl and no watch: seen late; x"), "{}: has a ttl and no watch: {}; x"));
    assert!(is_of(&line(&format!("{FEED_CLOSED} why=x")), FEED_CLOSED) && is_of(&line(FEED_CLOSED), FEED_CLOSED));
    for other in
        ["a lane", "lost its connection", "the upstream does not answer", "a lane lost its connection for good"]
    {
        assert!(!is_of(&line("a lane lost its connection error=closed"), other), "{other}");
        assert!(!is_of(&line("a lane lost its connection for good"), LANE_LOST));
    }
}
