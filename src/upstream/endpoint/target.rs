//! Reads `upstream.url`: the address of the upstream, the login, TLS and the database. The only door to the `redis`
//! crate's URL reader.

use std::path::PathBuf;
use std::sync::Arc;

use redis::{ConnectionAddr, IntoConnectionInfo, TlsCertificates};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::config;

/// An address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(String, u16),
    Tls(String, u16),
    Unix(PathBuf),
}

/// A parsed `upstream.url`.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) address: Address,
    pub(crate) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) client: redis::Client,
    /// The database that clients begin in.
    pub db: i64,
}

impl Target {
    /// Reads `[upstream]`'s `url` and `ca_file`.
    ///
    /// # Errors
    /// What is wrong with them; never the password.
    pub fn parse(settings: &config::Upstream) -> Result<Self, String> {
        let unreadable = |error: redis::RedisError| {
            let text = error.to_string().replace("- InvalidClientConfig", "");
            format!(
                "cannot be read ({}); write redis://[user:password@]host:port[/db], rediss:// or unix:///path",
                text.trim()
            )
        };
        let is_unix = settings.url.starts_with("unix:") || settings.url.starts_with("redis+unix:");
        if let Some((_, query)) = settings.url.split_once('?').filter(|_| !is_unix)
            && let Some(db) = query.split('&').find_map(|part| part.strip_prefix("db="))
        {
            return Err(format!("'?db=' is for unix:// only, and nobody would read it; write redis://host:port/{db}"));
        }
        let info = settings.url.as_str().into_connection_info().map_err(unreadable)?;
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Address::Tcp(host.clone(), *port),
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err("'#insecure' is not supported; name the server's authority in upstream.ca_file".into());
            }
            ConnectionAddr::TcpTls { host, port, .. } => Address::Tls(host.clone(), *port),
            ConnectionAddr::Unix(path) => Address::Unix(path.clone()),
            _ => return Err("must begin with redis://, rediss:// or unix://".into()),
        };
        let is_tls = matches!(address, Address::Tls(..));
        let authority = is_tls.then(|| authority(&settings.ca_file)).transpose()?;
        let redis = info.redis_settings();
        let (username, password, db) =
            (redis.username().map(str::to_owned), redis.password().map(str::to_owned), redis.db());
        let client = match authority.as_ref().and_then(|a| a.pem.clone()) {
            Some(pem) => {
                redis::Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(pem) })
            }
            None => redis::Client::open(info),
        };
        let client = client.map_err(unreadable)?;
        Ok(Self { address, username, password, tls: authority.map(|a| a.config), client, db })
    }

    /// The address, for logs and errors: no user, no password.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.address {
            Address::Tcp(host, port) => format!("redis://{host}:{port}"),
            Address::Tls(host, port) => format!("rediss://{host}:{port}"),
            Address::Unix(path) => format!("unix://{}", path.display()),
        }
    }
}

struct Authority {
    config: Arc<ClientConfig>,
    pem: Option<Vec<u8>>,
}

/// Who may vouch for a `rediss://` server: the given file, or the system's authorities.
fn authority(ca_file: &str) -> Result<Authority, String> {
    let mut roots = RootCertStore::empty();
    let pem = if ca_file.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        None
    } else {
        let pem = std::fs::read(ca_file).map_err(|error| format!("ca_file {ca_file}: {error}"))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| format!("ca_file {ca_file}: {error}"))?;
            roots.add(certificate).map_err(|error| format!("ca_file {ca_file}: {error}"))?;
        }
        Some(pem)
    };
    if roots.is_empty() {
        return Err("no certificate authority was found for rediss://; set upstream.ca_file".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(Authority { config: Arc::new(config), pem })
}

#[cfg(test)]
mod tests {
    use super::{Address, Target};
    use crate::config;

    fn parse(url: &str) -> Result<Target, String> {
        Target::parse(&config::Upstream { url: url.into(), ..Default::default() })
    }

    #[test]
    fn urls_are_read_and_never_tell_secrets() {
        let target = parse("redis://ann:s3cret@example.org:7000/3").expect("reads");
        assert_eq!(target.address, Address::Tcp("example.org".into(), 7000));
        assert_eq!(
            (target.username.as_deref(), target.password.as_deref(), target.db),
            (Some("ann"), Some("s3cret"), 3)
        );
        assert_eq!(target.name(), "redis://example.org:7000");
        assert_eq!(parse("unix:///run/redis.sock").expect("reads").address, Address::Unix("/run/redis.sock".into()));
        for url in ["redis://127.0.0.1:7000?db=2", "rediss://127.0.0.1:7000/?protocol=resp3&db=2"] {
            assert!(parse(url).expect_err("refused").contains("write redis://host:port/2"), "{url}");
        }
        assert_eq!(parse("unix:///run/redis.sock?db=2").expect("reads").db, 2);
        let error = parse("http://ann:s3cret@example.org").expect_err("refused");
        assert!(!error.contains("s3cret"), "{error}");
    }
}
