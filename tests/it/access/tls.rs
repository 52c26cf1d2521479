//! Clients over TLS: `rediss://` addresses of `server.listen`, with redis-cli as the client.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use crate::support::admin::metric;
use crate::support::certificates::Authority;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::until;
use crate::support::warnings;

fn cli(port: u16, authority: &Authority) -> Command {
    let mut cli = Command::new("redis-cli");
    cli.args(["-h", "localhost", "-p", &port.to_string(), "--tls", "--cacert", &authority.file]);
    cli
}

fn ask(mut cli: Command, words: &[&str]) -> Output {
    cli.args(words).output().expect("redis-cli is installed (scripts/test installs it)")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn over_tls(redis: &Redis, folder: &std::path::Path, authority: &Authority) -> Builder {
    let server = authority.sign(folder, "server");
    Sidecar::builder()
        .redis(redis)
        .set("SERVER__LISTEN", "rediss://127.0.0.1:0")
        .set("TLS__CERT_FILE", server.certificate)
        .set("TLS__KEY_FILE", server.key)
}

#[test]
fn clients_come_in_over_tls() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let authority = Authority::new(folder.path(), "authority");
    let sidecar = over_tls(&redis, folder.path(), &authority).start();
    assert_eq!(text(&ask(cli(sidecar.port, &authority), &["HGET", "item:apple:def", "name"])), "Apple\n");
    // More than one record, and more than a socket takes at once, in both directions.
    let value = "v".repeat(5 << 20);
    let mut set = cli(sidecar.port, &authority);
    let mut set = set.args(["-x", "SET", "long"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawns");
    set.stdin.take().expect("piped").write_all(value.as_bytes()).expect("sends");
    assert!(set.wait().expect("ended").success());
    assert_eq!(ask(cli(sidecar.port, &authority), &["GET", "long"]).stdout.len(), value.len() + 1);
    let mut pipe = cli(sidecar.port, &authority);
    let mut pipe = pipe.arg("--pipe").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawns");
    let requests: String = (0..20_000).map(|i| format!("SET k:{i} {i}\r\n")).collect();
    pipe.stdin.take().expect("piped").write_all(requests.as_bytes()).expect("sends");
    let told = text(&pipe.wait_with_output().expect("ended"));
    assert!(told.contains("errors: 0, replies: 20000"), "{told}");
    // Plain text is no handshake; nobody else notices.
    let mut plain = std::net::TcpStream::connect(("127.0.0.1", sidecar.port)).expect("connects");
    plain.write_all(b"PING\r\nPING\r\n").expect("sends");
    until("it is counted", || metric(&sidecar, "hearthside_tls_failures_total") == 1.0);
    let stranger = Authority::new(folder.path(), "stranger");
    let told = text(&ask(cli(sidecar.port, &stranger), &["PING"]));
    assert!(told.contains("verify failed"), "a client that does not know the authority does not come in: {told}");
}

#[test]
fn clients_may_have_to_show_a_certificate() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let (authority, clients) = (Authority::new(folder.path(), "authority"), Authority::new(folder.path(), "clients"));
    let builder = over_tls(&redis, folder.path(), &authority).set("TLS__CLIENT_CA_FILE", &clients.file);
    let sidecar = builder.start();
    let told = text(&ask(cli(sidecar.port, &authority), &["PING"]));
    assert!(!told.contains("PONG"), "{told}");
    for (signer, comes_in) in [(&clients, true), (&authority, false)] {
        let client = signer.sign(folder.path(), "client");
        let mut cli = cli(sidecar.port, &authority);
        cli.args(["--cert", &client.certificate, "--key", &client.key]);
        assert_eq!(text(&ask(cli, &["PING"])).contains("PONG"), comes_in);
    }
}

#[test]
fn another_certificate_is_shown_after_a_reload_and_nobody_is_closed() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let (old, new) = (Authority::new(folder.path(), "old"), Authority::new(folder.path(), "new"));
    let sidecar = over_tls(&redis, folder.path(), &old).expect(&[warnings::FAULTY_RELOAD]).start();
    let mut stays = cli(sidecar.port, &old);
    let mut stays = stays.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("spawns");
    let (mut asks, told) = (stays.stdin.take().expect("piped"), stays.stdout.take().expect("piped"));
    let mut told = BufReader::new(told);
    let mut stays_in = |i: u32| {
        writeln!(asks, "ECHO still-{i}").expect("asks");
        let mut line = String::new();
        told.read_line(&mut line).expect("told");
        assert_eq!(line, format!("still-{i}\n"));
    };
    stays_in(1);
    new.sign(folder.path(), "server");
    assert!(text(&ask(cli(sidecar.port, &old), &["PING"])).contains("PONG"), "the old one, until it is told");
    sidecar.signal("HUP");
    until("the new one is shown", || text(&ask(cli(sidecar.port, &new), &["PING"])).contains("PONG"));
    assert!(!text(&ask(cli(sidecar.port, &old), &["PING"])).contains("PONG"));
    stays_in(2);
    std::fs::write(folder.path().join("server.cert.pem"), "no certificate").expect("written");
    sidecar.signal("HUP");
    until("a faulty one is refused", || sidecar.log().contains("tls.cert_file"));
    assert!(text(&ask(cli(sidecar.port, &new), &["PING"])).contains("PONG"), "the last good one is shown");
    drop(asks);
    stays.wait().expect("ended");
}
