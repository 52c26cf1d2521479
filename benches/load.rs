//! A load generator for what redis-benchmark cannot ask: random keys without leading zeros, several kinds of commands
//! in one stream, Unix sockets and percentiles beyond its own. Prints one line of JSON.
//!
//! `cargo bench --bench load -- --port 6380 --clients 50 --pipeline 50 --keys 10000 "HGETALL player:{}:session"`

#![allow(missing_docs, reason = "a program, not a library")]
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program for developers")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use clap::Parser;
use hearthside::resp::encode;
use hearthside::resp::reply::{Frame, ReplyScanner};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::LocalSet;

/// What to ask, of whom, and for how long.
#[derive(Clone, Debug, Parser)]
struct Load {
    #[arg(long, default_value_t = 6379)]
    port: u16,
    #[arg(long)]
    unix: Option<PathBuf>,
    #[arg(long, default_value_t = 50)]
    clients: usize,
    /// Requests that are sent before a reply is awaited.
    #[arg(long, default_value_t = 1)]
    pipeline: usize,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// `{}` in a command becomes a random number below this.
    #[arg(long, default_value_t = 1)]
    keys: u64,
    /// `{x}` in a command becomes a value of so many bytes.
    #[arg(long, default_value_t = 3)]
    value: usize,
    /// Ends after each command has been sent once for every key, in order and over one connection, instead of after a
    /// time.
    #[arg(long)]
    fill: bool,
    /// cargo bench gives this to every program.
    #[arg(long, hide = true)]
    bench: bool,
    /// Commands, of which one is picked at random for each request.
    #[arg(required = true)]
    commands: Vec<String>,
}

impl Load {
    fn request(&self, command: &str, key: u64, out: &mut BytesMut) {
        let words: Vec<String> = command
            .split(' ')
            .map(|word| word.replace("{}", &key.to_string()).replace("{x}", &"x".repeat(self.value)))
            .collect();
        encode::request(out, &words);
    }

    /// Requests for one pipeline, made before the clock starts.
    fn batch(&self, dice: &mut fastrand::Rng) -> BytesMut {
        let mut out = BytesMut::new();
        for _ in 0..self.pipeline {
            let command = &self.commands[dice.usize(..self.commands.len())];
            self.request(command, dice.u64(..self.keys), &mut out);
        }
        out
    }
}

/// Waits for so many replies; none may be an error.
async fn replies<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut BytesMut, mut owed: usize) {
    let (mut scanner, mut begins) = (ReplyScanner::default(), true);
    while owed > 0 {
        if stream.read_buf(buffer).await.expect("replies") == 0 {
            return;
        }
        while owed > 0 && !buffer.is_empty() {
            assert!(!(begins && buffer[0] == b'-'), "{}", String::from_utf8_lossy(buffer));
            let scanned = scanner.scan(buffer).expect("a reply");
            let _used = buffer.split_to(scanned.used);
            begins = matches!(scanned.end, Some(Frame::Reply));
            if !begins {
                break;
            }
            owed -= 1;
        }
    }
}

/// One client; how long each of its batches took, in microseconds.
async fn client<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, load: Load, number: u64, end: Instant) -> Vec<u32> {
    let mut dice = fastrand::Rng::with_seed(number);
    let batches: Vec<BytesMut> = (0..64).map(|_| load.batch(&mut dice)).collect();
    let (mut buffer, mut took) = (BytesMut::with_capacity(64 * 1024), Vec::with_capacity(1 << 16));
    while Instant::now() < end {
        let begun = Instant::now();
        stream.write_all(&batches[dice.usize(..batches.len())]).await.expect("sends");
        replies(&mut stream, &mut buffer, load.pipeline).await;
        took.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    took
}

/// Sends every command once for each key; how long each pipeline took, in microseconds.
async fn fill<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, load: &Load) -> Vec<u32> {
    let (mut buffer, mut took) = (BytesMut::new(), Vec::new());
    for from in (0..load.keys).step_by(load.pipeline) {
        let (mut out, to) = (BytesMut::new(), (from + load.pipeline as u64).min(load.keys));
        for key in from..to {
            load.commands.iter().for_each(|command| load.request(command, key, &mut out));
        }
        let (sent, begun) = ((to - from) as usize * load.commands.len(), Instant::now());
        stream.write_all(&out).await.expect("sends");
        replies(&mut stream, &mut buffer, sent).await;
        took.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    took
}

/// One connection from its first request to its last.
async fn connection(load: Load, number: u64, end: Instant) -> Vec<u32> {
    match &load.unix {
        Some(path) => {
            let stream = UnixStream::connect(path).await.expect("connects");
            if load.fill { fill(stream, &load).await } else { client(stream, load.clone(), number, end).await }
        }
        None => {
            let stream = TcpStream::connect(("127.0.0.1", load.port)).await.expect("connects");
            stream.set_nodelay(true).expect("a socket");
            if load.fill { fill(stream, &load).await } else { client(stream, load, number, end).await }
        }
    }
}

async fn run(load: Load) {
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(load.seconds);
    let connections = if load.fill { 1 } else { load.clients as u64 };
    let clients: Vec<_> =
        (0..connections).map(|number| tokio::task::spawn_local(connection(load.clone(), number, end))).collect();
    let mut took = Vec::new();
    for one in clients {
        took.extend(one.await.expect("a client"));
    }
    let seconds = begun.elapsed().as_secs_f64();
    took.sort_unstable();
    let percentile = |part: f64| took.get((took.len() as f64 * part) as usize).or(took.last()).copied().unwrap_or(0);
    println!(
        "{{\"requests\": {}, \"seconds\": {seconds:.3}, \"p50\": {}, \"p99\": {}, \"p999\": {}}}",
        took.len() * load.pipeline,
        percentile(0.5),
        percentile(0.99),
        percentile(0.999)
    );
}

fn main() {
    let load = Load::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(LocalSet::new().run_until(run(load)));
}
