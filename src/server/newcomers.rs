//! Keeps newcomers away from a listener that is about to be closed, while another process listens on the same address.
//! The kernel gives each newcomer to one of the two listeners when its first packet comes, and resets those that a
//! listener has when it is closed. A newcomer whose first packet is dropped sends it again a second later, and then
//! there is only the other listener.

use std::io;
use std::os::fd::AsFd;

/// From now on first packets are dropped, and handshakes that have begun go on to their end.
///
/// # Errors
/// The kernel does not take the filter.
#[cfg(target_os = "linux")]
pub(super) fn turn_away(listener: &impl AsFd) -> io::Result<()> {
    use socket2::{SockFilter, SockRef};
    // Where the flags are in the header of TCP, and those that tell a first packet: SYN without ACK.
    // Source: <https://www.rfc-editor.org/rfc/rfc9293#section-3.1>
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    // Instructions of the filter machine.
    // Source: <https://www.kernel.org/doc/html/latest/networking/filter.html>
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// Elsewhere there is no such filter.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub(super) fn turn_away(_listener: &impl AsFd) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::ErrorKind;
    use std::net::{SocketAddr, TcpListener};

    use socket2::{Domain, Socket, Type};

    use super::turn_away;

    #[test]
    fn newcomers_come_to_the_listener_that_stays() {
        const CLIENTS: usize = 32;
        let sharing = |address: SocketAddr| -> TcpListener {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_reuse_port(true).expect("a socket");
            socket.bind(&address.into()).expect("binds");
            socket.listen(128).expect("listens");
            socket.into()
        };
        let old = sharing(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = old.local_addr().expect("bound");
        let new = sharing(address);
        turn_away(&old).expect("the kernel takes it");
        // Each has sent its first packet; half of them to the old listener.
        let clients = [(); CLIENTS].map(|()| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            client.set_nonblocking(true).expect("a socket");
            let _under_way = client.connect(&address.into());
            client
        });
        new.accept().expect("somebody was not turned away");
        old.set_nonblocking(true).expect("a socket");
        assert_eq!(old.accept().expect_err("nobody is let in").kind(), ErrorKind::WouldBlock);
        drop(old);
        for _ in 1..CLIENTS {
            new.accept().expect("the others come again");
        }
        assert!(clients.iter().all(|client| client.take_error().expect("a socket").is_none()));
    }
}
