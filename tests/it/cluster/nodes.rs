//! The clusters of these tests do what is asked of them, with every server.

use std::time::Instant;

use crate::support::clusters::Cluster;
use crate::support::nodes::slot_of;
use crate::support::redis::SERVERS;
use crate::support::wire::Wire;

#[test]
fn a_cluster_moves_slots_and_replaces_its_masters() {
    for server in SERVERS {
        let begun = Instant::now();
        let mut cluster = Cluster::of(server);
        eprintln!("{server:?} started {:?}", begun.elapsed());
        let [a, b, _] = cluster.masters()[..] else { panic!("three masters") };
        let key = cluster.key_of(a);
        assert_eq!(Wire::tcp(a).ask(&format!("CLUSTER KEYSLOT {key}")), format!(":{}\r\n", slot_of(&key)));
        assert_eq!(Wire::tcp(a).ask(&format!("SET {key} 1")), "+OK\r\n");
        cluster.move_slot(slot_of(&key), b);
        assert!(Wire::tcp(a).ask(&format!("GET {key}")).starts_with("-MOVED"));
        assert_eq!(Wire::tcp(b).ask(&format!("GET {key}")), "$1\r\n1\r\n");
        eprintln!("moved {:?}", begun.elapsed());
        let c = cluster.fail_over(b);
        assert_eq!(Wire::tcp(c).ask(&format!("GET {key}")), "$1\r\n1\r\n");
        cluster.healthy();
        cluster.kill(c);
        assert_eq!(cluster.replaced(&key), b);
        cluster.launch(c);
        cluster.healthy();
        assert_eq!(Wire::tcp(b).ask(&format!("GET {key}")), "$1\r\n1\r\n");
        cluster.hang(b);
        assert_eq!(cluster.replaced(&key), c);
        cluster.wake(b);
        cluster.healthy();
        eprintln!("{server:?} done {:?}", begun.elapsed());
    }
}
