//! Reads of owned keys, held against a plain key of a real Redis with the same value, in RESP2 and RESP3.

use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::wire::{Wire, array};

const CONFIG: &str = r#"
[[caches]]
key = "h:{id:int}"
type = "hash"
query = "SELECT 'v' AS f, '' AS empty, 'a b' AS \"with space\", '12' AS n, 'x' AS id2 WHERE $1 < 100"
ttl = "1h"

[[caches]]
key = "l:{id:int}"
type = "list"
query = '''SELECT column2 AS v FROM (VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'a'), (5, 'd'), (6, 'a'), (7, ''))
    WHERE $1 < 100 ORDER BY column1'''
value = "v"
ttl = "1h"

[[caches]]
key = "s:{id:int}"
type = "string"
query = "SELECT 'This is a string' AS v WHERE $1 < 100"
value = "v"
ttl = "1h"

[[caches]]
key = "t:{id:int}"
type = "set"
query = "SELECT column1 AS v FROM (VALUES ('one'), ('two'), ('three'), ('one')) WHERE $1 < 100"
value = "v"
ttl = "1h"
"#;

fn same(through: &mut Wire, direct: &mut Wire, words: &[&str]) {
    let request = array(words);
    through.send(&request);
    direct.send(&request);
    let (ours, theirs) = (through.frame(), direct.frame());
    assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs), "{words:?}");
}

#[test]
fn every_read_command_answers_as_redis_does() {
    let (redis, twin) = (Redis::start(), Redis::start());
    let sidecar = Sidecar::builder().redis(&redis).config(CONFIG).start();
    let mut direct = twin.wire();
    direct.call(&["HSET", "h:1", "f", "v", "empty", "", "with space", "a b", "n", "12", "id2", "x"]);
    direct.call(&["RPUSH", "l:1", "a", "b", "c", "a", "d", "a", ""]);
    direct.call(&["SET", "s:1", "This is a string"]);
    direct.call(&["SADD", "t:1", "one", "two", "three"]);
    for hello in ["2", "3"] {
        let mut through = sidecar.wire();
        through.call(&["HELLO", hello]);
        direct.call(&["HELLO", hello]);
        // Every command on every shape, present and absent: WRONGTYPE and empty replies included.
        for shape in ["h", "l", "s", "t"] {
            for id in ["1", "1000"] {
                let key = &format!("{shape}:{id}");
                for words in COMMANDS {
                    let words: Vec<&str> = words.iter().map(|w| if *w == "K" { key } else { *w }).collect();
                    same(&mut through, &mut direct, &words);
                }
            }
        }
    }
}

/// `K` stands for the key. Random and TTL commands have tests of their own.
const COMMANDS: &[&[&str]] = &[
    &["HGET", "K", "f"],
    &["HGET", "K", "nosuch"],
    &["HGET", "K", "with space"],
    &["HGET", "K"],
    &["HMGET", "K", "f", "nosuch", "n", "f"],
    &["HMGET", "K"],
    &["HGETALL", "K"],
    &["hgetall", "K"],
    &["HGETALL", "K", "x"],
    &["HEXISTS", "K", "f"],
    &["HEXISTS", "K", "nosuch"],
    &["HLEN", "K"],
    &["HKEYS", "K"],
    &["HVALS", "K"],
    &["HSTRLEN", "K", "with space"],
    &["HSTRLEN", "K", "nosuch"],
    &["HRANDFIELD", "K", "0"],
    &["HRANDFIELD", "K", "10"],
    &["HRANDFIELD", "K", "10", "WITHVALUES"],
    &["HRANDFIELD", "K", "x"],
    &["HRANDFIELD", "K", "1", "NOPE"],
    &["HRANDFIELD", "K", "1", "WITHVALUES", "x"],
    &["HRANDFIELD", "K", "-9223372036854775808"],
    &["HRANDFIELD", "K", "-9223372036854775807", "WITHVALUES"],
    &["HSCAN", "K", "0"],
    &["HSCAN", "K", "0", "MATCH", "*e*"],
    &["HSCAN", "K", "0", "MATCH", "f", "COUNT", "5"],
    &["HSCAN", "K", "0", "COUNT", "0"],
    &["HSCAN", "K", "0", "COUNT", "x"],
    &["HSCAN", "K", "0", "NOPE"],
    &["HSCAN", "K", "0", "MATCH"],
    &["HSCAN", "K", "x"],
    &["HSCAN", "K", "5"],
    &["LRANGE", "K", "0", "-1"],
    &["LRANGE", "K", "1", "2"],
    &["LRANGE", "K", "-2", "100"],
    &["LRANGE", "K", "5", "1"],
    &["LRANGE", "K", "-100", "0"],
    &["LRANGE", "K", "-9223372036854775808", "9223372036854775807"],
    &["LRANGE", "K", "x", "0"],
    &["LRANGE", "K", "0", "1.5"],
    &["LRANGE", "K", "0"],
    &["LLEN", "K"],
    &["LINDEX", "K", "0"],
    &["LINDEX", "K", "-1"],
    &["LINDEX", "K", "100"],
    &["LINDEX", "K", "-100"],
    &["LINDEX", "K", "x"],
    &["LPOS", "K", "a"],
    &["LPOS", "K", "nosuch"],
    &["LPOS", "K", "a", "RANK", "2"],
    &["LPOS", "K", "a", "RANK", "-1"],
    &["LPOS", "K", "a", "RANK", "-2", "COUNT", "0"],
    &["LPOS", "K", "a", "COUNT", "0"],
    &["LPOS", "K", "a", "COUNT", "2"],
    &["LPOS", "K", "a", "COUNT", "0", "MAXLEN", "4"],
    &["LPOS", "K", "a", "RANK", "-1", "MAXLEN", "1"],
    &["LPOS", "K", "a", "RANK", "0"],
    &["LPOS", "K", "a", "RANK", "x"],
    &["LPOS", "K", "a", "RANK", "-9223372036854775808"],
    &["LPOS", "K", "a", "COUNT", "-1"],
    &["LPOS", "K", "a", "MAXLEN", "-1"],
    &["LPOS", "K", "a", "COUNT", "x"],
    &["LPOS", "K", "a", "COUNT"],
    &["LPOS", "K", "nosuch", "COUNT", "1"],
    &["GET", "K"],
    &["GET", "K", "x"],
    &["STRLEN", "K"],
    &["GETRANGE", "K", "0", "3"],
    &["GETRANGE", "K", "-3", "-1"],
    &["GETRANGE", "K", "0", "-1"],
    &["GETRANGE", "K", "10", "100"],
    &["GETRANGE", "K", "-1", "-5"],
    &["GETRANGE", "K", "5", "2"],
    &["GETRANGE", "K", "-100", "-50"],
    &["GETRANGE", "K", "100", "200"],
    &["GETRANGE", "K", "x", "1"],
    &["SUBSTR", "K", "1", "4"],
    &["SISMEMBER", "K", "one"],
    &["SISMEMBER", "K", "nosuch"],
    &["SMISMEMBER", "K", "one", "nosuch", "two"],
    &["SCARD", "K"],
    &["SRANDMEMBER", "K", "0"],
    &["SRANDMEMBER", "K", "x"],
    &["SRANDMEMBER", "K", "1", "2"],
    &["SRANDMEMBER", "K", "-9223372036854775808"],
    &["TYPE", "K"],
    &["EXISTS", "K"],
    &["EXISTS", "K", "K", "nosuch"],
    &["EXISTS"],
    &["TOUCH", "K", "nosuch"],
    &["MGET", "K", "nosuch", "K"],
    &["MGET", "K"],
];

#[test]
fn random_and_unordered_answers_are_of_the_right_members_and_form() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).config(CONFIG).start();
    let mut wire = sidecar.wire();
    for _ in 0..50 {
        assert!(
            ["$1\r\nf\r\n", "$5\r\nempty\r\n", "$10\r\nwith space\r\n", "$1\r\nn\r\n", "$3\r\nid2\r\n"]
                .contains(&wire.ask("HRANDFIELD h:1").as_str())
        );
        assert!(["$3\r\none\r\n", "$3\r\ntwo\r\n", "$5\r\nthree\r\n"].contains(&wire.ask("SRANDMEMBER t:1").as_str()));
        let two = wire.ask("SRANDMEMBER t:1 2");
        let members: Vec<_> = ["one", "two", "three"].into_iter().filter(|m| two.contains(m)).collect();
        assert!(two.starts_with("*2\r\n") && members.len() == 2, "{two}");
    }
    assert!(wire.ask("HRANDFIELD h:1 -7").starts_with("*7\r\n"));
    assert!(wire.ask("HRANDFIELD h:1 -7 WITHVALUES").starts_with("*14\r\n"));
    assert_eq!(wire.ask("SMEMBERS t:1"), "*3\r\n$3\r\none\r\n$3\r\ntwo\r\n$5\r\nthree\r\n");
    assert_eq!(wire.ask("SSCAN t:1 0 MATCH t*"), "*2\r\n$1\r\n0\r\n*2\r\n$3\r\ntwo\r\n$5\r\nthree\r\n");
    wire.ask("HELLO 3");
    assert!(wire.ask("SMEMBERS t:1").starts_with("~3\r\n"));
    assert_eq!(wire.ask("HRANDFIELD h:1 -2 WITHVALUES").matches("*2\r\n").count(), 3);
}

#[test]
fn ttl_is_what_is_left_and_definitions_do_not_expire() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    let number = |reply: String| reply.trim_start_matches(':').trim_end().parse::<i64>().expect("a number");
    let left = number(wire.ask("TTL player:1:session"));
    assert!((1500..=1800).contains(&left), "30 minutes, shortened by at most a tenth: {left}");
    let left = number(wire.ask("PTTL player:1:inventory"));
    assert!((500_000..=600_000).contains(&left), "{left}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    let at = number(wire.ask("EXPIRETIME player:1:session"));
    assert!((now + 1500..=now + 1801).contains(&at), "{at}");
    assert_eq!(wire.ask("TTL item:apple:def"), ":-1\r\n");
    assert_eq!(wire.ask("TTL item:nosuch:def"), ":-2\r\n");
    assert_eq!(wire.ask("PTTL player:100000:session"), ":-2\r\n");
}

#[test]
fn a_record_ends_with_its_ttl_unless_reads_renew_it() {
    let redis = Redis::start();
    let config = "[[caches]]\nkey = \"a:{id:int}\"\ntype = \"string\"\nquery = \"SELECT 'x' AS v WHERE $1 > 0\"\n\
        value = \"v\"\nttl = \"150ms\"\n\
                  [[caches]]\nkey = \"b:{id:int}\"\ntype = \"string\"\nquery = \"SELECT 'x' AS v WHERE $1 > 0\"\n\
                  value = \"v\"\nttl = \"150ms\"\nrenew = true\n";
    let sidecar = Sidecar::builder().redis(&redis).config(config).set("CACHE__TTL_JITTER", "0").start();
    let misses =
        || crate::support::admin::metric(&sidecar, "hearthside_commands_total{route=\"cache\",outcome=\"miss\"}");
    let mut wire = sidecar.wire();
    crate::support::until("it expired and was loaded again", || {
        wire.ask("GET a:1");
        misses() >= 3.0
    });
    let before = misses();
    let start = std::time::Instant::now();
    while start.elapsed() < std::time::Duration::from_millis(500) {
        wire.ask("GET b:1");
    }
    assert_eq!(misses(), before + 1.0, "read all the time, it was loaded once");
}

#[test]
fn what_is_not_answered_on_an_owned_key_is_refused_and_goes_nowhere() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    let (session, location) = ("player:1:session", "location:overpass:cache");
    for request in [
        "RPUSH player:1:inventory x".to_owned(),
        format!("HSETEX {session} FIELDS 1 hp 1"),
        format!("SET {session} x"),
        format!("LPUSH {session} x"),
        format!("EXPIRE {location} 10"),
        format!("HSET {location} name x"),
        format!("RENAME a {session}"),
        format!("COPY {session} a"),
        format!("OBJECT ENCODING {session}"),
        format!("DUMP {session}"),
        format!("EVAL return(1) 1 {session}"),
        format!("SORT {session}"),
        format!("SINTERSTORE a b {session}"),
        format!("BLPOP {session} 0"),
        format!("SUNION {session} a"),
        format!("DEL {location}"),
        format!("UNLINK a {location}"),
    ] {
        let told = wire.ask(&request);
        let command = request.split(' ').next().expect("a command");
        let names = told.contains(command)
            && [session, location, "player:1:inventory"].iter().any(|key| told.contains(key))
            && told.contains("mapping '");
        assert!(told.starts_with("-ERR hearthside:") && names, "{request}: {told}");
    }
    let told = wire.ask(&format!("HGETALL {}", "player:007:session"));
    assert_eq!(told, "*0\r\n", "another spelling is a pass-through key");
    let mut direct = redis.wire();
    assert_eq!(direct.ask("DBSIZE"), ":0\r\n");
    let commandstats = direct.ask("INFO commandstats");
    for command in ["cmdstat_del", "cmdstat_rename", "cmdstat_eval", "cmdstat_hset"] {
        assert!(!commandstats.contains(command), "{command} reached the upstream");
    }
}

#[test]
fn memory_is_bounded_for_records_and_for_absent_keys() {
    let redis = Redis::start();
    let config = "[[caches]]\nkey = \"a:{id:int}\"\ntype = \"string\"\nvalue = \"v\"\nttl = \"1h\"\n\
                  query = \"SELECT printf('%.*c', 1000, 'x') AS v WHERE $1 > 0\"\n\
                  [[caches]]\nkey = \"b:{name}\"\ntype = \"string\"\nvalue = \"v\"\nttl = \"1h\"\nquery = \"SELECT $1 \
                  AS name, 1 AS v WHERE $1 = ''\"\n";
    let sidecar = Sidecar::builder()
        .redis(&redis)
        .config(config)
        .set("CACHE__MAX_BYTES", "100kb")
        .set("CACHE__NEGATIVE_ENTRIES", "50")
        .set("CACHE__NEGATIVE_TTL", "1h")
        .start();
    let mut wire = sidecar.wire();
    for i in 1..=1000 {
        wire.send(
            &[
                crate::support::wire::line(&format!("STRLEN a:{i}")),
                crate::support::wire::line(&format!("EXISTS a:-{i}")),
            ]
            .concat(),
        );
        assert_eq!((wire.frame(), wire.frame()), (b":1000\r\n".to_vec(), b":0\r\n".to_vec()));
    }
    let metric = |name: &str| crate::support::admin::metric(&sidecar, name);
    crate::support::until("both are within their bounds", || {
        let (bytes, entries) = (metric("hearthside_cache_bytes"), metric("hearthside_cache_entries"));
        bytes > 50_000.0 && bytes <= 102_400.0 && entries <= 50.0 + 102_400.0 / 1200.0
    });
    // A key may be as long as a value: each of these counts for eight.
    let long: String = (1..=40).map(|i| format!(" b:{i:02000}")).collect();
    assert_eq!(wire.ask(&format!("EXISTS{long}")), ":0\r\n");
    crate::support::until("few long keys are remembered", || {
        metric("hearthside_cache_entries") <= 50.0 / 8.0 + 102_400.0 / 1200.0
    });
    wire.ask("STRLEN a:1000");
    let before = metric("hearthside_commands_total{route=\"cache\",outcome=\"miss\"}");
    wire.ask("STRLEN a:1000");
    assert_eq!(metric("hearthside_commands_total{route=\"cache\",outcome=\"miss\"}"), before, "the newest is there");
}

#[test]
fn alias_keys_are_absent() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder()
        .redis(&redis)
        .config("[[caches]]\nkey = \"s:{character_id}\"\ntype = \"hash\"\ntable = \"sessions\"\nttl = \"1m\"\n")
        .start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET s:7 hp"), "$2\r\n93\r\n");
    for alias in ["s:07", "s:+7", "s:7.0", "s: 7"] {
        assert_eq!(wire.call(&["HGET", alias, "hp"]), b"$-1\r\n", "{alias}");
    }
}
