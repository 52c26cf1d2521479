//! A real redis-server: the installed one, or one of the newer servers that `tests/servers/install` brings.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use tempfile::TempDir;

use super::wire::Wire;
use super::{free_port, until};

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The redis-server of this machine, which is Debian's 7.0.15.
    Installed,
    Redis82,
    Valkey91,
}

/// All that commands are compared on.
pub const SERVERS: [Server; 3] = [Server::Installed, Server::Redis82, Server::Valkey91];

impl Server {
    fn program(self) -> PathBuf {
        match self {
            Self::Installed => "redis-server".into(),
            Self::Redis82 => brought("redis-8.2/redis-server"),
            Self::Valkey91 => brought("valkey-9.1/valkey-server"),
        }
    }
}

/// A module for Redis 8.2, whose commands all begin with `GRAPH.`.
pub fn module() -> String {
    brought("redis-8.2/falkordb.so").display().to_string()
}

/// The module `odd.c`, built into this folder.
pub fn odd_module(folder: &Path) -> String {
    let (source, library) = (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/odd.c"), folder.join("odd.so"));
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", source, "-o"]).arg(&library);
    assert!(cc.status().expect("a C compiler is installed (scripts/test installs it)").success());
    library.display().to_string()
}

/// A file that `tests/servers/install` brings.
fn brought(file: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_hearthside"));
    // target/debug/hearthside
    let target = program.ancestors().nth(2).expect("a target folder");
    let path = target.join("servers").join(file);
    assert!(path.exists(), "{} is missing: run tests/servers/install (scripts/test does)", path.display());
    path
}

pub struct Redis {
    server: Server,
    child: Option<Child>,
    pub port: u16,
    pub folder: TempDir,
    arguments: Vec<String>,
}

impl Redis {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(arguments: &[&str]) -> Self {
        Self::of(Server::Installed, arguments)
    }

    pub fn of(server: Server, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let mut redis = Self { server, child: None, port: free_port(), folder, arguments };
        redis.launch();
        redis
    }

    /// Another server takes its place at the next launch.
    pub const fn become_another(&mut self, server: Server) {
        self.server = server;
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn socket(&self) -> String {
        self.folder.path().join("redis.sock").display().to_string()
    }

    pub fn wire(&self) -> Wire {
        Wire::tcp(self.port)
    }

    pub fn launch(&mut self) {
        let (socket, log) = (self.socket(), self.folder.path().join("redis.log"));
        let child = Command::new(self.server.program())
            .args(["--port", &self.port.to_string(), "--save", "", "--appendonly", "no", "--unixsocket", &socket])
            .args(&self.arguments)
            .current_dir(self.folder.path())
            .stdout(File::create(&log).expect("its log"))
            .spawn()
            .expect("redis-server is installed (scripts/test installs it)");
        let child = self.child.insert(child);
        until("redis-server answers", || {
            let ended = child.try_wait().expect("its state").is_some();
            assert!(!ended, "redis-server ended: {}", fs::read_to_string(&log).unwrap_or_default());
            UnixStream::connect(&socket).is_ok()
        });
    }

    /// Stops it without ending it, or lets it go on.
    pub fn pause(&self, on: bool) {
        let pid = self.child.as_ref().expect("running").id().to_string();
        let signal = if on { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill").success());
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("running");
            child.wait().expect("ended");
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
