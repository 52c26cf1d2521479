//! Redis's own words, which client libraries know: those of Redis 7.0 unless a text says otherwise. The function behind
//! each is the one that says it there. Whatever is changed here must stay equal to the byte; the differential tests
//! compare.

// Values and arguments.

/// A command for another type than the key's (`server.c`, `createSharedObjects`).
pub const WRONG_TYPE: &str = "WRONGTYPE Operation against a key holding the wrong kind of value";
/// A write to a replica (`server.c`, `createSharedObjects`).
pub const READ_ONLY: &str = "READONLY You can't write against a read only replica.";
/// How WAIT and WAITAOF begin to a client of a replica (`replication.c`, `waitCommand`).
pub const WAITS_AT_REPLICA: [&str; 2] =
    ["ERR WAIT cannot be used with replica instances", "ERR WAITAOF cannot be used with replica instances"];
/// An unknown or incomplete option (`server.c`, `createSharedObjects`).
pub const SYNTAX: &str = "ERR syntax error";
/// An argument, or the value to count on, is no 64-bit integer (`object.c`, `getLongLongFromObjectOrReply`).
pub const NOT_INTEGER: &str = "ERR value is not an integer or out of range";
/// A count that cannot be negated (`object.c`, `getRangeLongFromObjectOrReply`).
pub const OUTSIDE_LONG: &str =
    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
/// A count that cannot be doubled (`t_hash.c`, `hrandfieldCommand`).
pub const OUT_OF_RANGE: &str = "ERR value is out of range";
/// An argument, or the value to count on, is no number (`object.c`, `getLongDoubleFromObjectOrReply`).
pub const NOT_FLOAT: &str = "ERR value is not a valid float";
/// HINCRBYFLOAT by infinity (`t_hash.c`, `hincrbyfloatCommand`).
pub const NAN_OR_INFINITY: &str = "ERR value is NaN or Infinity";
/// HINCRBY of a field that is no integer (`t_hash.c`, `hincrbyCommand`).
pub const HASH_NOT_INTEGER: &str = "ERR hash value is not an integer";
/// HINCRBYFLOAT of a field that is no number (`t_hash.c`, `hincrbyfloatCommand`).
pub const HASH_NOT_FLOAT: &str = "ERR hash value is not a float";
/// A sum that is no 64-bit integer (`t_string.c`, `incrDecrCommand`; `t_hash.c`, `hincrbyCommand`).
pub const OVERFLOWS: &str = "ERR increment or decrement would overflow";
/// DECRBY by the least integer, which cannot be negated (`t_string.c`, `decrbyCommand`).
pub const DECREMENT_OVERFLOWS: &str = "ERR decrement would overflow";
/// A sum that is no finite number (`t_string.c`, `incrbyfloatCommand`; `t_hash.c`, `hincrbyfloatCommand`).
pub const SUM_NOT_FINITE: &str = "ERR increment would produce NaN or Infinity";
/// A cursor that is no number (`db.c`, `parseScanCursorOrReply`).
pub const CURSOR: &str = "ERR invalid cursor";
/// LPOS with the rank 0 (`t_list.c`, `lposCommand`).
pub const ZERO_RANK: &str = "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
    or use negative to start from the end of the list";
/// LPOS with a negative count (`t_list.c`, `lposCommand`).
pub const NEGATIVE_COUNT: &str = "ERR COUNT can't be negative";
/// LPOS with a negative number of comparisons (`t_list.c`, `lposCommand`).
pub const NEGATIVE_MAXLEN: &str = "ERR MAXLEN can't be negative";
/// EXPIRE with conditions that exclude each other (`expire.c`, `parseExtendedExpireArgumentsOrReply`).
pub const NX_AND_OTHERS: &str = "ERR NX and XX, GT or LT options at the same time are not compatible";
/// The same (`expire.c`, `parseExtendedExpireArgumentsOrReply`).
pub const GT_AND_LT: &str = "ERR GT and LT options at the same time are not compatible";
/// HEARTHSIDE PAUSE for a time that is none, in the words of BLPOP (`timeout.c`, `getTimeoutFromObjectOrReply`).
pub const TIMEOUT: &str = "ERR timeout is not an integer or out of range";

/// EXPIRE with another option (`expire.c`, `parseExtendedExpireArgumentsOrReply`).
pub fn unsupported_option(option: &str) -> String {
    format!("ERR Unsupported option {option}")
}

/// An expiry that is not positive, or too far away (`networking.c`, `addReplyErrorExpireTime`).
pub fn expire_time(command: &str) -> String {
    format!("ERR invalid expire time in '{command}' command")
}

/// A number of arguments that the command does not take (`server.c`, `commandCheckArity`).
pub fn wrong_arity(command: &str) -> String {
    format!("ERR wrong number of arguments for '{command}' command")
}

// Transactions.

/// MULTI inside MULTI (`multi.c`, `multiCommand`).
pub const NESTED_MULTI: &str = "ERR MULTI calls can not be nested";
/// WATCH inside MULTI (`multi.c`, `watchCommand`).
pub const WATCH_IN_MULTI: &str = "ERR WATCH inside MULTI is not allowed";
/// EXEC outside of a transaction (`multi.c`, `execCommand`).
pub const EXEC_WITHOUT_MULTI: &str = "ERR EXEC without MULTI";
/// DISCARD outside of a transaction (`multi.c`, `discardCommand`).
pub const DISCARD_WITHOUT_MULTI: &str = "ERR DISCARD without MULTI";
/// EXEC after a command that could not be queued (`server.c`, `createSharedObjects`).
pub const DISCARDED: &str = "EXECABORT Transaction discarded because of previous errors.";

/// What the error below begins with.
pub const DISCARDED_BECAUSE: &str = "EXECABORT Transaction discarded because of: ";
/// EXEC that may not run itself, for the reason of another error (`multi.c`, `execCommandAbort`).
pub fn discarded_because(error: &str) -> String {
    let why = error.strip_prefix("ERR ").unwrap_or(error);
    format!("{DISCARDED_BECAUSE}{why}")
}

// Logins and what users may do.

/// The code of the two errors below.
pub const NO_AUTH_CODE: &str = "NOAUTH ";
/// A command before AUTH (`server.c`, `createSharedObjects`).
pub const NO_AUTH: &str = "NOAUTH Authentication required.";
/// HELLO without AUTH, where one is required (`networking.c`, `helloCommand`).
pub const NO_AUTH_HELLO: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
    HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the \
    same time";
/// A slot that no node of a cluster owns (`cluster.c`, `clusterRedirectClient`).
pub const NO_SLOTS: &str = "CLUSTERDOWN Hash slot not served";
/// Credentials that are not right (`acl.c`, `authCommand`).
/// The code of the error below, whatever the server says behind it.
pub const WRONG_PASSWORD_CODE: &str = "WRONGPASS ";
pub const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
/// AUTH with a password, where no user has one (`acl.c`, `authCommand`).
pub const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. \
    Are you sure your configuration is correct?";
/// A key that the user's rules do not name (`server.c`, `processCommand`).
pub const NO_KEY: &str = "NOPERM this user has no permissions to access one of the keys used as arguments";
/// A channel that the user's rules do not name (`server.c`, `processCommand`).
pub const NO_CHANNEL: &str = "NOPERM this user has no permissions to access one of the channels used as arguments";

/// A command that the user's rules do not allow (`server.c`, `processCommand`).
pub fn no_command(command: &str) -> String {
    format!("NOPERM this user has no permissions to run the '{command}' command")
}

// Connections and clients.

/// A newcomer past a limit. Client libraries know it as "no connection", and nothing may stand behind it
/// (`networking.c`, `acceptCommonHandler`).
pub const MAX_CLIENTS: &str = "ERR max number of clients reached";
/// SELECT of a database that there cannot be (`db.c`, `selectCommand`).
pub const DB_INDEX: &str = "ERR DB index is out of range";
/// HELLO with a version that is no number (`networking.c`, `helloCommand`).
pub const NO_VERSION: &str = "ERR Protocol version is not an integer or out of range";
/// HELLO with a version other than 2 and 3 (`networking.c`, `helloCommand`).
pub const UNKNOWN_VERSION: &str = "NOPROTO unsupported protocol version";
/// A name with spaces (`networking.c`, `clientSetNameOrReply`).
pub const CLIENT_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";
/// CLIENT LIST ID of what is no id (`networking.c`, `clientCommand`).
pub const CLIENT_ID: &str = "ERR Invalid client ID";
/// CLIENT LIST and KILL of a database that there cannot be (Valkey 9, `networking.c`, `parseClientFilters`).
pub const CLIENT_DB: &str = "ERR DB number should be between 0 and 15";
/// CLIENT KILL of an address that no client has (`networking.c`, `clientCommand`).
pub const NO_CLIENT: &str = "ERR No such client";
/// CLIENT UNBLOCK with another word (`networking.c`, `clientCommand`).
pub const UNBLOCK_REASON: &str = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
/// A command about a key that must be there.
pub const NO_SUCH_KEY: &str = "ERR no such key";
/// CLIENT TRACKING to a client that is not there (`networking.c`, `clientCommand`).
pub const NO_REDIRECT_TARGET: &str = "ERR The client ID you want redirect to does not exist";
/// A command on keys from a client that monitors (`server.c`, `processCommand`).
pub const MONITOR_WITH_KEYS: &str = "ERR Replica can't interact with the keyspace";

/// HELLO with another option (`networking.c`, `helloCommand`).
pub fn hello_option(option: &[u8]) -> String {
    format!("ERR Syntax error in HELLO option '{}'", String::from_utf8_lossy(option))
}

/// CLIENT SETINFO of another property (Redis 7.2, `networking.c`, `clientSetinfoCommand`).
pub fn client_property(property: &[u8]) -> String {
    format!("ERR Unrecognized option '{}'", String::from_utf8_lossy(property))
}

/// CLIENT SETINFO of a value with spaces (Redis 7.2, `networking.c`, `clientSetinfoCommand`).
pub fn client_property_value(property: &str) -> String {
    format!("ERR {property} cannot contain spaces, newlines or special characters.")
}

/// CLIENT LIST and KILL of another type (`networking.c`, `clientCommand`).
pub fn client_type(name: &[u8]) -> String {
    format!("ERR Unknown client type '{}'", String::from_utf8_lossy(name))
}

/// CLIENT KILL with a `client-id`, or a `maxage` (Redis 7.4), that is not positive (`networking.c`, `clientCommand`).
pub fn not_positive(what: &str) -> String {
    format!("ERR {what} should be greater than 0")
}

/// CLIENT LIST and KILL with a `maxage`, `idle` or `DB` that is no number (`networking.c`, `clientCommand`).
pub fn not_a_number(what: &str) -> String {
    format!("ERR {what} is not an integer or out of range")
}

/// CLIENT LIST and KILL with flags or capabilities that there are not (Valkey 9, `networking.c`, `parseClientFilters`).
pub fn unknown_in_filter(what: &str, is_not: bool, value: &[u8]) -> String {
    let filter = if is_not { format!("NOT-{}", what.to_ascii_uppercase()) } else { "provided".to_owned() };
    format!("ERR Unknown {what} found in the {filter} filter: {}", String::from_utf8_lossy(value))
}

/// CLIENT KILL of the clients of somebody who is no user (`networking.c`, `clientCommand`).
pub fn no_user(name: &str) -> String {
    format!("ERR No such user '{name}'")
}

/// A subcommand of CLIENT that is not passed on (`server.c`, `commandCheckExistence`).
pub fn unknown_of_client(subcommand: &[u8]) -> String {
    unknown_subcommand("CLIENT", subcommand)
}

/// A subcommand that there is not (the same place).
pub fn unknown_subcommand(container: &str, subcommand: &[u8]) -> String {
    let subcommand = &subcommand[..subcommand.len().min(128)];
    format!("ERR unknown subcommand '{}'. Try {container} HELP.", String::from_utf8_lossy(subcommand))
}

/// A command that a server does not take inside MULTI (`server.c`, `processCommand` of Valkey).
pub fn not_in_multi(command: &str) -> String {
    format!("ERR Command '{command}' not allowed inside a transaction")
}

/// Another command from a client that has subscribed, in RESP2 (`server.c`, `processCommand`).
pub fn only_subscriptions(command: &str) -> String {
    format!(
        "ERR Can't execute '{command}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in \
         this context"
    )
}

// What the sidecar only reads: by these words it knows errors of the upstream.

/// The upstream does not have the command, or the subcommand (`server.c`, `commandCheckExistence`).
pub const UNKNOWN: &str = "ERR unknown ";
/// The upstream does not have the command (`server.c`, `commandCheckExistence`).
pub const UNKNOWN_COMMAND: &str = "ERR unknown command";
