//! The private upstream of the embedded default: a real redis-server or valkey-server from PATH, on a Unix
//! socket, for this sidecar alone.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server that is kept running until [`PrivateServer::stop`], and killed if this is dropped.
#[derive(Debug)]
pub struct PrivateServer {
    socket: PathBuf,
    keeper: JoinHandle<()>,
    stop: oneshot::Sender<()>,
    /// Held while the server is ours, so that two sidecars never share one folder.
    _lock: File,
}

const NAMES: [&str; 2] = ["redis-server", "valkey-server"];
/// The longest path of a Unix socket is 107 bytes on Linux and less elsewhere.
const LONGEST_SOCKET: usize = 100;
const START: Duration = Duration::from_secs(5);
/// The pause before a server that ended is started again.
const RESTART: Duration = Duration::from_millis(200);

/// What to tell a client whose command needs an upstream that is not there.
const NONE_FOUND: &str = "there is no upstream Redis for this command: set upstream.url (HEARTHSIDE__UPSTREAM__URL=redis://host:6379), \
                          or install redis-server or valkey-server (apt install redis-server) and start again";

impl PrivateServer {
    /// Starts a server in `folder` and waits until it answers.
    ///
    /// # Errors
    /// What to tell clients: why there is none, and how to get one.
    pub async fn start(folder: &Path) -> Result<Self, String> {
        let Some(program) = NAMES.iter().find_map(|name| on_path(name)) else { return Err(NONE_FOUND.to_owned()) };
        fs::create_dir_all(folder)
            .map_err(|error| format!("the folder {} cannot be made: {error}", folder.display()))?;
        let lock = lock(folder)?;
        let folder = folder.canonicalize().map_err(|error| error.to_string())?;
        let socket = socket_path(&folder);
        end_leftover(&socket).await;
        let launch = Launch { program, folder, socket: socket.clone() };
        let mut child = launch.spawn().map_err(|error| format!("redis-server cannot be started: {error}"))?;
        answers(&mut child, &socket).await?;
        tracing::info!(program = %launch.program.display(), socket = %socket.display(), "started a private upstream");
        let (stop, stopped) = oneshot::channel();
        let keeper = tokio::spawn(launch.keep(child, stopped));
        Ok(Self { socket, keeper, stop, _lock: lock })
    }

    /// Its `upstream.url`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Lets it save and end.
    pub async fn stop(self) {
        // The keeper waits for nothing else.
        let _ = self.stop.send(());
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

    async fn keep(self, mut child: Child, mut stopped: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                ended = child.wait() => tracing::warn!(?ended, "the private redis-server ended; it is started again"),
                _ = &mut stopped => return self.end(child).await,
            }
            tokio::time::sleep(RESTART).await;
            match self.spawn() {
                Ok(again) => child = again,
                Err(error) => tracing::error!(%error, "the private redis-server cannot be started"),
            }
        }
    }

    async fn end(&self, mut child: Child) {
        shutdown(&self.socket).await;
        if tokio::time::timeout(START, child.wait()).await.is_err() {
            tracing::warn!("the private redis-server did not end in time and is killed");
        }
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
        tokio::time::sleep(Duration::from_millis(10)).await;
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

/// We hold the folder's lock, so a server that still answers there was left behind by a sidecar that was killed.
async fn end_leftover(socket: &Path) {
    if UnixStream::connect(socket).await.is_err() {
        return;
    }
    tracing::warn!(socket = %socket.display(), "a private redis-server was left behind by a killed sidecar; it is ended");
    shutdown(socket).await;
    let deadline = tokio::time::Instant::now() + START;
    while UnixStream::connect(socket).await.is_ok() && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn shutdown(socket: &Path) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(mut stream) = UnixStream::connect(socket).await else { return };
    if stream.write_all(b"*1\r\n$8\r\nSHUTDOWN\r\n").await.is_ok() {
        // The server answers only if it cannot shut down; otherwise the connection ends.
        let mut answer = [0; 256];
        let read = tokio::time::timeout(START, stream.read(&mut answer)).await;
        if let Ok(Ok(n @ 1..)) = read {
            tracing::warn!(answer = %String::from_utf8_lossy(&answer[..n]).trim_end(), "the private redis-server refuses to end");
        }
    }
}
