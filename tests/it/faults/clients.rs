//! Faults between clients and the sidecar: the others do not notice.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::trial::Trial;
use crate::support::admin::metric;
use crate::support::proxy::Spoil;
use crate::support::until;
use crate::support::wire::line;

/// A connection of its own, for what no client library would do.
fn stranger(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).expect("connects")
}

#[test]
fn clients_are_cut() {
    Trial::sees(&[]).closes().run(|world| {
        for _ in 0..5 {
            world.door.cut();
            world.load.go_on(3);
        }
    });
}

#[test]
fn clients_are_reset() {
    Trial::sees(&[]).closes().run(|world| {
        for _ in 0..5 {
            world.door.reset();
            world.load.go_on(3);
        }
    });
}

#[test]
fn clients_send_and_get_every_byte_alone() {
    let errors = Trial::sees(&[]).run(|world| {
        world.door.spoil(Spoil::Trickle);
        world.load.go_on(10);
        world.door.spoil(Spoil::Nothing);
    });
    assert!(errors.is_empty());
}

#[test]
fn clients_stand_still() {
    Trial::sees(&[]).run(|world| {
        world.door.hold(true);
        assert!(world.sidecar.wire().ask("PING").starts_with("+PONG"), "others are served");
        world.door.hold(false);
    });
}

#[test]
fn clients_vanish_with_replies_on_their_way() {
    Trial::sees(&[]).run(|world| {
        for i in 0..100 {
            let mut stream = stranger(world.sidecar.port);
            let batch: Vec<u8> = (0..50).flat_map(|j| line(&format!("SET gone:{i}:{j} x"))).collect();
            stream.write_all(&batch).expect("sends");
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
        }
        world.load.go_on(5);
        until("they are forgotten", || metric(&world.sidecar, "hearthside_clients") <= 6.0);
    });
}

#[test]
fn clients_vanish_in_the_middle_of_a_request() {
    Trial::sees(&[]).run(|world| {
        let request = line("SET gone half");
        for cut in 1..request.len() {
            stranger(world.sidecar.port).write_all(&request[..cut]).expect("sends");
        }
        world.load.go_on(5);
        assert_eq!(world.redis.wire().ask("EXISTS gone"), ":0\r\n", "half a request is none");
        until("they are forgotten", || metric(&world.sidecar, "hearthside_clients") <= 6.0);
    });
}

#[test]
fn clients_close_their_sending_side() {
    Trial::sees(&[]).run(|world| {
        for _ in 0..20 {
            let mut wire = world.sidecar.wire();
            wire.send(&[line("SET a 1"), line("GET a"), line("HGET item:apple:def name")].concat());
            wire.finish_sending();
            assert_eq!(wire.rest(), b"+OK\r\n$1\r\n1\r\n$5\r\nApple\r\n");
        }
    });
}

#[test]
fn clients_send_garbage() {
    Trial::sees(&[]).run(|world| {
        for garbage in
            [&b"*9999999999999\r\n"[..], b"*1\r\n$-5\r\n", b"*1\r\nx\r\n", b"GET \"open\r\n", b"\x16\x03\x01\x02\x00"]
        {
            let mut wire = world.sidecar.wire();
            wire.send(garbage);
            wire.finish_sending();
            let told = String::from_utf8_lossy(&wire.rest()).into_owned();
            assert!(told.is_empty() || told.starts_with("-ERR"), "{told}");
        }
        assert!(metric(&world.sidecar, "hearthside_protocol_errors_total") >= 4.0);
    });
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    Trial::sees(&[]).set("LIMITS__CLIENT_OUTPUT_TIMEOUT", "500ms").run(|world| {
        let value = "v".repeat(1 << 20);
        world.redis.wire().call(&["SET", "long", &value]);
        let mut deaf = world.sidecar.wire();
        deaf.send(&line("GET long").repeat(50));
        until("it is cut", || world.sidecar.log().contains("limit=\"limits.client_output_timeout\""));
        assert!(metric(&world.sidecar, "hearthside_limits_reached_total{limit=\"client_output_timeout\"}") == 1.0);
    });
}

#[test]
fn clients_come_and_go() {
    Trial::sees(&[]).run(|world| {
        for i in 0..300 {
            let mut wire = world.sidecar.wire();
            assert_eq!(wire.ask(&format!("ECHO {i}")), format!("${}\r\n{i}\r\n", i.to_string().len()));
            let stream = stranger(world.sidecar.port);
            let _ = stream.shutdown(Shutdown::Both);
        }
        until("they are forgotten", || metric(&world.sidecar, "hearthside_clients") <= 6.0);
    });
}
