//! A primary that does not end: it falls silent, and is there again when another one has taken its place.

use super::{Pair, is_whole};
use crate::support::proxy::Proxy;

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
    // It takes writes still: nobody has told it that it is not the primary any more.
    pair.standby.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hearthside'");
    is_whole(&sidecar, &pair.standby);
    assert_eq!(sidecar.log().matches("the store is another of its hosts").count(), 1);
    assert_eq!(pair.primary.sql("SELECT name FROM players WHERE id = 9"), "told");
}
