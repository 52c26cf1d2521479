//! A real redis-server.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};

use tempfile::TempDir;

use super::wire::Wire;
use super::{free_port, until};

pub struct Redis {
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
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let mut redis =
            Self { child: None, port: free_port(), folder: tempfile::tempdir().expect("a folder"), arguments };
        redis.launch();
        redis
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
        let child = Command::new("redis-server")
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
