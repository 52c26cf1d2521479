//! How long a message takes to reach each of many subscribers of one channel. Prints one line of JSON.
//!
//! `cargo bench --bench fanout -- --port 6380 --subscribers 1000 --messages 200`

#![allow(missing_docs, reason = "a program, not a library")]
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program for developers")]

use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

#[derive(Clone, Debug, Parser)]
struct Fanout {
    #[arg(long, default_value_t = 6379)]
    port: u16,
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// Published one after the other: the next when everybody has the last.
    #[arg(long, default_value_t = 200)]
    messages: usize,
    /// cargo bench gives this to every program.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The next line without its end.
async fn line(stream: &mut BufReader<TcpStream>, text: &mut String) {
    text.clear();
    assert!(stream.read_line(text).await.expect("a line") > 0, "the connection ended");
}

async fn connect(port: u16) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connects");
    stream.set_nodelay(true).expect("a socket");
    BufReader::with_capacity(256, stream)
}

/// A message is the microsecond it was published at; how long each took.
async fn subscriber(load: Fanout, ready: Rc<Semaphore>, got: Rc<Semaphore>, begun: Instant) -> Vec<u32> {
    let (mut stream, mut text, mut took) = (connect(load.port).await, String::new(), Vec::new());
    stream.write_all(b"SUBSCRIBE news\r\n").await.expect("sends");
    for _ in 0..6 {
        line(&mut stream, &mut text).await;
    }
    ready.add_permits(1);
    for _ in 0..load.messages {
        for _ in 0..7 {
            line(&mut stream, &mut text).await;
        }
        let sent: u64 = text.trim_end().parse().expect("a time");
        took.push(u32::try_from(begun.elapsed().as_micros() as u64 - sent).unwrap_or(u32::MAX));
        got.add_permits(1);
    }
    took
}

async fn run(load: Fanout) {
    let (ready, got, begun) = (Rc::new(Semaphore::new(0)), Rc::new(Semaphore::new(0)), Instant::now());
    let one = || tokio::task::spawn_local(subscriber(load.clone(), ready.clone(), got.clone(), begun));
    let subscribers: Vec<_> = (0..load.subscribers).map(|_| one()).collect();
    let all = u32::try_from(load.subscribers).expect("a number of clients");
    ready.acquire_many(all).await.expect("open").forget();
    let (mut publisher, mut text) = (connect(load.port).await, String::new());
    for _ in 0..load.messages {
        let payload = begun.elapsed().as_micros().to_string();
        let request = format!("*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n${}\r\n{payload}\r\n", payload.len());
        publisher.write_all(request.as_bytes()).await.expect("sends");
        line(&mut publisher, &mut text).await;
        got.acquire_many(all).await.expect("open").forget();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut took = Vec::new();
    for one in subscribers {
        took.extend(one.await.expect("a subscriber"));
    }
    took.sort_unstable();
    let percentile = |part: f64| took.get((took.len() as f64 * part) as usize).or(took.last()).copied().unwrap_or(0);
    println!("{{\"p50\": {}, \"p99\": {}, \"p999\": {}}}", percentile(0.5), percentile(0.99), percentile(0.999));
}

fn main() {
    let load = Fanout::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(LocalSet::new().run_until(run(load)));
}
