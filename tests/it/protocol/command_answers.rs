//! Answers to COMMAND as servers of tomorrow and of yesterday give them, and as no server should: what the table takes
//! from them, and how such commands travel. Descriptions are those of <https://redis.io/docs/latest/commands/>.

use bytes::BytesMut;
use hearthside::command::{self, OwnedRequest, Table};
use hearthside::keys::{Keyspace, Pattern};
use hearthside::mapping::Kind;
use hearthside::resp::encode;
use hearthside::route::{Route, Router};

/// A command: name, flags, categories, key specifications as `commands.tsv` writes them, subcommands.
struct Told<'a>(&'a str, &'a str, &'a str, &'a str, &'a [Told<'a>]);

impl Told<'_> {
    fn encode(&self, out: &mut BytesMut) {
        let Self(name, flags, categories, keys, subcommands) = self;
        let words =
            |text: &'_ str| text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        encode::array(out, 10);
        encode::bulk(out, name.as_bytes());
        encode::int(out, -2);
        statuses(&words(flags), out);
        // The places of the keys by the old rule, which is read of old servers only.
        (0..3).for_each(|_| encode::int(out, 1));
        statuses(&words(categories), out);
        encode::array(out, 0);
        let keys = words(keys);
        encode::array(out, keys.len());
        keys.iter().for_each(|spec| specification(spec, out));
        encode::array(out, subcommands.len());
        subcommands.iter().for_each(|subcommand| subcommand.encode(out));
    }
}

fn statuses(words: &[String], out: &mut BytesMut) {
    encode::array(out, words.len());
    words.iter().for_each(|word| encode::simple(out, word));
}

fn pairs(out: &mut BytesMut, pairs: &[(&str, &str)]) {
    encode::array(out, pairs.len() * 2);
    for (key, value) in pairs {
        encode::bulk(out, key.as_bytes());
        match value.parse() {
            Ok(number) => encode::int(out, number),
            Err(_) => encode::bulk(out, value.as_bytes()),
        }
    }
}

/// `@1+range:0:1:0`, `STREAMS@1+range:-1:1:2`, `@1+keynum:0:1:1`, or `?`.
fn specification(text: &str, out: &mut BytesMut) {
    encode::array(out, 6);
    encode::bulk(out, b"flags");
    encode::array(out, 1);
    encode::simple(out, if text == "?" { "incomplete" } else { "RW" });
    let (begin, find) = text.split_once('+').unwrap_or(("@1", "range:0:1:0"));
    let (word, at) = begin.split_once('@').expect("a beginning");
    let find: Vec<&str> = find.split(':').collect();
    encode::bulk(out, b"begin_search");
    encode::array(out, 4);
    encode::bulk(out, b"type");
    encode::bulk(out, if word.is_empty() { b"index" } else { b"keyword" });
    encode::bulk(out, b"spec");
    if word.is_empty() {
        pairs(out, &[("index", at)])
    } else {
        pairs(out, &[("keyword", word), ("startfrom", at)])
    }
    encode::bulk(out, b"find_keys");
    encode::array(out, 4);
    encode::bulk(out, b"type");
    encode::bulk(out, find[0].as_bytes());
    encode::bulk(out, b"spec");
    let names = if find[0] == "range" { ["lastkey", "keystep", "limit"] } else { ["keynumidx", "firstkey", "keystep"] };
    pairs(out, &[(names[0], find[1]), (names[1], find[2]), (names[2], find[3])]);
}

fn answer(commands: &[Told<'_>]) -> BytesMut {
    let mut out = BytesMut::new();
    encode::array(&mut out, commands.len());
    commands.iter().for_each(|command| command.encode(&mut out));
    out
}

fn table(commands: &[Told<'_>]) -> Table {
    let commands = command::read(&answer(commands)).expect("an answer to COMMAND");
    Table::built_in().completed(&commands).0
}

/// The route of a request by this table, where keys that begin with `owned:` are owned.
fn route(table: &Table, line: &str) -> String {
    let pattern = Pattern::parse("owned:{x}").expect("a pattern");
    let router = Router::new(Keyspace::new(vec![pattern]), vec![Kind::Cache], &["SHUTDOWN".to_owned()]);
    let request = OwnedRequest::from_words(&line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>());
    let view = request.view();
    let spec = table.lookup(view.arg(0), view.arg(1));
    match router.route(&view, spec) {
        Route::Refused(refusal) => refusal.text,
        Route::NotAnswered(key) => router.unanswered(&view, key.at, key.mapping),
        Route::PassThrough(resendable) => format!("pass {resendable}"),
        Route::Unknown(unknown) => format!("unknown {unknown:?}"),
        Route::Pinned(pin, _) => format!("pinned {pin:?}"),
        other => format!("{other:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
    }
}

/// What Redis 8.10 and 8.12 have.
const LATER: [Told<'_>; 6] = [
    Told("LMOVEM", "write denyoom", "@write @list @slow", "@1+range:0:1:0 @2+range:0:1:0", &[]),
    Told("blmovem", "write denyoom blocking", "@write @list @slow @blocking", "@1+range:0:1:0 @2+range:0:1:0", &[]),
    Told("bzmove", "write denyoom blocking", "@write @sortedset @slow @blocking", "@1+range:0:1:0 @2+range:0:1:0", &[]),
    Told("delex", "write fast", "@write @string @fast", "@1+range:0:1:0", &[]),
    Told(
        "himport",
        "",
        "@slow",
        "",
        &[
            Told("himport|prepare", "fast", "@hash @slow", "", &[]),
            Told("himport|set", "write denyoom", "@write @hash @slow", "@2+range:0:1:0", &[]),
            Told("himport|discardall", "fast", "@hash @slow", "", &[]),
            Told("himport|help", "loading stale", "@slow", "", &[]),
        ],
    ),
    Told(
        "client",
        "",
        "@slow",
        "",
        &[
            Told("client|maint_notifications", "noscript", "@connection @slow", "", &[]),
            Told("client|newstate", "noscript", "@connection @slow", "", &[]),
        ],
    ),
];

#[test]
fn what_a_later_server_has_is_right_the_day_it_appears() {
    let table = table(&LATER);
    for (line, expected) in [
        ("LMOVEM a b LEFT LEFT COUNT 2 BULK", "pass false"),
        ("BLMOVEM a b LEFT LEFT 0", "pinned Blocking"),
        ("bzmove a b MIN 0", "pinned Blocking"),
        ("DELEX a IFEQ x", "pass false"),
        ("HIMPORT PREPARE u name", "unknown State"),
        ("HIMPORT SET user:1 u alice", "unknown State"),
        ("HIMPORT DISCARDALL", "unknown State"),
        ("HIMPORT NEWER a", "unknown Name"),
        ("CLIENT NEWSTATE ON", "unknown State"),
        ("CLIENT MAINT_NOTIFICATIONS ON", "ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP."),
        ("GET a", "pass true"),
        ("NOSUCH a", "unknown Name"),
    ] {
        assert_eq!(route(&table, line), expected, "{line}");
    }
    for line in [
        "LMOVEM a owned:1 LEFT LEFT",
        "BLMOVEM owned:1 b LEFT LEFT 0",
        "BZMOVE a owned:1 MIN 0",
        "DELEX owned:1",
        "HIMPORT SET owned:1 u alice",
    ] {
        let told = route(&table, line);
        assert!(told.contains("is not answered on the owned key 'owned:1'"), "{line}: {told}");
    }
}

#[test]
fn what_no_lane_can_be_trusted_with_travels_alone() {
    let table = table(&[
        Told("doc.get", "readonly module", "@read", "@1+range:0:1:0", &[]),
        Told("doc.find", "readonly module", "@read", "", &[]),
        Told("doc.many", "readonly module movablekeys", "@read", "@1+range:0:1:0", &[]),
        Told("half", "write", "@write", "@1+range:0:1:0 ?", &[]),
        Told("tune", "admin", "@admin @slow", "", &[]),
        Told("attach", "fast", "@connection @fast", "", &[]),
        Told("run", "noscript", "@scripting @slow", "@2+keynum:0:1:1", &[]),
        Told("drain", "blocking", "@slow", "", &[]),
        Told("peek", "readonly", "@read @pubsub", "@1+range:0:1:0", &[]),
    ]);
    for (line, expected) in [
        ("DOC.GET a", "unknown Conduct"),
        ("DOC.FIND a", "unknown Conduct"),
        ("DOC.MANY a", "unknown Keys"),
        ("HALF a", "unknown Keys"),
        ("TUNE a", "unknown Conduct"),
        ("ATTACH a", "unknown State"),
        ("RUN x 1 a", "unknown Conduct"),
        ("DRAIN 0", "unknown Conduct"),
        ("PEEK a", "unknown Conduct"),
    ] {
        assert_eq!(route(&table, line), expected, "{line}");
    }
    for line in ["DOC.GET owned:1", "DOC.MANY owned:1", "RUN x 1 owned:1"] {
        let told = route(&table, line);
        assert!(told.contains("is not answered on the owned key 'owned:1'"), "{line}: {told}");
    }
}

#[test]
fn a_built_in_row_is_completed_and_loses_nothing() {
    let table = table(&[
        // It blocks, writes, and has a key more than the table knows.
        Told("lpos", "write blocking", "@write", "@1+range:0:1:0 @2+range:0:1:0", &[]),
        Told("get", "", "", "", &[]),
        Told("blpop", "", "", "", &[]),
        Told("set", "readonly", "@read", "@1+range:0:1:0", &[]),
        Told("xgroup", "", "", "", &[Told("xgroup|trim", "write", "@write", "@2+range:0:1:0", &[])]),
        Told("hearthside", "", "", "", &[Told("hearthside|pause", "no_auth", "", "", &[])]),
        Told("shutdown", "no_auth readonly", "", "", &[]),
    ]);
    for (line, expected) in [
        ("LPOS a b", "pinned Blocking"),
        ("GET a", "pass true"),
        ("BLPOP a 0", "pinned Blocking"),
        ("SET a b", "pass false"),
        ("XGROUP TRIM a g", "pass false"),
        ("XGROUP CREATE a g 0", "pass false"),
        ("HEARTHSIDE PAUSE", "Hearthside"),
    ] {
        assert_eq!(route(&table, line), expected, "{line}");
    }
    assert!(route(&table, "LPOS a owned:1").contains("the owned key 'owned:1'"));
    assert!(route(&table, "XGROUP TRIM owned:1 g").contains("the owned key 'owned:1'"));
    assert_eq!(route(&table, "GET owned:1"), "Cached", "a server cannot take a key away");
    let flags = table.lookup(b"shutdown", b"").expect("a command").flags;
    assert!(!flags.no_auth, "who needs no login is not for the upstream to say");
}

#[test]
fn a_server_before_redis_7_tells_the_places_of_keys() {
    // Redis 6: name, arity, flags, first key, last key, step, categories.
    let old = b"*3\r\n\
        *7\r\n$6\r\njoined\r\n:-3\r\n*1\r\n+write\r\n:1\r\n:-2\r\n:1\r\n*1\r\n+@write\r\n\
        *6\r\n$5\r\npairs\r\n:-3\r\n*1\r\n+write\r\n:1\r\n:-1\r\n:2\r\n\
        *6\r\n$6\r\nxgroup\r\n:-2\r\n*1\r\n+write\r\n:2\r\n:2\r\n:1\r\n";
    let table = Table::built_in().completed(&command::read(old).expect("an answer")).0;
    assert_eq!(route(&table, "JOINED a b 0"), "pass false");
    assert!(route(&table, "JOINED a owned:1 0").contains("'owned:1'"));
    assert_eq!(route(&table, "JOINED a b owned:1"), "pass false", "the last argument is no key");
    assert_eq!(route(&table, "PAIRS a owned:1"), "pass false");
    assert!(route(&table, "PAIRS a 1 owned:1 1").contains("'owned:1'"));
    // It says where the key of subcommands stands, and names none of them.
    assert_eq!(table.lookup(b"xgroup", b"create").map(|row| &*row.name), Some("xgroup|create"));
    assert!(route(&table, "XGROUP CREATE owned:1 g $").contains("'owned:1'"));
}

#[test]
fn an_answer_of_no_use_is_refused_whole() {
    let nested = [&b"*1\r\n".repeat(50_000)[..], b":1\r\n"].concat();
    let many = [b"*5000\r\n".to_vec(), answer(&[Told("a", "write", "@write", "", &[])])[4..].repeat(5000)].concat();
    let long = answer(&[Told(&"x".repeat(5000), "write", "@write", "", &[])]);
    for (what, bytes) in [
        ("no list", &b"+OK\r\n"[..]),
        ("a number", b":1\r\n"),
        ("an unfinished list", b"*2\r\n*1\r\n+a\r\n"),
        ("a list of nothing that is said", b"*9223372036854775807\r\n"),
        ("a map without end", b"%9223372036854775807\r\n"),
        ("rows of other things", b"*2\r\n:1\r\n:2\r\n"),
        ("a row without flags", b"*1\r\n*2\r\n+a\r\n:1\r\n"),
        ("deep nesting", &nested),
        ("too many commands", &many),
        ("a name without end", &long),
        ("a name of other bytes", b"*1\r\n*3\r\n$3\r\na\tb\r\n:1\r\n*0\r\n"),
        ("something behind it", b"*0\r\n*0\r\n"),
    ] {
        assert!(command::read(bytes).is_err(), "{what}");
    }
    assert_eq!(command::read(b"*2\r\n*-1\r\n_\r\n"), Ok(Vec::new()), "commands that the server does not have");
    assert_eq!(command::read(b"*0\r\n"), Ok(Vec::new()));
}

#[test]
fn rows_of_one_content_are_kept_once() {
    let first = table(&[Told("kept.once", "write", "@write", "@1+range:0:1:0", &[])]);
    let again = table(&[Told("kept.once", "write", "@write", "@1+range:0:1:0", &[])]);
    assert!(first.is(&again));
    let other = table(&[Told("kept.once", "readonly", "@read", "@1+range:0:1:0", &[])]);
    let rows = [&first, &other].map(|table| table.lookup(b"KEPT.ONCE", b"").expect("learned"));
    assert!(rows[0].id == rows[1].id && !std::ptr::eq(rows[0], rows[1]));
    assert_eq!(command::name_of(rows[0].id), Some("kept.once"));
}
