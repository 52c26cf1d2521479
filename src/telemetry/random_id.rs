//! Random numbers that nobody else draws: no other process, not even one that goes on from a copy of this one's memory,
//! as a cloned machine does. So they come from the system, each when it is needed.

use std::fs::File;
use std::io::{self, Read as _};
use std::time::{SystemTime, UNIX_EPOCH};

/// Random bytes of the system's. Never from a generator in memory: that would be copied with a running machine.
///
/// # Errors
/// Why the system gives none.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0_u8; N];
    File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes))?;
    Ok(bytes)
}

/// A number that names something for as long as it is under way. Where even the system's random bytes were copied with
/// the machine, the nanosecond differs; where there are none now (no more files may be open), it is this process's own.
#[must_use]
pub fn fresh() -> u64 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    nanos ^ random().map_or_else(|_| fastrand::u64(..), u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::{fresh, random};

    #[test]
    fn each_is_another() {
        assert_ne!(random::<16>().expect("random"), random::<16>().expect("random"));
        assert_ne!(fresh(), fresh());
    }
}
