//! A sidecar process. An unexpected warning in its log fails the test.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::postgres::Postgres;
use super::redis::Redis;
use super::wire::Wire;
use super::{until, warnings};

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hearthside"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"HEARTHSIDE__")) {
        command.env_remove(name);
    }
    command
}

/// A sidecar with the built-in demo mappings, over a Postgres that holds the demo's tables.
pub fn demo(redis: &Redis, postgres: &Postgres) -> Builder {
    demo_of(Sidecar::builder().redis(redis), postgres)
}

/// The same before any upstream.
pub fn demo_of(builder: Builder, postgres: &Postgres) -> Builder {
    let builder = builder.postgres(postgres);
    let migrated = builder.execute(&["migrate", "--demo"]);
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    builder
}

/// The same program with these limits (options of prlimit). It gets an error where it would write past the size of a
/// file.
fn limited(program: Command, limits: &[String]) -> Command {
    let mut command = Command::new("sh");
    let limit = format!("trap '' XFSZ; exec prlimit {} \"$0\" \"$@\"", limits.join(" "));
    command.args(["-c", &limit]).arg(program.get_program());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// The same program, to which its standard input is passed as a socket that is listened on (`LISTEN_FDS`).
fn passed(program: Command, listener: &TcpListener) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&0 </dev/null"]).arg(program.get_program());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(OwnedFd::from(listener.try_clone().expect("a socket")));
    command
}

/// What a sidecar is started with.
pub struct Builder {
    /// Options of prlimit.
    limits: Vec<String>,
    listener: Option<TcpListener>,
    config: Option<String>,
    environment: Vec<(String, String)>,
    allowed: Vec<&'static str>,
}

impl Builder {
    pub fn config(mut self, text: &str) -> Self {
        self.config = Some(text.to_owned());
        self
    }

    /// A setting, by its variable.
    pub fn set(self, name: &str, value: impl Into<String>) -> Self {
        self.environment(&format!("HEARTHSIDE__{name}"), value)
    }

    pub fn environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// With a library that stands between the process and its system: `libnss_wrapper.so` gives it a hosts file of its
    /// own, `faketime/libfaketime.so.1` a wall clock.
    pub fn preload(self, library: &str) -> Self {
        let mut places = fs::read_dir("/usr/lib").expect("libraries").flatten().map(|place| place.path().join(library));
        let found = places.find(|path| path.exists());
        let path = found.unwrap_or_else(|| panic!("{library} is not installed (scripts/test installs it)"));
        self.environment("LD_PRELOAD", path.display().to_string())
    }

    /// Writes past so many bytes of any file fail, as on a full disk, until [`Sidecar::free_disk`].
    pub fn on_a_small_disk(mut self, bytes: u64) -> Self {
        self.limits.push(format!("--fsize={bytes}:unlimited"));
        self
    }

    /// So many files may be open.
    pub fn open_files(mut self, count: usize) -> Self {
        self.limits.push(format!("--nofile={count}:{count}"));
        self
    }

    /// It is passed this socket.
    pub fn on(mut self, listener: &TcpListener) -> Self {
        self.listener = Some(listener.try_clone().expect("a socket"));
        let address = listener.local_addr().expect("bound");
        self.set("SERVER__LISTEN", address.to_string())
    }

    /// Prepares the store, with the triggers of the mappings' tables.
    pub fn migrated(self) -> Self {
        for arguments in [&["migrate"][..], &["triggers", "--install"]] {
            let done = self.execute(arguments);
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        self
    }

    pub fn redis(self, redis: &Redis) -> Self {
        self.set("UPSTREAM__URL", redis.url())
    }

    pub fn postgres(self, postgres: &Postgres) -> Self {
        self.set("STORE__URL", postgres.url())
    }

    /// These warnings are part of the test (`warnings.rs`).
    pub fn expect(mut self, texts: &[&'static str]) -> Self {
        self.allowed.extend(texts);
        self
    }

    pub fn command(&self, folder: &TempDir) -> Command {
        let mut command = if self.limits.is_empty() { program() } else { limited(program(), &self.limits) };
        if let Some(listener) = &self.listener {
            command = passed(command, listener);
        }
        command.current_dir(folder.path());
        if let Some(config) = &self.config {
            fs::write(folder.path().join("config.toml"), config).expect("written");
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a command of the program to its end.
    pub fn execute(&self, arguments: &[&str]) -> Output {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = self.command(&folder);
        // Tests that run at once must not meet at the default port.
        if matches!(arguments, [] | ["run"])
            && self.environment.iter().all(|(set, _)| *set != "HEARTHSIDE__ADMIN__LISTEN")
        {
            command.env("HEARTHSIDE__ADMIN__LISTEN", "");
        }
        command.args(arguments).output().expect("the program runs")
    }

    /// The same with one setting more.
    pub fn execute_with(&self, name: &str, value: &str, arguments: &[&str]) -> Output {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = self.command(&folder);
        command.env(format!("HEARTHSIDE__{name}"), value);
        command.args(arguments).output().expect("the program runs")
    }

    pub fn start(self) -> Sidecar {
        let is_before_cluster = self.environment.iter().any(|(_, value)| value.starts_with("redis+cluster://"));
        let sidecar = self.start_guarded();
        if is_before_cluster {
            until("the cluster's nodes are known", || sidecar.log().contains("the cluster answers"));
        }
        // The feed's first word empties the cache; tests that count loads begin behind it.
        until("the change feed is up", || super::admin::metric(&sidecar, "hearthside_change_feed_up") == 1.0);
        sidecar
    }

    /// As [`Builder::start`], where the metrics are not for everybody.
    pub fn start_guarded(self) -> Sidecar {
        let mut sidecar = self.spawn();
        sidecar.wait_ready();
        sidecar
    }

    /// As [`Builder::start`], for logs that are JSON.
    pub fn start_json(self) -> Sidecar {
        let sidecar = self.spawn();
        until("the sidecar is ready for clients", || sidecar.log().contains("ready for clients"));
        sidecar
    }

    /// Starts the process without waiting for its port.
    pub fn spawn(self) -> Sidecar {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let mut command = self.command(&folder);
        for (name, value) in
            // A verified sample would be one more query where queries are counted.
            [
                ("SERVER__LISTEN", "127.0.0.1:0"),
                ("ADMIN__LISTEN", "127.0.0.1:0"),
                ("LOG__LEVEL", "info"),
                ("VERIFY__SAMPLE", "0"),
            ]
        {
            if self.environment.iter().all(|(set, _)| *set != format!("HEARTHSIDE__{name}")) {
                command.env(format!("HEARTHSIDE__{name}"), value);
            }
        }
        let child = command.stderr(File::create(&log).expect("a log")).spawn().expect("the program starts");
        Sidecar { child: Some(child), folder, log, port: 0, allowed: self.allowed }
    }
}

pub struct Sidecar {
    child: Option<Child>,
    pub folder: TempDir,
    log: PathBuf,
    pub port: u16,
    allowed: Vec<&'static str>,
}

impl Sidecar {
    pub fn builder() -> Builder {
        Builder {
            limits: Vec::new(),
            listener: None,
            config: None,
            environment: Vec::new(),
            // How many files a test machine lets a process open is its own business; what nobody changes needs no
            // watch.
            allowed: vec![warnings::FEW_FILES, warnings::NO_WATCH],
        }
    }

    pub fn wait_ready(&mut self) {
        until("the sidecar is ready for clients", || {
            self.logged_port("ready for clients").is_some() || self.has_ended()
        });
        self.port = self.logged_port("ready for clients").unwrap_or_else(|| panic!("it ended:\n{}", self.log()));
    }

    /// The port in the first log line that holds `text`.
    pub fn logged_port(&self, text: &str) -> Option<u16> {
        let log = self.log();
        let line = log.lines().find(|line| line.contains(text))?;
        line.rsplit(':').next()?.trim().parse().ok()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().expect("a child").is_some())
    }

    pub fn wire(&self) -> Wire {
        Wire::tcp(self.port)
    }

    /// What its configuration file says.
    pub fn configuration(&self) -> String {
        fs::read_to_string(self.folder.path().join("config.toml")).expect("read")
    }

    /// Gives it another configuration, as a whole: a sidecar that reads the file meanwhile sees one or the other. It is in
    /// force after a reload.
    pub fn configure(&self, text: &str) {
        let file = self.folder.path().join("config.toml");
        let beside = self.folder.path().join("config.toml.new");
        fs::write(&beside, text).expect("written");
        fs::rename(&beside, &file).expect("in place");
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([format!("-{signal}"), self.pid().to_string()]).status().expect("kill");
        assert!(status.success());
    }

    /// Ends it without a farewell, and returns when it is gone.
    pub fn kill(&mut self) {
        self.signal("KILL");
        until("it is gone", || self.has_ended());
    }

    /// Ends what [`Builder::on_a_small_disk`] began.
    pub fn free_disk(&self) {
        let pid = format!("--pid={}", self.pid());
        assert!(Command::new("prlimit").args([&pid, "--fsize=unlimited"]).status().expect("util-linux").success());
    }

    /// Tells it to stop and gives its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        let start = Instant::now();
        while !self.has_ended() {
            assert!(start.elapsed() < Duration::from_secs(20), "it does not stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.child.take().expect("a child").wait().expect("ended").code()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if let Some(mut child) = self.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
            eprintln!("--- log of the sidecar\n{}", self.log());
            return;
        }
        if self.child.is_some() && !self.has_ended() {
            assert_eq!(self.stop(), Some(0), "{}", self.log());
        }
        for line in self
            .log()
            .lines()
            .filter(|line| line.contains(" WARN ") || line.contains("ERROR") || line.contains("panicked"))
        {
            let is_of_the_bug = line.contains(" panicked at ") && self.allowed.contains(&warnings::PANICKED);
            let is_allowed = is_of_the_bug || self.allowed.iter().any(|message| warnings::is_of(line, message));
            assert!(is_allowed, "unexpected in the log: {line}");
        }
    }
}
