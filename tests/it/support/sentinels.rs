//! A real Sentinel group: a master, its replicas, and the sentinels that watch over them.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command};

use tempfile::TempDir;

use super::redis::Redis;
use super::wire::Wire;
use super::{free_port, until};

/// The name of the service in all groups.
pub const SERVICE: &str = "game";

/// One sentinel.
pub struct Sentinel {
    child: Option<Child>,
    pub port: u16,
    folder: TempDir,
}

impl Sentinel {
    /// One that watches over the master on this port; so many must agree that it is down.
    pub fn start(master: u16, quorum: usize, more: &str) -> Self {
        Self::at(free_port(), master, quorum, more)
    }

    /// The same, on this port.
    pub fn at(port: u16, master: u16, quorum: usize, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = format!(
            "port {port}\ndir {}\nsentinel monitor {SERVICE} 127.0.0.1 {master} {quorum}\n\
             sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 3000\n{more}\n",
            folder.path().display()
        );
        let mut sentinel = Self { child: None, port, folder };
        fs::write(sentinel.config(), config).expect("written");
        sentinel.launch();
        sentinel
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("sentinel.conf")
    }

    pub fn wire(&self) -> Wire {
        Wire::tcp(self.port)
    }

    pub fn launch(&mut self) {
        let log = File::create(self.folder.path().join("sentinel.log")).expect("its log");
        let mut sentinel = Command::new("redis-server");
        sentinel.arg(self.config()).arg("--sentinel").stdout(log);
        self.child = Some(sentinel.spawn().expect("redis-server is installed (scripts/test installs it)"));
        until("a sentinel answers", || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    /// It goes on at another address, with all that it knows, its id included.
    pub fn move_away(&mut self) {
        self.kill();
        let old = std::mem::replace(&mut self.port, free_port());
        let config = fs::read_to_string(self.config()).expect("its configuration");
        let config = config.replace(&format!("port {old}\n"), &format!("port {}\n", self.port));
        fs::write(self.config(), config).expect("written");
        self.launch();
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("running");
            child.wait().expect("ended");
        }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A master with replicas, and three sentinels.
pub struct Group {
    /// The first one begins as the master.
    pub servers: Vec<Redis>,
    pub sentinels: Vec<Sentinel>,
}

impl Group {
    /// One replica, and three sentinels, which know each other.
    pub fn start() -> Self {
        Self::with(2, &[])
    }

    /// So many servers, with these arguments.
    pub fn with(servers: usize, arguments: &[&str]) -> Self {
        let master = Redis::with(arguments);
        let place = format!("127.0.0.1 {}", master.port);
        let of_it = ["--replicaof", &place, "--repl-diskless-sync-delay", "0"];
        let replica = |_| Redis::with(&[arguments, &of_it].concat());
        let replicas: Vec<Redis> = (1..servers).map(replica).collect();
        let sentinels: Vec<Sentinel> = (0..3).map(|_| Sentinel::start(master.port, 2, "")).collect();
        let group = Self { servers: [master].into_iter().chain(replicas).collect(), sentinels };
        group.settled();
        group
    }

    /// Waits until every sentinel knows all the others and all replicas, and these have what the master has.
    pub fn settled(&self) {
        let replicas = self.servers.len() - 1;
        let wanted = [format!("num-slaves\r\n$1\r\n{replicas}"), "num-other-sentinels\r\n$1\r\n2".to_owned()];
        for sentinel in &self.sentinels {
            until("the sentinels know each other", || {
                let told = sentinel.wire().ask(&format!("SENTINEL MASTER {SERVICE}"));
                wanted.iter().all(|text| told.contains(text.as_str()))
            });
        }
        until("the replicas have caught up", || {
            let told = Wire::tcp(self.master()).ask("INFO replication");
            told.matches("state=online").count() == replicas
        });
        until("each may become the master", || {
            let told = self.sentinels[0].wire().ask(&format!("SENTINEL REPLICAS {SERVICE}"));
            told.matches("master-link-status\r\n$2\r\nok").count() == replicas
        });
    }

    /// The port of the master, as the first sentinel that runs names it.
    pub fn master(&self) -> u16 {
        let sentinel = self.sentinels.iter().find(|sentinel| sentinel.child.is_some()).expect("one that runs");
        let told = sentinel.wire().ask(&format!("SENTINEL GET-MASTER-ADDR-BY-NAME {SERVICE}"));
        told.lines().nth(4).and_then(|port| port.parse().ok()).expect("a port")
    }

    /// The server that is the master now.
    pub fn master_server(&mut self) -> &mut Redis {
        let port = self.master();
        self.servers.iter_mut().find(|server| server.port == port).expect("one of them")
    }

    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|s| format!("127.0.0.1:{}", s.port)).collect();
        format!("redis+sentinel://{}/{SERVICE}", hosts.join(","))
    }

    /// Asks a sentinel for a failover, which it may refuse: there is one under way, or no replica is fit.
    pub fn ask_to_fail_over(&self) {
        let _told = self.sentinels[0].wire().ask(&format!("SENTINEL FAILOVER {SERVICE}"));
    }

    /// Makes a replica the master, in order, and waits until the sentinels say so.
    pub fn fail_over(&self) {
        let before = self.master();
        let told = self.sentinels[0].wire().ask(&format!("SENTINEL FAILOVER {SERVICE}"));
        assert_eq!(told, "+OK\r\n");
        until("there is another master", || self.master() != before);
    }
}
