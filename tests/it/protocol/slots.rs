//! Hash slots are those that the servers of a cluster find.

use hearthside::command::slot_of;

use crate::support::redis::{Redis, SERVERS};
use crate::support::wire::{Wire, array};
use crate::support::{free_port, setting};

/// Keys for which the servers are asked at once.
const BATCH: usize = 500;

/// A key of few different bytes, so that every arrangement of braces comes up, or of any bytes.
fn key(random: &mut fastrand::Rng) -> Vec<u8> {
    let (is_long, is_of_braces) = (random.u8(..8) == 0, random.bool());
    let length = random.usize(..if is_long { 300 } else { 12 });
    let mut byte = || if is_of_braces { b"{{}}ab:\0"[random.usize(..8)] } else { random.u8(..) };
    (0..length).map(|_| byte()).collect()
}

fn assert_same(wire: &mut Wire, keys: &[Vec<u8>]) {
    wire.send(&keys.iter().flat_map(|key| array(&[b"CLUSTER", &b"KEYSLOT"[..], key])).collect::<Vec<u8>>());
    for key in keys {
        let told = String::from_utf8_lossy(&wire.frame()).into_owned();
        assert_eq!(told, format!(":{}\r\n", slot_of(key)), "{}", key.escape_ascii());
    }
}

#[test]
fn every_key_is_in_the_slot_that_a_cluster_says() {
    let seed = setting("HEARTHSIDE_SEED", 1);
    for server in SERVERS {
        let bus = free_port().to_string();
        let redis = Redis::of(server, &["--cluster-enabled", "yes", "--cluster-port", &bus]);
        let (mut wire, mut random) = (redis.wire(), fastrand::Rng::with_seed(seed));
        for _ in 0..20 {
            let keys: Vec<Vec<u8>> = (0..BATCH).map(|_| key(&mut random)).collect();
            assert_same(&mut wire, &keys);
        }
    }
}
