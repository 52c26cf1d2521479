//! Cache-aside code that is left in place: what it writes after a miss is what the store holds already.

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::demo;
use crate::support::wire::line;

const CONFIG: &str = r#"
[[caches]]
key = "player:{character_id:int}:inventory"
type = "list"
query = "SELECT inventory_id, item_id, quantity FROM inventory_items WHERE character_id = $1 ORDER BY position"
watch = [{ table = "inventory_items" }]
ttl = "10m"
write = "fill"

[[caches]]
key = "player:{character_id:int}:session"
type = "hash"
table = "sessions"
ttl = "30m"
write = "fill"
"#;

#[test]
fn a_fill_is_answered_as_redis_does_and_the_store_is_what_is_read() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let builder = demo(&redis, &postgres).config(CONFIG);
    assert!(builder.execute(&["triggers", "--install"]).status.success());
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    let stored = wire.ask("LRANGE player:1:inventory 0 -1");
    assert!(stored.starts_with("*8\r\n"));
    wire.send(&[line("DEL player:1:inventory"), line("RPUSH player:1:inventory a b c")].concat());
    assert_eq!((wire.frame(), wire.frame()), (b":1\r\n".to_vec(), b":3\r\n".to_vec()));
    assert_eq!(wire.ask("EXPIRE player:1:inventory 600"), ":1\r\n");
    let left = wire.ask("TTL player:1:inventory");
    assert!(left.starts_with(":600") || left.starts_with(":5"), "{left}");
    assert_eq!(wire.ask("LRANGE player:1:inventory 0 -1"), stored);
    assert_eq!(wire.ask("HSET player:1:session hp 1 new 2"), ":2\r\n");
    assert_ne!(wire.ask("HGET player:1:session hp"), "$1\r\n1\r\n");
    assert_eq!(wire.ask("HSET player:1:session hp 1 new 2"), ":1\r\n");
    assert_eq!(postgres.sql("SELECT count(*) FROM inventory_items WHERE character_id = 1"), "8");
}
