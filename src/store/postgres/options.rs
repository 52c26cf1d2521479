//! How Postgres is reached: its URL, how its certificate is verified, and how long its statements may take.

use std::str::FromStr;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::sessions::FIXED;
use crate::config::{self, Pooler};
use crate::store::StoreError;

const LIKE_THIS: &str = "postgres://user:password@host:5432/database";

/// Reads how one of the servers of `store.url` is reached.
pub(super) fn read(url: &str, settings: &config::Store) -> Result<PgConnectOptions, StoreError> {
    let options = parse(url, settings)?;
    Ok(match settings.pooler {
        Pooler::None => of_own_sessions(options, settings),
        // A pooler refuses what it cannot give every session that it lends.
        Pooler::Transaction => options.extra_float_digits(None).statement_cache_capacity(0),
    })
}

/// Reads how the server itself is reached, where sessions are ours: by `store.feed_url`, or else by this URL.
pub(super) fn read_direct(url: &str, settings: &config::Store) -> Result<PgConnectOptions, StoreError> {
    let url = if settings.feed_url.is_empty() { url } else { &settings.feed_url };
    Ok(of_own_sessions(parse(url, settings)?, settings))
}

fn parse(url: &str, settings: &config::Store) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(|error| StoreError::of_url(&error, LIKE_THIS))?;
    Ok(verified(options, &settings.ca_file).application_name("hearthside").disable_statement_logging())
}

fn of_own_sessions(options: PgConnectOptions, settings: &config::Store) -> PgConnectOptions {
    let timeout = settings.query_timeout.as_millis().to_string();
    // The statements are made for READ COMMITTED, whatever the database's default is: a write, or a flush that compares
    // its batch, waits for a row's lock and goes on with the row as it is then.
    let isolation = ("default_transaction_isolation", "read committed");
    // The driver sets DateStyle and extra_float_digits.
    options.options([("statement_timeout", timeout.as_str()), isolation]).options(FIXED)
}

/// Where a server is.
pub(super) fn place(options: &PgConnectOptions) -> String {
    format!("{}:{}", options.get_host(), options.get_port())
}

/// Whoever asks for TLS gets a verified server: `sslmode=require` alone would accept any certificate.
fn verified(options: PgConnectOptions, ca_file: &str) -> PgConnectOptions {
    let wants_tls = matches!(options.get_ssl_mode(), PgSslMode::Require) || !ca_file.is_empty();
    let options = if ca_file.is_empty() { options } else { options.ssl_root_cert(ca_file) };
    match options.get_ssl_mode() {
        PgSslMode::VerifyCa | PgSslMode::VerifyFull => options,
        _ if wants_tls => options.ssl_mode(PgSslMode::VerifyFull),
        _ => options,
    }
}

/// Says so where nobody vouches for the server of this setting, and others may listen.
pub(super) fn warn_if_exposed(setting: &str, options: &PgConnectOptions) {
    if is_exposed(options) {
        tracing::warn!(
            host = options.get_host(),
            "nobody vouches for the server of {setting}, and others may listen: add ?sslmode=require or \
             store.ca_file, or ?sslmode=disable where the network is yours alone"
        );
    }
}

/// The URL leads off this machine, and says neither that the server is to be verified nor that it need not be.
fn is_exposed(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let is_socket = options.get_socket().is_some() || host.starts_with('/');
    !is_socket && !config::is_loopback(host) && matches!(options.get_ssl_mode(), PgSslMode::Allow | PgSslMode::Prefer)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use sqlx::postgres::PgConnectOptions;

    use super::{is_exposed, verified};

    #[test]
    fn who_leaves_the_machine_says_whether_the_server_is_verified() {
        let exposed =
            |url: &str, ca_file: &str| is_exposed(&verified(PgConnectOptions::from_str(url).expect("a URL"), ca_file));
        for url in
            ["postgres://db.example/game", "postgres://10.0.0.1/game", "postgres://db.example/game?sslmode=prefer"]
        {
            assert!(exposed(url, ""), "{url}");
            assert!(!exposed(url, "ca.pem"), "{url}");
        }
        for url in [
            "postgres://localhost/game",
            "postgres://127.0.0.1/game",
            "postgres://[::1]/game",
            "postgres:///game?host=/run/postgresql",
            "postgres://%2Frun%2Fpostgresql/game",
            "postgres://db.example/game?sslmode=disable",
            "postgres://db.example/game?sslmode=require",
            "postgres://db.example/game?sslmode=verify-full",
        ] {
            assert!(!exposed(url, ""), "{url}");
        }
    }
}
