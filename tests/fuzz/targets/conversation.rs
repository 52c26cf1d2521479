//! A whole client conversation, in this process: the sidecar runs on a Unix socket, over its demo world and without an
//! upstream. Whatever is sent, in two parts, is answered with whole replies and an end; nothing panics.
#![no_main]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use hearthside::app::{self, Passed, Reading};
use hearthside::config::{Loaded, SHIPPED, read};
use hearthside::resp::reply::ReplyScanner;
use hearthside::store::Store;
use libfuzzer_sys::fuzz_target;

static SOCKET: OnceLock<PathBuf> = OnceLock::new();

fn start() -> PathBuf {
    // A panic of a client's task is caught by its worker; here it is the end.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        hook(info);
        std::process::abort();
    }));
    let folder = tempfile::tempdir().expect("a folder").keep();
    let socket = folder.join("s.sock");
    let settings = [
        ("SERVER__LISTEN", format!("unix://{}", socket.display())),
        ("SERVER__WORKERS", "1".to_owned()),
        ("ADMIN__LISTEN", String::new()),
        ("UPSTREAM__URL", format!("unix://{}", folder.join("nobody").display())),
        ("UPSTREAM__BREAKER_AFTER", "0s".to_owned()),
        ("UPSTREAM__QUEUE_TIMEOUT", "1ms".to_owned()),
        ("STORE__URL", format!("sqlite://{}", folder.join("store.db").display())),
        ("JOURNAL__PATH", folder.join("journal.db").display().to_string()),
        ("LIMITS__REQUEST_ARGUMENT", "1mb".to_owned()),
    ];
    let environment = settings.map(|(name, value)| (format!("HEARTHSIDE__{name}"), value));
    let load = move || -> Loaded { read("fuzz.toml", SHIPPED, environment.clone().into_iter()) };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (mut loaded, store) = (load(), load().config.settings.store);
        let made = runtime.block_on(async { Store::connect_to_migrate(&store).await?.migrate(true).await });
        made.unwrap_or_else(|error| panic!("{error}"));
        runtime.block_on(app::run(Reading::of(&mut loaded), load, Passed::default())).unwrap_or_else(|error| panic!("{error}"));
    });
    while UnixStream::connect(&socket).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    socket
}

fuzz_target!(|input: (u16, &[u8])| {
    let (split, bytes) = input;
    let socket = SOCKET.get_or_init(start);
    let mut client = UnixStream::connect(socket).expect("connects");
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    let (first, second) = bytes.split_at(usize::from(split) % (bytes.len() + 1));
    // A fault closes the client at once: the rest may not be taken any more.
    let _taken = client.write_all(first).and_then(|()| client.write_all(second)).and_then(|()| client.shutdown(Shutdown::Write));
    let mut told = Vec::new();
    match client.read_to_end(&mut told) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
        Err(error) => panic!("it hangs: {error}"),
    }
    let (mut scanner, mut rest) = (ReplyScanner::default(), &told[..]);
    while !rest.is_empty() {
        let step = scanner.scan(rest).expect("replies");
        assert!(step.end.is_some(), "half a reply: {:?}", String::from_utf8_lossy(rest));
        rest = &rest[step.used..];
    }
});
