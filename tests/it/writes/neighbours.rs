//! What a write changes beside its own key, with SQLite as the store: other mappings of the same table, definitions,
//! and what the owner's triggers and foreign keys change.

use super::embedded::Place;
use crate::support::admin::metric;
use crate::support::sidecar::Sidecar;
use crate::support::{until, warnings};

const LOADS: &str = "hearthside_loads_total{outcome=\"ok\"}";

const TABLES: &str = "
CREATE TABLE sess (id INTEGER PRIMARY KEY, hp INTEGER NOT NULL, seen INTEGER, guild TEXT);
CREATE TABLE stats (id INTEGER PRIMARY KEY, writes INTEGER NOT NULL);
CREATE TABLE items (item INTEGER PRIMARY KEY, owner INTEGER REFERENCES sess (id) ON DELETE CASCADE, name TEXT);
CREATE TABLE quiet (id INTEGER PRIMARY KEY, v TEXT);
CREATE TABLE bare (id TEXT PRIMARY KEY, twin TEXT UNIQUE, v TEXT) WITHOUT ROWID;
CREATE VIEW weak AS SELECT id, hp FROM sess WHERE hp < 100;
CREATE TRIGGER counted AFTER UPDATE ON sess BEGIN UPDATE stats SET writes = writes + 1 WHERE id = NEW.id; END;
INSERT INTO sess VALUES (1, 1, 0, 'red'), (2, 1, 0, 'red'), (3, 1, 0, 'blue');
INSERT INTO stats VALUES (1, 0), (2, 0), (3, 0);
INSERT INTO items VALUES (10, 2, 'sword'), (11, 3, 'shield');
INSERT INTO quiet VALUES (1, 'a'), (2, 'b');
INSERT INTO bare VALUES ('a', 'x', '1'), ('b', 'y', '2');
";

const CONFIG: &str = r#"
[[definitions]]
key = "def:{id:int}"
type = "hash"
table = "sess"
fields = ["hp"]

[[caches]]
key = "s:{id:int}"
type = "hash"
table = "sess"
fields = ["hp", "guild", "seen"]
write = "through"
delete = "row"
deferred = ["seen"]

[[caches]]
key = "hp:{id:int}"
type = "string"
table = "sess"
value = "hp"

[[caches]]
key = "seen:{id:int}"
type = "string"
table = "SESS"
value = "seen"

[[caches]]
key = "guild:{guild}"
type = "list"
query = "SELECT guild, hp FROM sess WHERE guild = $1 ORDER BY id"
value = "hp"
watch = [{ table = "sess", key = { guild = "guild" } }]

[[caches]]
key = "weak:{id:int}"
type = "string"
table = "weak"
value = "hp"

[[caches]]
key = "st:{id:int}"
type = "string"
table = "stats"
value = "writes"

[[caches]]
key = "bag:{owner:int}"
type = "list"
query = "SELECT owner, name FROM items WHERE owner = $1 ORDER BY item"
value = "name"
watch = [{ table = "items", key = { owner = "owner" } }]

[[caches]]
key = "q:{id:int}"
type = "string"
table = "quiet"
value = "v"

[[caches]]
key = "bare:{id}"
type = "string"
table = "bare"
value = "v"
write = "through"
"#;

/// Commands and the replies that clients are to get, soon: a change is told when its write is answered, a definition is
/// loaded again a moment later.
fn shows(sidecar: &Sidecar, pairs: &[(&str, &str)]) {
    let mut wire = sidecar.wire();
    for (command, reply) in pairs {
        until(&format!("{command} is {reply:?}"), || wire.ask(command) == *reply);
    }
}

/// The same, at once.
fn shows_now(sidecar: &Sidecar, pairs: &[(&str, &str)]) {
    let mut wire = sidecar.wire();
    for (command, reply) in pairs {
        assert_eq!(wire.ask(command), *reply, "{command}");
    }
}

const BEFORE: [(&str, &str); 9] = [
    ("GET hp:1", "$1\r\n1\r\n"),
    ("GET hp:2", "$1\r\n1\r\n"),
    ("GET seen:1", "$1\r\n0\r\n"),
    ("LRANGE guild:red 0 -1", "*2\r\n$1\r\n1\r\n$1\r\n1\r\n"),
    ("HGET def:1 hp", "$1\r\n1\r\n"),
    ("GET weak:1", "$1\r\n1\r\n"),
    ("GET st:1", "$1\r\n0\r\n"),
    ("LRANGE bag:2 0 -1", "*1\r\n$5\r\nsword\r\n"),
    ("GET q:1", "$1\r\na\r\n"),
];

/// A sidecar that has read all of it. Nothing but its own notices tells it of a change: the file is never looked at
/// again.
fn read_once(place: &Place) -> Sidecar {
    let sidecar = place.builder().expect(&[warnings::NO_INDEXES]).set("STORE__POLL_INTERVAL", "1h");
    let sidecar = sidecar.set("CACHE__MAX_STALENESS", "2h").start();
    shows_now(&sidecar, &BEFORE);
    sidecar
}

#[test]
fn a_write_through_is_news_to_every_other_key_over_its_rows_and_to_no_other() {
    let place = Place::of(TABLES, CONFIG);
    let sidecar = read_once(&place);
    assert_eq!(sidecar.wire().ask("HINCRBY s:1 hp 5"), ":6\r\n");
    let loads = metric(&sidecar, LOADS);
    shows_now(&sidecar, &[("HGET s:1 hp", "$1\r\n6\r\n"), BEFORE[1], BEFORE[8], BEFORE[7]]);
    assert_eq!(metric(&sidecar, LOADS), loads, "what has not changed is loaded again");
    shows_now(
        &sidecar,
        &[
            ("GET hp:1", "$1\r\n6\r\n"),
            ("LRANGE guild:red 0 -1", "*2\r\n$1\r\n6\r\n$1\r\n1\r\n"),
            ("GET weak:1", "$1\r\n6\r\n"),
            ("GET st:1", "$1\r\n1\r\n"),
        ],
    );
    shows(&sidecar, &[("HGET def:1 hp", "$1\r\n6\r\n")]);
    // A row that moves is news to the list that it leaves and to the one that it comes to.
    shows_now(&sidecar, &[("LRANGE guild:blue 0 -1", "*1\r\n$1\r\n1\r\n")]);
    assert_eq!(sidecar.wire().ask("HSET s:1 guild blue"), ":0\r\n");
    shows_now(
        &sidecar,
        &[("LRANGE guild:red 0 -1", "*1\r\n$1\r\n1\r\n"), ("LRANGE guild:blue 0 -1", "*2\r\n$1\r\n6\r\n$1\r\n1\r\n")],
    );
}

#[test]
fn a_flush_is_news_to_every_other_key_over_its_rows() {
    let place = Place::of(TABLES, CONFIG);
    let sidecar = read_once(&place);
    assert_eq!(sidecar.wire().ask("HSET s:1 seen 7"), ":0\r\n");
    shows(&sidecar, &[("GET seen:1", "$1\r\n7\r\n"), ("GET st:1", "$1\r\n1\r\n")]);
    shows_now(&sidecar, &[("HGET s:1 seen", "$1\r\n7\r\n")]);
}

#[test]
fn a_transaction_is_news_to_every_other_key_over_its_rows() {
    let place = Place::of(TABLES, CONFIG);
    let sidecar = read_once(&place);
    let mut wire = sidecar.wire();
    for command in ["MULTI", "HINCRBY s:1 hp 5", "HINCRBY s:2 hp 6", "EXEC"] {
        wire.ask(command);
    }
    shows_now(
        &sidecar,
        &[
            ("GET hp:1", "$1\r\n6\r\n"),
            ("GET hp:2", "$1\r\n7\r\n"),
            ("LRANGE guild:red 0 -1", "*2\r\n$1\r\n6\r\n$1\r\n7\r\n"),
            ("GET st:1", "$1\r\n1\r\n"),
        ],
    );
    shows(&sidecar, &[("HGET def:1 hp", "$1\r\n6\r\n")]);
}

#[test]
fn what_a_foreign_key_deletes_is_news_and_so_is_another_row_of_the_same_mapping() {
    let place = Place::of(TABLES, CONFIG);
    let sidecar = read_once(&place);
    assert_eq!(sidecar.wire().ask("DEL s:2"), ":1\r\n");
    shows_now(&sidecar, &[("LRANGE bag:2 0 -1", "*0\r\n"), ("GET hp:2", "$-1\r\n")]);
    place.sql("CREATE TRIGGER twin AFTER UPDATE ON bare WHEN NEW.id = 'a' BEGIN UPDATE bare SET v = NEW.v; END");
    let mut wire = sidecar.wire();
    // Another key of the same mapping, in a table without rowids.
    shows_now(&sidecar, &[("GET bare:a", "$1\r\n1\r\n"), ("GET bare:b", "$1\r\n2\r\n")]);
    assert_eq!(wire.ask("SET bare:a 9"), "+OK\r\n");
    shows_now(&sidecar, &[("GET bare:a", "$1\r\n9\r\n"), ("GET bare:b", "$1\r\n9\r\n")]);
}

#[test]
fn a_later_step_of_a_transaction_that_changes_the_row_of_an_earlier_one_is_seen() {
    let place = Place::of(TABLES, CONFIG);
    place.sql(
        "CREATE TRIGGER pass AFTER UPDATE OF hp ON sess WHEN NEW.id = 2 \
               BEGIN UPDATE sess SET hp = 80 WHERE id = 1; END",
    );
    let sidecar = read_once(&place);
    let mut wire = sidecar.wire();
    for command in ["MULTI", "HSET s:1 hp 5", "HSET s:2 hp 6", "EXEC"] {
        wire.ask(command);
    }
    shows_now(&sidecar, &[("HGET s:1 hp", "$2\r\n80\r\n"), ("HGET s:2 hp", "$1\r\n6\r\n")]);
}

#[test]
fn a_row_that_replace_displaces_is_news() {
    let place = Place::of(TABLES, CONFIG);
    place.sql(
        "CREATE TRIGGER swap AFTER UPDATE OF guild ON sess \
               BEGIN INSERT OR REPLACE INTO bare VALUES ('c', 'y', NEW.guild); END",
    );
    let sidecar = read_once(&place);
    shows_now(&sidecar, &[("GET bare:b", "$1\r\n2\r\n"), ("GET bare:c", "$-1\r\n")]);
    assert_eq!(sidecar.wire().ask("HSET s:1 guild new"), ":0\r\n");
    shows_now(&sidecar, &[("GET bare:b", "$-1\r\n"), ("GET bare:c", "$3\r\nnew\r\n")]);
}
