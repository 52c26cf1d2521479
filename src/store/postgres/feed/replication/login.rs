//! Who logs in for replication, where and how, as the SQL driver has read it; and the conversation in which the server
//! is convinced.

use std::io;
use std::path::PathBuf;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use percent_encoding::percent_decode_str;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::wire::{Walsender, parse, refused};

/// What texts depend on, as change triggers have it (`store/triggers/function.rs`).
const FORMATS: &str = "-c DateStyle=ISO,\\ MDY -c IntervalStyle=postgres -c TimeZone=UTC -c bytea_output=hex \
    -c extra_float_digits=1 -c search_path=pg_catalog";

/// Everything that opening a connection needs.
pub(super) struct Login {
    pub(super) host: String,
    pub(super) port: u16,
    /// A folder with the server's socket, instead of host and port.
    pub(super) socket: Option<PathBuf>,
    pub(super) tls: Tls,
    role: String,
    password: String,
    database: String,
}

/// Whether and how the connection is encrypted. Certificates are files, or the text of one.
pub(super) struct Tls {
    pub(super) mode: PgSslMode,
    pub(super) authorities: Option<String>,
    /// Ours, with its key.
    pub(super) certificate: Option<(String, String)>,
}

impl Login {
    /// As `options` say. The driver gives a password away in its URL only, which is made for a host and a role that
    /// are always allowed in one.
    pub(super) fn of(options: &PgConnectOptions) -> Self {
        let url = options.clone().host("localhost").username("role").to_url_lossy();
        let part = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let host = options.get_host().to_owned();
        let folder = host.starts_with('/').then(|| PathBuf::from(&host));
        let role = options.get_username().to_owned();
        Self {
            port: options.get_port(),
            socket: options.get_socket().cloned().or(folder),
            host,
            tls: Tls {
                mode: options.get_ssl_mode(),
                authorities: part("sslrootcert"),
                certificate: part("sslcert").zip(part("sslkey")),
            },
            password: percent_decode_str(url.password().unwrap_or_default()).decode_utf8_lossy().into_owned(),
            database: options.get_database().unwrap_or(&role).to_owned(),
            role,
        }
    }
}

impl Walsender {
    pub(super) async fn log_in(&mut self, login: &Login) -> io::Result<()> {
        let parameters = [
            ("user", login.role.as_str()),
            ("database", login.database.as_str()),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", "hearthside"),
            ("options", FORMATS),
        ];
        let mut startup = BytesMut::new();
        frontend::startup_message(parameters, &mut startup)?;
        self.send(&startup).await?;
        loop {
            match parse(self.frame().await?)? {
                Message::ReadyForQuery(_) => return Ok(()),
                Message::ErrorResponse(error) => return Err(refused(&error)),
                Message::AuthenticationCleartextPassword => self.answer(login.password.as_bytes()).await?,
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(login.role.as_bytes(), login.password.as_bytes(), body.salt());
                    self.answer(hash.as_bytes()).await?;
                }
                Message::AuthenticationSasl(body) => self.prove_password(&body, &login.password).await?,
                Message::AuthenticationOk
                | Message::BackendKeyData(_)
                | Message::ParameterStatus(_)
                | Message::NoticeResponse(_) => {}
                _ => return Err(io::Error::other("the server asks for a way to log in that is not known")),
            }
        }
    }

    async fn answer(&mut self, password: &[u8]) -> io::Result<()> {
        let mut message = BytesMut::new();
        frontend::password_message(password, &mut message)?;
        self.send(&message).await
    }

    /// SCRAM-SHA-256, as the driver does it: without binding to the TLS channel.
    async fn prove_password(&mut self, body: &AuthenticationSaslBody, password: &str) -> io::Result<()> {
        if !body.mechanisms().any(|mechanism| Ok(mechanism == SCRAM_SHA_256))? {
            return Err(io::Error::other("the server does not offer SCRAM-SHA-256"));
        }
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let mut message = BytesMut::new();
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut message)?;
        self.send(&message).await?;
        loop {
            match parse(self.frame().await?)? {
                Message::AuthenticationSaslContinue(body) => {
                    scram.update(body.data())?;
                    let mut message = BytesMut::new();
                    frontend::sasl_response(scram.message(), &mut message)?;
                    self.send(&message).await?;
                }
                Message::AuthenticationSaslFinal(body) => return scram.finish(body.data()),
                Message::ErrorResponse(error) => return Err(refused(&error)),
                _ => return Err(io::Error::other("the server does not answer as SCRAM-SHA-256 has it")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use sqlx::postgres::PgConnectOptions;

    use super::Login;

    #[test]
    fn what_the_driver_has_read_is_used() {
        let login = |url: &str| Login::of(&PgConnectOptions::from_str(url).expect("a URL"));
        let plain = login("postgres://a%2Fb:p%40%25%20ss@[::1]:7000/shop?sslmode=verify-full&sslrootcert=a%20b.pem");
        assert_eq!((plain.role.as_str(), plain.password.as_str()), ("a/b", "p@% ss"));
        assert_eq!((plain.port, plain.database.as_str()), (7000, "shop"));
        assert_eq!(plain.tls.authorities.as_deref(), Some("file: a b.pem"));
        let socket = login("postgres://me@%2Frun%2Fpostgresql/game");
        assert_eq!(socket.socket.as_deref(), Some(std::path::Path::new("/run/postgresql")));
    }
}
