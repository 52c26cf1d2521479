//! A real Postgres. The first test of a build makes a cluster once; every test starts a copy of it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use tempfile::TempDir;

use super::certificates::Signed;
use super::{free_port, until};

pub struct Postgres {
    pub(super) folder: TempDir,
    pub port: u16,
    /// More options of the server.
    pub(super) options: String,
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    id.stdout.trim_ascii() == b"0"
}

/// A server program: Debian keeps them outside PATH, and Postgres refuses to run as root.
pub(super) fn program(name: &str) -> Command {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(name)).find(|path| path.exists());
    as_postgres(found.unwrap_or_else(|| PathBuf::from(name)))
}

/// A program that does not run as root.
pub fn as_postgres(program: impl AsRef<OsStr>) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

pub(super) fn succeed(mut command: Command) -> Output {
    let output = command.current_dir("/").output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

pub fn give_away(path: &Path) {
    if is_root() {
        let mut chown = Command::new("chown");
        chown.args(["-R", "postgres"]).arg(path);
        succeed(chown);
    }
}

fn template() -> PathBuf {
    let base = std::env::temp_dir().join("hearthside-test-postgres");
    fs::create_dir_all(&base).expect("a folder");
    let lock = File::create(base.join("lock")).expect("a lock file");
    lock.lock().expect("locked");
    let data = base.join("data");
    if !base.join("done").exists() {
        let _ = fs::remove_dir_all(&data);
        fs::create_dir_all(&data).expect("a folder");
        give_away(&data);
        let mut initdb = program("initdb");
        initdb
            .args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale", "C.UTF-8", "-D"])
            .arg(&data);
        succeed(initdb);
        fs::write(base.join("done"), "").expect("written");
    }
    data
}

impl Postgres {
    pub fn start() -> Self {
        Self::prepare().launched()
    }

    /// One with more options on its command line.
    pub fn start_with(options: &str) -> Self {
        let mut postgres = Self::prepare();
        postgres.options = format!(" {options}");
        postgres.launched()
    }

    /// One that speaks TLS, as `localhost`.
    pub fn start_with_tls(signed: &Signed) -> Self {
        let mut postgres = Self::prepare();
        let folder = postgres.folder.path();
        for (from, to) in [(&signed.certificate, "cert.pem"), (&signed.key, "key.pem")] {
            fs::copy(from, folder.join(to)).expect("copied");
            fs::set_permissions(folder.join(to), fs::Permissions::from_mode(0o600)).expect("permissions");
        }
        give_away(folder);
        let file = |name: &str| folder.join(name).display().to_string();
        let (certificate, key) = (file("cert.pem"), file("key.pem"));
        postgres.options = format!(" -c ssl=on -c ssl_cert_file={certificate} -c ssl_key_file={key}");
        postgres.launched()
    }

    fn launched(self) -> Self {
        self.launch();
        self
    }

    fn prepare() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let data = folder.path().join("data");
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(template()).arg(&data);
        succeed(copy);
        give_away(folder.path());
        Self { folder, port: free_port(), options: String::new() }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn launch(&self) {
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=off -c shared_preload_libraries=pg_stat_statements{}",
            self.port,
            self.folder.path().display(),
            self.options
        );
        let mut start = program("pg_ctl");
        start
            .args(["start", "-w", "-l"])
            .arg(self.folder.path().join("log"))
            .args(["-o", &options, "-D"])
            .arg(self.data());
        succeed(start);
        until("Postgres answers", || self.try_sql("SELECT 1").is_ok());
    }

    pub fn stop(&self) {
        let mut stop = program("pg_ctl");
        stop.args(["stop", "-w", "-m", "immediate", "-D"]).arg(self.data());
        succeed(stop);
    }

    /// The same of one that may have been stopped before.
    pub fn stop_if_running(&self) {
        let mut stop = program("pg_ctl");
        stop.args(["stop", "-w", "-m", "immediate", "-D"]).arg(self.data());
        let _ended = stop.current_dir("/").output();
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same database through another port.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/postgres")
    }

    /// Makes a database of this encoding, and gives its URL.
    pub fn database(&self, encoding: &str) -> String {
        let name = encoding.to_lowercase();
        self.sql(&format!("CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"));
        format!("{}/{name}", self.url().trim_end_matches("/postgres"))
    }

    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        Self::try_sql_at(&self.url(), sql)
    }

    /// The same as whom, and where, a URL says.
    pub fn try_sql_at(url: &str, sql: &str) -> Result<String, String> {
        let mut psql = Command::new("psql");
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql]).arg(url);
        let output = psql.output().expect("psql is installed (scripts/test installs it)");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// How often statements like that were run, as the extension pg_stat_statements counts them.
    pub fn calls(&self, like: &str) -> u64 {
        self.sql(&calls(like)).parse().expect("a number")
    }

    /// What a script prints in one session, with the notices that reach it.
    pub fn sql_and_notices(&self, script: &str) -> String {
        let mut psql = Command::new("psql");
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1"]).arg(self.url()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut psql = psql.spawn().expect("psql is installed (scripts/test installs it)");
        let mut stdin = psql.stdin.take().expect("piped");
        writeln!(stdin, "{script};").expect("written");
        drop(stdin);
        let output = psql.wait_with_output().expect("psql ends");
        assert!(output.status.success(), "{script}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

/// Asks how often statements like that were run.
pub fn calls(like: &str) -> String {
    format!("SELECT coalesce(sum(calls), 0) FROM pg_stat_statements WHERE query LIKE '{like}'")
}

/// A session of psql that is told one thing after the other, for transactions that stay open.
pub struct Session {
    psql: Child,
    answers: BufReader<ChildStdout>,
}

impl Postgres {
    pub fn session(&self) -> Session {
        self.session_at(self.port)
    }

    /// A session through what listens at another port.
    pub fn session_at(&self, port: u16) -> Session {
        let mut psql = Command::new("psql");
        psql.args(["-XqAt"]).arg(self.url_at(port)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut psql = psql.spawn().expect("psql is installed (scripts/test installs it)");
        let answers = BufReader::new(psql.stdout.take().expect("piped"));
        Session { psql, answers }
    }
}

impl Session {
    /// Runs `sql`, and returns when it is done.
    pub fn run(&mut self, sql: &str) {
        assert!(self.try_run(sql), "{sql}");
    }

    /// Runs one statement; false when it failed, or the connection is gone.
    pub fn try_run(&mut self, sql: &str) -> bool {
        let stdin = self.psql.stdin.as_mut().expect("piped");
        if writeln!(stdin, "{sql}\n\\echo done :ERROR").is_err() {
            return false;
        }
        let mut line = String::new();
        while !line.starts_with("done") {
            line.clear();
            if self.answers.read_line(&mut line).unwrap_or(0) == 0 {
                return false;
            }
        }
        line.trim_end() == "done false"
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop_if_running();
    }
}
