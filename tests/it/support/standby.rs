//! A hot standby of a Postgres: a copy that follows it, and what makes one of a primary or the other way round.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::postgres::{Postgres, give_away, program, succeed};
use super::{free_port, until};

impl Postgres {
    /// A standby that follows this one.
    pub fn standby(&self) -> Self {
        self.standby_with("")
    }

    /// One with more options on its command line.
    pub fn standby_with(&self, options: &str) -> Self {
        self.standby_at(free_port(), options)
    }

    /// The same at this port.
    pub fn standby_at(&self, port: u16, options: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        give_away(folder.path());
        let mut copy = program("pg_basebackup");
        copy.args(["-R", "-X", "stream", "--checkpoint=fast", "--no-sync", "-h", "127.0.0.1", "-U", "postgres", "-p"]);
        copy.arg(self.port.to_string()).arg("-D").arg(folder.path().join("data"));
        succeed(copy);
        let standby = Self { folder, port, options: format!(" {options}") };
        standby.launch();
        standby
    }

    /// Returns when this standby has everything that its primary had committed at the call.
    pub fn catch_up_with(&self, primary: &Self) {
        let reached = primary.sql("SELECT pg_current_wal_lsn()");
        let has_reached = format!("SELECT pg_last_wal_replay_lsn() >= '{reached}'");
        until("the standby has caught up", || self.sql(&has_reached) == "t");
    }

    /// The standby takes writes from now on. A question there may be given up for what is replayed meanwhile.
    pub fn promote(&self) {
        until("it is promoted", || {
            let _given_up = self.try_sql("SELECT pg_promote(false)");
            self.try_sql("SELECT pg_is_in_recovery()").is_ok_and(|answer| answer == "f")
        });
    }

    /// Starts it again as a standby of nobody.
    pub fn demote(&self) {
        self.stop();
        let signal = self.data().join("standby.signal");
        fs::write(&signal, "").expect("written");
        give_away(&signal);
        self.launch();
        assert_eq!(self.sql("SELECT pg_is_in_recovery()"), "t");
    }
}
