//! One reply made of many values: what it costs while it is made, and where it ends.

use std::io::Write;

use crate::memory::{MEGABYTE, cut, limited, most, wait_for_the_end, warm};
use crate::support::admin::metric;
use crate::support::redis::Redis;
use crate::support::until;
use crate::support::wire::{connect_narrow, line};

/// A hash, a string and cached strings of 1 MiB each.
const CONFIG: &str = "\
[[definitions]]\nkey = \"big:{id}\"\ntype = \"hash\"\nquery = \"SELECT 'one' AS id, hex(zeroblob(524288)) AS text\"\n
[[definitions]]\nkey = \"text:{id}\"\ntype = \"string\"\nvalue = \"text\"\n\
query = \"SELECT 'one' AS id, hex(zeroblob(524288)) AS text\"\n
[[caches]]\nkey = \"row:{id:int}\"\ntype = \"string\"\nvalue = \"text\"\nttl = \"1h\"\n\
query = \"SELECT hex(zeroblob(524288)) AS text WHERE $1 > 0\"\n";

fn transaction(commands: &[u8]) -> Vec<u8> {
    [&line("MULTI"), commands, &line("EXEC")].concat()
}

fn mget(keys: &str) -> Vec<u8> {
    line(format!("MGET {keys}").trim_end())
}

#[test]
fn a_reply_of_many_values_costs_little_more_than_all_may_hold() {
    let redis = Redis::start();
    redis.wire().call(&["SET", "mb", &"v".repeat(MEGABYTE)]);
    let owned = line("HGET big:one text");
    let kinds = [
        ("EXEC of owned reads", transaction(&owned.repeat(3000))),
        ("EXEC of both", transaction(&[owned, line("GET mb").repeat(3000)].concat())),
        ("MGETs of owned keys", mget(&"text:one ".repeat(60)).repeat(100)),
        ("MGETs of both", mget(&"text:one mb ".repeat(30)).repeat(100)),
    ];
    let costs = kinds.map(|(kind, requests)| {
        let sidecar = limited(&redis).config(CONFIG).start();
        let before = warm(&sidecar);
        let mut deaf = connect_narrow(sidecar.port);
        deaf.write_all(&requests).expect("sends");
        wait_for_the_end(&sidecar, 8 * MEGABYTE);
        until("others are served", || sidecar.wire().ask("GET short") == "$4\r\nmine\r\n");
        (kind, most(&sidecar, before))
    });
    assert!(costs.iter().all(|(_, most)| *most < 100 + 64), "MiB: {costs:?}");
}

#[test]
fn mget_past_what_all_may_hold_is_refused_and_its_client_goes_on() {
    const TOO_LONG: &str = "-ERR hearthside: the reply would be longer than all clients may hold (limits.buffers)\r\n";
    let redis = Redis::start();
    let sidecar = limited(&redis).config(CONFIG).set("STORE__CONNECT_TIMEOUT", "20s").start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask(&format!("MGET{}", " text:one".repeat(101))), TOO_LONG, "in memory");
    let rows: String = (1..=101).map(|id| format!(" row:{id}")).collect();
    assert_eq!(wire.ask(&format!("MGET{rows}")), TOO_LONG, "loaded");
    assert_eq!(metric(&sidecar, "hearthside_limits_reached_total{limit=\"buffers\"}"), 2.0);
    assert_eq!(wire.ask(&format!("EXISTS{rows}")), ":101\r\n", "none of their values is told");
    let value = format!("${}\r\n{}\r\n", MEGABYTE, "0".repeat(MEGABYTE));
    assert!(wire.ask(&format!("MGET none{}", " text:one".repeat(7))) == format!("*8\r\n$-1\r\n{}", value.repeat(7)));
    assert_eq!(cut(&sidecar), 0.0);
}
