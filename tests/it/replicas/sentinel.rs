//! The replicas that sentinels tell of.

use super::moves::Readers;
use super::{calls, is_read, reading};
use crate::support::redis::Redis;
use crate::support::sentinels::{Group, SERVICE, Sentinel};
use crate::support::until;
use crate::support::warnings;

#[test]
fn the_replicas_of_the_group_are_read_through_failovers() {
    let group = Group::start();
    let builder = reading(group.url()).expect(&[warnings::SENTINEL_SILENT]);
    let sidecar = builder.start();
    let [first, second] = [0, 1].map(|i| group.servers[i].port);
    is_read(&sidecar, second, true);
    let readers = Readers::start(sidecar.port, 6);
    readers.go_on(12);
    assert!(calls(second, "get") > 0);
    group.fail_over();
    assert_eq!(group.master(), second);
    readers.go_on(12);
    until("the old master is a replica", || group.servers[0].wire().ask("ROLE").contains("slave"));
    is_read(&sidecar, first, true);
    let before = calls(first, "get");
    until("the old master is read", || calls(first, "get") > before);
    readers.stop();
}

#[test]
fn a_sentinel_that_may_not_tell_of_replicas_is_followed_all_the_same() {
    let redis = Redis::start();
    let more = "user default on nopass allchannels -@all +psubscribe +ping +sentinel|master \
        +sentinel|get-master-addr-by-name +sentinel|sentinels";
    let sentinel = Sentinel::start(redis.port, 1, more);
    let url = format!("redis+sentinel://127.0.0.1:{}/{SERVICE}", sentinel.port);
    let sidecar = reading(url).expect(&[warnings::SENTINEL_HIDES]).start();
    assert_eq!(sidecar.wire().ask("SET page:1 1"), "+OK\r\n");
    until("it is told", || sidecar.log().contains("does not let its user ask for the replicas"));
    assert_eq!(sidecar.wire().ask("GET page:1"), "$1\r\n1\r\n");
}
