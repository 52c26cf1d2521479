//! A real PgBouncer before a Postgres.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::postgres::{Postgres, as_postgres, give_away};
use super::{free_port, until};

pub struct PgBouncer {
    folder: TempDir,
    pub port: u16,
    process: Option<Child>,
}

impl PgBouncer {
    /// One that lends few sessions, each for a transaction (`mode`: or until its client leaves).
    pub fn start(postgres: &Postgres, mode: &str) -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let users = folder.path().join("users");
        fs::write(&users, "\"postgres\" \"\"\n").expect("written");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {}\nadmin_users = postgres\npool_mode = {mode}\n\
             default_pool_size = {}\nserver_login_retry = 1\nlogfile = {}\n",
            postgres.port,
            users.display(),
            if mode == "transaction" { 3 } else { 20 },
            folder.path().join("log").display(),
        );
        fs::write(folder.path().join("settings.ini"), settings).expect("written");
        give_away(folder.path());
        let mut pooler = Self { folder, port, process: None };
        pooler.launch();
        pooler
    }

    pub fn launch(&mut self) {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| Path::new(path).exists());
        let mut command = as_postgres(program.unwrap_or("pgbouncer"));
        command.arg("-q").arg(self.folder.path().join("settings.ini")).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().expect("pgbouncer is installed (scripts/test installs it)"));
        until("PgBouncer answers", || self.tell("SHOW VERSION"));
    }

    /// Runs a command of its console.
    pub fn tell(&self, command: &str) -> bool {
        let url = format!("postgres://postgres@127.0.0.1:{}/pgbouncer", self.port);
        let mut psql = Command::new("psql");
        psql.args(["-XqAt", "-c", command]).arg(url).stdout(Stdio::null()).stderr(Stdio::null());
        psql.status().expect("psql is installed (scripts/test installs it)").success()
    }

    /// Ends it at once; its clients' connections break.
    pub fn stop(&mut self) {
        self.tell("SHUTDOWN");
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.stop();
        }
    }
}
