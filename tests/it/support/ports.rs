//! Ports for servers that are told theirs.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// Below those from which a system takes the ports of outgoing connections, of which the tests open thousands.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port that no other test takes before this process ends; `tests/clients/harness.py` takes its own in the same way.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that begin together look in different places.
    let start = process::id().wrapping_mul(97) % u32::from(COUNT);
    (0..COUNT)
        .map(|_| FIRST + (start as u16 + NEXT.fetch_add(1, Relaxed)) % COUNT)
        .find(|port| reserve(*port) && TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// The lock of the port, which is held until this process has ended.
fn reserve(port: u16) -> bool {
    let folder = std::env::temp_dir().join("hearthside-ports");
    if fs::create_dir(&folder).is_ok() {
        fs::set_permissions(&folder, Permissions::from_mode(0o777)).expect("other users may test here, too");
    }
    let lock = File::create(folder.join(port.to_string()));
    let mine = lock.ok().filter(|lock| lock.try_lock().is_ok());
    mine.map(std::mem::forget).is_some()
}
