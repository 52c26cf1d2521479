//! What sessions are set up with that the server was asked for: what a name means in them, and settings that not every
//! version has. All sessions of one time have the same, whatever the role's settings have become since, and whatever
//! others left in a session that a pooler lends. Knows no statement.

use std::sync::{Arc, PoisonError, RwLock};

use sqlx::postgres::PgConnectOptions;

/// Settings of newer servers, and what they are set to. A session of ours is not ended because nothing changes, and a
/// statement ends soon after its connection was closed, at COMMIT too, when `statement_timeout` has ended.
/// Source: <https://www.postgresql.org/docs/current/runtime-config-client.html>,
/// <https://www.postgresql.org/docs/current/runtime-config-connection.html>
const OF_NEWER_SERVERS: [(&str, &str); 2] = [("idle_session_timeout", "0"), ("client_connection_check_interval", "1s")];

/// Asks for a [`Setup`]: the role that a session takes, its search path, and which of the settings of newer servers
/// there are.
pub(super) const ASK: &str = "current_setting('role') AS role, current_setting('search_path') AS search_path, \
    (SELECT coalesce(string_agg(name, ' '), '') FROM pg_settings WHERE name = 'idle_session_timeout' \
    OR name = 'client_connection_check_interval' AND version() !~* 'mingw|visual|windows') AS known";

/// What a session is set up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    /// `none`: that of the login.
    pub(super) role: String,
    pub(super) search_path: String,
    /// Names of settings that the server knows.
    pub(super) known: String,
}

impl Setup {
    /// For sessions of our own.
    pub(super) fn lasting(&self, options: PgConnectOptions) -> PgConnectOptions {
        options.options(self.of_newer_servers())
    }

    /// For sessions of our own in which tables are read and written.
    pub(super) fn with_names(&self, options: PgConnectOptions) -> PgConnectOptions {
        options.options([("search_path", self.search_path.as_str())])
    }

    /// For one transaction: what others may have left is put right.
    pub(super) fn for_a_transaction(&self) -> String {
        let set = |(name, value): (&str, &str)| format!("; SET LOCAL {name} = '{value}'");
        let newer: String = self.of_newer_servers().map(set).collect();
        let (role, path) = (constant(&self.role), constant(&self.search_path));
        let names = format!("set_config('role', {role}, true), pg_catalog.set_config('search_path', {path}, true)");
        format!("{newer}; SELECT pg_catalog.{names}")
    }

    fn of_newer_servers(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        OF_NEWER_SERVERS.into_iter().filter(|(name, _)| self.known.split(' ').any(|known| known == *name))
    }
}

/// A constant of SQL, whatever the session takes backslashes for.
fn constant(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The setup of now. A clone is the same one.
#[derive(Clone, Debug)]
pub(super) struct CurrentSetup(Arc<RwLock<Setup>>);

impl CurrentSetup {
    pub(super) fn new(setup: Setup) -> Self {
        Self(Arc::new(RwLock::new(setup)))
    }

    pub(super) fn get(&self) -> Setup {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another server gave this to a new session.
    pub(super) fn replace(&self, setup: Setup) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = setup;
    }

    /// From now on names are looked up along this path. True when that is another one.
    pub(super) fn take_path(&self, search_path: &str) -> bool {
        let mut setup = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_another = setup.search_path != search_path;
        if is_another {
            search_path.clone_into(&mut setup.search_path);
        }
        is_another
    }
}

#[cfg(test)]
mod tests {
    use super::Setup;

    #[test]
    fn what_others_left_is_put_right_in_each_transaction() {
        let known = "client_connection_check_interval".to_owned();
        let setup = Setup { role: "none".into(), search_path: "\"it's\", public".into(), known };
        let text = "; SET LOCAL client_connection_check_interval = '1s'; \
                    SELECT pg_catalog.set_config('role', E'none', true), \
                    pg_catalog.set_config('search_path', E'\"it''s\", public', true)";
        assert_eq!(setup.for_a_transaction(), text);
    }
}
