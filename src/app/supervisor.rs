//! Tells whoever started this process, if it asks (`NOTIFY_SOCKET`, as systemd does), that clients are served.
//!
//! Source: <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

pub(super) const READY: &str = "READY=1";
pub(super) const STOPPING: &str = "STOPPING=1";

pub(super) fn tell(state: &str) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(%error, "the service manager cannot be told at NOTIFY_SOCKET how this sidecar is");
    }
}

/// Never waits: one that does not read must not keep this process from serving.
fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let datagrams = UnixDatagram::unbound()?;
    datagrams.set_nonblocking(true)?;
    datagrams.connect_addr(&address)?;
    datagrams.send(state.as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::{READY, send};

    #[test]
    fn both_kinds_of_address_are_told_and_a_full_one_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let name = format!("hearthside-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).expect("an address");
        let [first, second] = [
            (path.display().to_string(), UnixDatagram::bind(&path)),
            (format!("@{name}"), UnixDatagram::bind_addr(&abstract_address)),
        ];
        for (address, manager) in [first, second] {
            let manager = manager.expect("a socket");
            send(OsStr::new(&address), READY).expect("told");
            let mut heard = [0; 64];
            let length = manager.recv(&mut heard).expect("heard");
            assert_eq!(&heard[..length], READY.as_bytes());
            let refused = (0..100_000).find_map(|_| send(OsStr::new(&address), READY).err());
            assert_eq!(refused.map(|error| error.kind()), Some(std::io::ErrorKind::WouldBlock));
        }
    }
}
