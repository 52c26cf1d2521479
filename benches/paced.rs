//! Reads of an application and its writes by SQL, so many in a second, and how long the reads took: through a sidecar,
//! with cache-aside by hand over Redis (GET; on a miss SELECT and SETEX; DEL after a write), or of Postgres alone.
//! Prints one line of JSON.
//!
//! `cargo bench --bench paced -- --way sidecar --ports 6380 --store postgres://... --reads 4000 --writes 400`

#![allow(missing_docs, reason = "a program, not a library")]
#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program for developers")]

use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

/// Clients that write.
const WRITERS: usize = 8;

/// Who is asked for a value.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Way {
    Sidecar,
    Aside,
    Postgres,
}

#[derive(Clone, Debug, Parser)]
struct Pace {
    #[arg(long)]
    way: Way,
    /// Sidecars, or Redis; each client takes the next. They need not listen yet.
    #[arg(long, value_delimiter = ',')]
    ports: Vec<u16>,
    /// Where the table `profiles (profile_id, body)` is.
    #[arg(long)]
    store: String,
    /// Clients that read.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Of all of them together, in a second.
    #[arg(long)]
    reads: f64,
    #[arg(long, default_value_t = 0.0)]
    writes: f64,
    #[arg(long, default_value_t = 1000)]
    keys: u64,
    /// The first so many keys are never written: what is in memory of them stays there, so that a read is a hit.
    #[arg(long, default_value_t = 200)]
    unwritten: u64,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Reads every key once before the clock starts.
    #[arg(long)]
    fill: bool,
    /// cargo bench gives this to every program.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A connection that speaks RESP, as far as these commands need it.
struct Resp(BufReader<TcpStream>);

impl Resp {
    /// Waits until somebody listens.
    async fn connect(port: u16) -> Self {
        loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
                stream.set_nodelay(true).expect("a socket");
                return Self(BufReader::new(stream));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The line or the bulk string of the reply; `None` if it is nil, and an error where it is one.
    async fn ask(&mut self, words: &[&str]) -> Result<Option<String>, String> {
        let mut request = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| request += &format!("${}\r\n{word}\r\n", word.len()));
        self.0.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut line = String::new();
        self.0.read_line(&mut line).await.map_err(|error| error.to_string())?;
        let text = line.trim_end();
        match (text.get(..1), text.get(1..)) {
            (Some("$"), Some("-1")) => Ok(None),
            (Some("$"), Some(length)) => {
                let mut value = vec![0; length.parse::<usize>().expect("a length") + 2];
                self.0.read_exact(&mut value).await.map_err(|error| error.to_string())?;
                value.truncate(value.len() - 2);
                Ok(Some(String::from_utf8(value).expect("text")))
            }
            (Some("+" | ":"), Some(told)) => Ok(Some(told.to_owned())),
            _ => Err(text.to_owned()),
        }
    }
}

fn key(id: u64) -> String {
    format!("profile:{id}")
}

async fn select(store: &mut PgConnection, id: u64) -> String {
    let sql = "SELECT body FROM profiles WHERE profile_id = $1";
    sqlx::query_scalar(sql).bind(id as i64).fetch_one(store).await.expect("a row")
}

async fn store(load: &Pace) -> PgConnection {
    PgConnection::connect(&load.store).await.expect("Postgres")
}

enum Reader {
    Sidecar(Resp),
    Aside(Resp, PgConnection),
    Postgres(PgConnection),
}

impl Reader {
    async fn connect(load: &Pace, number: usize) -> Self {
        if load.way == Way::Postgres {
            return Self::Postgres(store(load).await);
        }
        let resp = Resp::connect(load.ports[number % load.ports.len()]).await;
        if load.way == Way::Sidecar { Self::Sidecar(resp) } else { Self::Aside(resp, store(load).await) }
    }

    /// Whether the value was in Redis, as far as this client can know.
    async fn read(&mut self, id: u64) -> Result<bool, String> {
        match self {
            Self::Sidecar(resp) => Ok(resp.ask(&["GET", &key(id)]).await?.is_some()),
            Self::Aside(resp, store) => {
                if resp.ask(&["GET", &key(id)]).await?.is_some() {
                    return Ok(true);
                }
                let value = select(store, id).await;
                resp.ask(&["SETEX", &key(id), "3600", &value]).await?;
                Ok(false)
            }
            Self::Postgres(store) => {
                select(store, id).await;
                Ok(false)
            }
        }
    }
}

/// Does something again and again, one of several who together do it `rate` times in a second. Who is late hurries.
async fn paced(rate: f64, (number, all): (usize, usize), end: Instant, mut act: impl AsyncFnMut()) {
    if rate <= 0.0 {
        return;
    }
    let period = Duration::from_secs_f64(all as f64 / rate);
    let mut due = Instant::now() + period.mul_f64(number as f64 / all as f64);
    while due < end && Instant::now() < end {
        tokio::time::sleep_until(due.into()).await;
        act().await;
        due += period;
    }
}

/// What one or all of the clients have seen: microseconds of every read, and of those that must be hits.
#[derive(Default)]
struct Seen {
    all: Vec<u32>,
    hits: Vec<u32>,
    found: usize,
    failed: usize,
}

async fn reader(load: Pace, number: usize, end: Instant) -> Seen {
    let (mut reader, mut dice) = (Reader::connect(&load, number).await, fastrand::Rng::with_seed(number as u64));
    let mut seen = Seen::default();
    paced(load.reads, (number, load.clients), end, async || {
        let (id, begun) = (dice.u64(..load.keys), Instant::now());
        match reader.read(id).await {
            Ok(found) => {
                let took = u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX);
                seen.all.push(took);
                seen.found += usize::from(found);
                if id < load.unwritten {
                    seen.hits.push(took);
                }
            }
            Err(_) => seen.failed += 1,
        }
    })
    .await;
    seen
}

/// Reads every key once.
async fn fill(load: Pace) {
    for at in 0..load.ports.len().max(1) {
        let mut reader = Reader::connect(&load, at).await;
        for id in 0..load.keys {
            reader.read(id).await.expect("a value");
        }
    }
}

/// How many it has written.
async fn writer(load: Pace, number: usize, end: Instant) -> usize {
    let (mut written, mut dice) = (0, fastrand::Rng::with_seed(1000 + number as u64));
    let mut store = store(&load).await;
    let mut resp = if load.way == Way::Aside { Some(Resp::connect(load.ports[0]).await) } else { None };
    paced(load.writes, (number, WRITERS), end, async || {
        let (id, body) = (dice.u64(load.unwritten..load.keys), format!("{:0>200}", dice.u64(..)));
        let sql = sqlx::query("UPDATE profiles SET body = $2 WHERE profile_id = $1").bind(id as i64).bind(body);
        sql.execute(&mut store).await.expect("it is written");
        if let Some(resp) = &mut resp {
            resp.ask(&["DEL", &key(id)]).await.expect("it is removed");
        }
        written += 1;
    })
    .await;
    written
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// All writers, over a thread of their own, so that they do not keep the readers from looking at the clock.
fn write(load: &Pace, end: Instant) -> usize {
    if load.writes <= 0.0 {
        return 0;
    }
    runtime().block_on(LocalSet::new().run_until(async {
        let writers = (0..WRITERS).map(|number| tokio::task::spawn_local(writer(load.clone(), number, end)));
        let mut written = 0;
        for one in writers.collect::<Vec<_>>() {
            written += one.await.expect("a writer");
        }
        written
    }))
}

async fn read(load: &Pace, end: Instant) -> Seen {
    let readers = (0..load.clients).map(|number| tokio::task::spawn_local(reader(load.clone(), number, end)));
    let mut seen = Seen::default();
    for one in readers.collect::<Vec<_>>() {
        let one = one.await.expect("a reader");
        seen.all.extend(one.all);
        seen.hits.extend(one.hits);
        seen.found += one.found;
        seen.failed += one.failed;
    }
    seen
}

/// The median and the 99th percentile.
fn percentiles(times: &mut [u32]) -> String {
    times.sort_unstable();
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or(0);
    format!("{{\"p50\": {}, \"p99\": {}}}", at(0.5), at(0.99))
}

fn main() {
    let load = Pace::parse();
    if load.fill {
        runtime().block_on(fill(load.clone()));
    }
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(load.seconds);
    let writing = std::thread::spawn({
        let load = load.clone();
        move || write(&load, end)
    });
    let mut seen = runtime().block_on(LocalSet::new().run_until(read(&load, end)));
    let (written, seconds) = (writing.join().expect("the writers"), begun.elapsed().as_secs_f64());
    let (reads, hits) = (percentiles(&mut seen.all), percentiles(&mut seen.hits));
    println!(
        "{{\"seconds\": {seconds:.3}, \"count\": {}, \"found\": {}, \"failed\": {}, \"written\": {written}, \
         \"reads\": {reads}, \"hits\": {hits}}}",
        seen.all.len(),
        seen.found,
        seen.failed
    );
}
