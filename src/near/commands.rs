//! Which commands may be answered from memory, and what a request may change.

use crate::command::{self, Request, Source, Spec, all};

/// Reads of strings, hashes, lists, sets and sorted sets whose answer depends on their keys alone: not on the time, on
/// chance, on a cursor, or on how a server keeps the key.
const READS: [&str; 55] = [
    "bitcount",
    "bitfield_ro",
    "bitpos",
    "exists",
    "geodist",
    "geohash",
    "geopos",
    "georadius_ro",
    "georadiusbymember_ro",
    "geosearch",
    "get",
    "getbit",
    "getrange",
    "hexists",
    "hget",
    "hgetall",
    "hkeys",
    "hlen",
    "hmget",
    "hstrlen",
    "hvals",
    "lcs",
    "lindex",
    "llen",
    "lpos",
    "lrange",
    "mget",
    "scard",
    "sdiff",
    "sinter",
    "sintercard",
    "sismember",
    "smembers",
    "smismember",
    "strlen",
    "substr",
    "sunion",
    "type",
    "zcard",
    "zcount",
    "zdiff",
    "zinter",
    "zintercard",
    "zlexcount",
    "zmscore",
    "zrange",
    "zrangebylex",
    "zrangebyscore",
    "zrank",
    "zrevrange",
    "zrevrangebylex",
    "zrevrangebyscore",
    "zrevrank",
    "zscore",
    "zunion",
];

/// Commands that run code, which may write; with keys that are named, it is these that it may write.
const CODE: [&str; 3] = ["eval", "evalsha", "fcall"];

/// Commands that are no writes by the table, and may replace everything.
const REPLACE: [&str; 4] = ["debug", "replicaof", "slaveof", "failover"];

/// What only tells of a cluster; all else of CLUSTER may give slots to another node, or take them away.
const TELL: [&str; 14] = [
    "count-failure-reports",
    "countkeysinslot",
    "getkeysinslot",
    "help",
    "info",
    "keyslot",
    "links",
    "myid",
    "myshardid",
    "nodes",
    "replicas",
    "shards",
    "slaves",
    "slots",
];

/// For each command, by its number, whether it may be answered from memory.
pub(super) fn kept() -> Vec<bool> {
    let mut kept = vec![false; command::rows()];
    for spec in all().filter(|spec| READS.contains(&spec.name.as_str())) {
        kept[spec.id] = spec.flags.readonly && !spec.flags.write && !spec.has_hidden_keys;
    }
    kept
}

/// What a request may change at the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changes {
    /// No key.
    Nothing,
    /// Keys that it names.
    Keys,
    /// Whatever there is.
    Everything,
}

/// What `request` may change, whose row of the table is `spec`.
pub(super) fn changes(request: &Request<'_>, spec: Option<&Spec>) -> Changes {
    let Some(spec) = spec else { return Changes::Everything };
    if request.len() < spec.arity.unsigned_abs() as usize {
        // No server carries it out. Another one may take more arguments than this table knows.
        return Changes::Nothing;
    }
    if spec.flags.readonly && !spec.flags.write {
        // It notes what it has counted in the value, which GET shows.
        return if spec.name == "pfcount" { Changes::Keys } else { Changes::Nothing };
    }
    if spec.flags.write && !spec.has_hidden_keys && spec.only_key.is_some() {
        // As most.
        return Changes::Keys;
    }
    let name = spec.name.as_str();
    let names_keys = || {
        let mut names_some = false;
        request.each_key(spec, |_| names_some = true);
        if names_some { Changes::Keys } else { Changes::Everything }
    };
    match spec.source {
        Source::Learned(_) if spec.has_hidden_keys => Changes::Everything,
        Source::Learned(_) => names_keys(),
        // Libraries hold no keys.
        _ if name.starts_with("function|") => Changes::Nothing,
        // What SORT looks up it does not write.
        _ if spec.flags.write && spec.has_hidden_keys && name != "sort" => Changes::Everything,
        _ if spec.flags.write || CODE.contains(&name) => names_keys(),
        _ if REPLACE.contains(&name) => Changes::Everything,
        _ if name.strip_prefix("cluster|").is_some_and(|what| !TELL.contains(&what)) => Changes::Everything,
        _ => Changes::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{Changes, READS, changes, kept};
    use crate::command::{Request, lookup};
    use crate::resp::encode;
    use crate::resp::request::RequestScanner;

    #[test]
    fn every_read_that_may_be_kept_is_a_command_that_only_reads() {
        let kept = kept();
        for name in READS {
            let spec = lookup(name.as_bytes(), b"").expect(name);
            assert!(kept[spec.id], "{name}");
        }
        for name in ["ttl", "pttl", "hscan", "srandmember", "hrandfield", "dump", "getex", "sort_ro", "httl", "set"] {
            assert!(lookup(name.as_bytes(), b"").is_none_or(|spec| !kept[spec.id]), "{name}");
        }
    }

    #[test]
    fn a_request_changes_what_it_names_or_everything_or_nothing() {
        for (line, expected) in [
            ("GET a", Changes::Nothing),
            ("TOUCH a", Changes::Nothing),
            ("EVAL_RO s 0", Changes::Nothing),
            ("PUBLISH a b", Changes::Nothing),
            ("PING", Changes::Nothing),
            ("EXEC", Changes::Nothing),
            ("FUNCTION LOAD x", Changes::Nothing),
            ("CLUSTER NODES", Changes::Nothing),
            ("CLUSTER SHARDS", Changes::Nothing),
            ("CLUSTER SETSLOT 1 STABLE", Changes::Everything),
            ("CLUSTER FAILOVER", Changes::Everything),
            ("PFCOUNT a b", Changes::Keys),
            ("SET a b", Changes::Keys),
            ("GETEX a", Changes::Keys),
            ("SORT a BY w_* STORE b", Changes::Keys),
            ("EVAL s 1 a", Changes::Keys),
            ("COPY a b", Changes::Keys),
            ("BLPOP a 0", Changes::Keys),
            ("EVAL s 0", Changes::Everything),
            ("EVAL", Changes::Nothing),
            ("EVAL s", Changes::Nothing),
            ("FCALL f", Changes::Nothing),
            ("SWAPDB 0", Changes::Nothing),
            ("SWAPDB 0 1 2", Changes::Everything),
            ("CLUSTER SETSLOT 1", Changes::Nothing),
            ("FCALL f 0", Changes::Everything),
            ("FLUSHALL", Changes::Everything),
            ("FLUSHDB ASYNC", Changes::Everything),
            ("SWAPDB 0 1", Changes::Everything),
            ("DEBUG RELOAD", Changes::Everything),
            ("REPLICAOF NO ONE", Changes::Everything),
            ("NOSUCHCOMMAND a", Changes::Everything),
        ] {
            let mut raw = BytesMut::new();
            encode::request(&mut raw, &line.split(' ').collect::<Vec<_>>());
            let mut scanner = RequestScanner::default();
            scanner.scan(&raw).expect("a request");
            let request = Request::new(&raw, scanner.spans());
            assert_eq!(changes(&request, lookup(request.arg(0), request.arg(1))), expected, "{line}");
        }
    }
}
