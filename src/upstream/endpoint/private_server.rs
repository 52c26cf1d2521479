//! The private upstream of the embedded default: a real redis-server or valkey-server from PATH, on a Unix
//! socket, for this sidecar alone.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::errors;
use crate::telemetry::metrics::PanicMetrics;
use crate::telemetry::{LastingPart, lasting};

/// A server that is kept running until [`PrivateServer::stop`], and killed if this is dropped.
#[derive(Debug)]
pub struct PrivateServer {
    socket: PathBuf,
    keeper: JoinHandle<()>,
    /// How long it may take to save.
    stop: oneshot::Sender<Duration>,
    /// Held while the server is ours, so that two sidecars never share one folder.
    _lock: File,
}

const NAMES: [&str; 2] = ["redis-server", "valkey-server"];
/// The longest path of a Unix socket is 107 bytes on Linux and less elsewhere.
const LONGEST_SOCKET: usize = 100;
const START: Duration = Duration::from_secs(5);
/// How often a server that ends or begins is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// The pause before a server that ended is started again.
const RESTART: Duration = Duration::from_millis(200);

/// Why there is no private server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoServer {
    /// None is installed: owned keys can be served all the same. The text is for clients whose commands need an
    /// upstream.
    #[error("{}", errors::upstream::NOT_INSTALLED)]
    NotInstalled,
    /// It is, and its folder or itself cannot be had.
    #[error("{0}")]
    Failed(String),
}

impl PrivateServer {
    /// Starts a server in `folder` and waits until it answers.
    ///
    /// # Errors
    /// Why it cannot be had, and what to do.
    pub async fn start(folder: &Path, panics: Arc<PanicMetrics>) -> Result<Self, NoServer> {
        let program = NAMES.iter().find_map(|name| on_path(name)).ok_or(NoServer::NotInstalled)?;
        Self::launch(program, folder, panics).await.map_err(NoServer::Failed)
    }

    async fn launch(program: PathBuf, folder: &Path, panics: Arc<PanicMetrics>) -> Result<Self, String> {
        fs::create_dir_all(folder)
            .map_err(|error| format!("the folder {} cannot be made: {error}", folder.display()))?;
        let lock = lock(folder)?;
        let folder = folder.canonicalize().map_err(|error| error.to_string())?;
        let socket = socket_path(&folder);
        end_leftover(&socket).await?;
        let launch = Launch { program, folder, socket: socket.clone() };
        let mut child = launch.spawn().map_err(|error| format!("redis-server cannot be started: {error}"))?;
        answers(&mut child, &socket).await?;
        tracing::info!(program = %launch.program.display(), socket = %socket.display(), "started a private upstream");
        let (stop, stopped) = oneshot::channel();
        let mut keeper = Keeper { launch, child: Some(child), stopped, patience: None };
        let keeping = lasting(LastingPart::PrivateServer, panics, async move || keeper.keep().await);
        let keeper = tokio::spawn(keeping);
        Ok(Self { socket, keeper, stop, _lock: lock })
    }

    /// Its `upstream.url`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Lets it save and end. One that has not ended within `patience` is left to go on saving.
    pub async fn stop(self, patience: Duration) {
        // The keeper waits for nothing else.
        let _ = self.stop.send(patience);
        if self.keeper.await.is_err() {
            tracing::warn!("the private redis-server was not ended in order");
        }
    }
}

/// How the server is started, again if it ends.
struct Launch {
    program: PathBuf,
    folder: PathBuf,
    socket: PathBuf,
}

impl Launch {
    fn spawn(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(["--port", "0", "--daemonize", "no", "--loglevel", "warning", "--unixsocketperm", "700"]);
        command.arg("--unixsocket").arg(&self.socket).arg("--dir").arg(&self.folder);
        // Its own process group: Ctrl-C in a terminal reaches us, and we stop it when our clients are done.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn()
    }
}

/// The server while it runs, and when it is to end. What ends in a panic leaves it as it is.
struct Keeper {
    launch: Launch,
    child: Option<Child>,
    stopped: oneshot::Receiver<Duration>,
    /// It is to end now; how long it may take to save.
    patience: Option<Duration>,
}

impl Keeper {
    async fn keep(&mut self) {
        while self.patience.is_none() {
            tokio::select! {
                how = ended(&mut self.child) => {
                    tracing::warn!(how, "the private redis-server ended; it is started again");
                }
                patience = &mut self.stopped => match patience {
                    Ok(patience) => {
                        self.patience = Some(patience);
                        break;
                    }
                    // Nobody knows it any more: dropped, it is killed.
                    Err(_) => return,
                },
            }
            tokio::time::sleep(RESTART).await;
            match self.launch.spawn() {
                Ok(again) => self.child = Some(again),
                Err(error) => tracing::error!(%error, "the private redis-server cannot be started"),
            }
        }
        self.end().await;
    }

    async fn end(&mut self) {
        let ended = async {
            if let Ok(stream) = UnixStream::connect(&self.launch.socket).await
                && let Some(refusal) = shut_down(stream).await
            {
                tracing::warn!(%refusal, "the private redis-server refuses to end");
            }
            ended(&mut self.child).await
        };
        if tokio::time::timeout(self.patience.unwrap_or_default(), ended).await.is_err() {
            tracing::warn!(
                "the private redis-server has not ended in time and is left to finish saving; \
                 the next start waits for it"
            );
            // Dropped, it would be killed, and what it has not saved would be lost.
            std::mem::forget(self.child.take());
        }
    }
}

/// Waits until it has ended; how.
async fn ended(child: &mut Option<Child>) -> String {
    match child {
        Some(child) => child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string()),
        None => String::new(),
    }
}

async fn answers(child: &mut Child, socket: &Path) -> Result<(), String> {
    let deadline = tokio::time::Instant::now() + START;
    loop {
        if UnixStream::connect(socket).await.is_ok() {
            return Ok(());
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("the private redis-server ended at once ({status}); see its messages above"));
        }
        if tokio::time::Instant::now() > deadline {
            return Err("the private redis-server did not answer in time".into());
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn lock(folder: &Path) -> Result<File, String> {
    let path = folder.join("redis.lock");
    let busy = |_| {
        format!(
            "another sidecar runs a private redis-server in {}; set upstream.url or upstream.private_dir",
            folder.display()
        )
    };
    let file = File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    file.try_lock().map_err(busy)?;
    Ok(file)
}

/// In the folder, or under a short name for a folder with a long path.
fn socket_path(folder: &Path) -> PathBuf {
    let socket = folder.join("redis.sock");
    if socket.as_os_str().len() <= LONGEST_SOCKET {
        return socket;
    }
    use std::hash::BuildHasher;
    let digest = foldhash::fast::FixedState::default().hash_one(folder);
    std::env::temp_dir().join(format!("hearthside-{digest:016x}.sock"))
}

/// We hold the folder's lock, so a server that still answers there was left behind by a sidecar that was killed. It is
/// waited for, however long it saves: a new one that read the folder before would begin with older data, and then write
/// over the newer.
async fn end_leftover(socket: &Path) -> Result<(), String> {
    let mut seen = false;
    loop {
        let stream = match UnixStream::connect(socket).await {
            Ok(stream) => Some(stream),
            // It is there, and too busy to take another connection.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => return Ok(()),
        };
        if !std::mem::replace(&mut seen, true) {
            let socket = socket.display();
            tracing::warn!(%socket, "a private redis-server was left behind by a sidecar that was killed; it is ended");
        }
        if let Some(stream) = stream
            && let Some(refusal) = patiently(shut_down(stream)).await
        {
            return Err(format!(
                "the private redis-server that a killed sidecar left behind at {} refuses to end ({refusal}), \
                 and what it holds \
                 would be lost: make room for its dump, or end it by hand",
                socket.display()
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits, and says so now and then.
async fn patiently<T>(ends: impl Future<Output = T>) -> T {
    tokio::pin!(ends);
    let begun = Instant::now();
    loop {
        match tokio::time::timeout(START, &mut ends).await {
            Ok(ended) => return ended,
            Err(_) => tracing::warn!(
                seconds = begun.elapsed().as_secs(),
                "waiting for the private redis-server that was left behind to save and end"
            ),
        }
    }
}

/// Tells a server to save and end; what it says if it does not. Its connection ends with its process.
async fn shut_down(mut stream: UnixStream) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(b"*1\r\n$8\r\nSHUTDOWN\r\n").await.ok()?;
    let mut answer = [0; 256];
    match stream.read(&mut answer).await {
        Ok(n @ 1..) => Some(String::from_utf8_lossy(&answer[..n]).trim_end().to_owned()),
        _ => None,
    }
}
