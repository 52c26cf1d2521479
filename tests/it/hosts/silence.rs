//! A primary that does not end: it falls silent, and is there again when another one has taken its place.

use super::{Pair, is_whole, seen};
use crate::support::proxy::Proxy;
use crate::support::until;

#[test]
fn what_was_begun_at_a_silent_primary_holds_up_nothing_after_the_move() {
    let pair = Pair::new("notify");
    let proxy = Proxy::to(pair.primary.port);
    let sidecar = pair.over(proxy.port).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET p:1 name"), "$2\r\np1\r\n");
    pair.standby.catch_up_with(&pair.primary);
    // The journal's first note is on its way when the server falls silent.
    let note = proxy.trap("INSERT INTO hearthside.journals");
    assert_eq!(wire.ask("HSET p:1 seen 5"), ":0\r\n");
    until("the note is on its way", || note.has_caught());
    proxy.hold(true);
    pair.standby.promote();
    is_whole(&sidecar, &pair.standby);
    assert_eq!(seen(&pair.standby, 1), "5");
}

#[test]
fn a_silent_primary_is_left_and_not_taken_again_when_it_wakes_up() {
    let pair = Pair::new("notify");
    let proxy = Proxy::to(pair.primary.port);
    let sidecar = pair.over(proxy.port).start();
    is_whole(&sidecar, &pair.primary);
    pair.standby.catch_up_with(&pair.primary);
    proxy.hold(true);
    pair.standby.promote();
    is_whole(&sidecar, &pair.standby);
    proxy.hold(false);
    // It takes writes still: nobody has told it that it is not the primary any more. The new one is away for a moment.
    pair.standby.stop();
    let before = proxy.accepted();
    until("all are asked", || proxy.accepted() > before + 3);
    assert!(sidecar.wire().ask("HSET p:8 name lost").starts_with('-'), "nothing goes to the old one");
    pair.standby.launch();
    is_whole(&sidecar, &pair.standby);
    assert_eq!(sidecar.log().matches("the store is another of its hosts").count(), 1);
    assert_eq!(pair.primary.sql("SELECT name FROM players WHERE id = 9"), "told");
}
