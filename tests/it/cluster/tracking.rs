//! CLIENT TRACKING, which no node of a cluster can do for the keys of the others.

use super::{Cluster, before};

#[test]
fn tracking_is_refused_clearly_and_nothing_is_kept_up_in_silence() {
    let cluster = Cluster::start();
    let sidecar = before(&cluster).start();
    let mut wire = sidecar.wire();
    wire.ask("HELLO 3");
    for request in ["CLIENT TRACKING ON", "CLIENT TRACKING ON BCAST PREFIX a", "CLIENT TRACKING ON REDIRECT 1"] {
        let told = wire.ask(request);
        assert!(told.starts_with("-ERR hearthside: CLIENT TRACKING is not supported behind a cluster"), "{told}");
    }
    assert_eq!(wire.ask("CLIENT TRACKING OFF"), "+OK\r\n");
    assert_eq!(wire.ask("CLIENT GETREDIR"), ":-1\r\n");
    wire.ask("MULTI");
    assert!(wire.ask("CLIENT TRACKING ON").contains("not supported behind a cluster"));
    assert!(wire.ask("EXEC").starts_with("-EXECABORT"));
    for key in cluster.key_of_each() {
        assert_eq!(wire.ask(&format!("SET {key} x")), "+OK\r\n");
    }
}
