//! Which part of a mapping's keys a percentage means. The same key has the same share in every sidecar and in every
//! version: what is written here is never changed (decision 0040).

/// The offset and the prime of FNV-1a with 64 bits.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// A number from 0 to 99 that follows from the key alone: the key is among `percent` of all keys if it is smaller than
/// that. So a larger percentage has every key of a smaller one.
#[must_use]
pub fn share_of(key: &[u8]) -> u8 {
    let hash = key.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    (mixed(hash) % 100) as u8
}

/// Every bit of the hash counts in every bit of the result (the finalizer of `MurmurHash3`): keys that differ in their
/// last digit only would be unevenly spread otherwise.
const fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::share_of;

    /// These never change: sidecars of several versions work side by side.
    #[test]
    fn a_key_has_the_same_share_for_ever() {
        let keys = ["player:1:session", "player:2:session", "player:3:session", "s:abc", ""];
        assert_eq!(keys.map(|key| share_of(key.as_bytes())), [91, 90, 41, 79, 42]);
    }

    #[test]
    fn every_percentage_has_its_part_of_the_keys() {
        const KEYS: usize = 100_000;
        let mut shares = [0_usize; 100];
        for id in 0..KEYS {
            shares[usize::from(share_of(format!("player:{id}:session").as_bytes()))] += 1;
        }
        for percent in [1, 10, 50, 90] {
            let (part, expected) = (shares[..percent].iter().sum::<usize>(), KEYS * percent / 100);
            assert!(part.abs_diff(expected) < KEYS / 200, "{percent} %: {part}");
        }
        assert!(shares.iter().all(|part| part.abs_diff(KEYS / 100) < 150), "{shares:?}");
    }
}
