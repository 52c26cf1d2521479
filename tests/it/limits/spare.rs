//! The memory for small replies is one for each thread: whoever is owed nothing now holds none of it.

use crate::support::process::status;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::line;

const CONFIG: &str = "[[definitions]]\nkey = \"little:{id}\"\ntype = \"string\"\nvalue = \"text\"\n\
    query = \"SELECT 'one' AS id, hex(zeroblob(250)) AS text\"\n";

/// Of 120 clients the first 20 bring what the process needs once. Each of the others needs 80 KiB for its connection to
/// the upstream; with the memory for replies it was 320 KiB.
#[test]
fn clients_that_wait_hold_no_memory_for_replies() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).config(CONFIG).set("SERVER__WORKERS", "1").start();
    let (mut reader, mut upstream) = (sidecar.wire(), redis.wire());
    let (mut waiting, mut before) = (Vec::new(), 0);
    for i in 1..=120 {
        // The thread's memory becomes as large as it is kept.
        reader.send(&line("GET little:one").repeat(470));
        (0..470).for_each(|_| assert_eq!(reader.frame().len(), 508));
        let mut wire = sidecar.wire();
        wire.send(&line("BLPOP nothing 0"));
        waiting.push(wire);
        until("it waits", || upstream.ask("INFO clients").contains(&format!("blocked_clients:{i}\r\n")));
        if i == 20 {
            before = status(sidecar.pid(), "VmRSS");
        }
    }
    let more = status(sidecar.pid(), "VmRSS").saturating_sub(before) / 1024;
    assert!(more < 20, "{more} MiB for 100 clients that wait");
}
