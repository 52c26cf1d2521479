//! The bytes between us and the server: a TCP connection or a Unix socket, encrypted as the SQL driver's would be.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use socket2::{SockRef, TcpKeepalive};
use sqlx::postgres::PgSslMode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::login::{Login, Tls};
use crate::leniency::Lenient;

/// Asks whether the server speaks TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// The kernel asks a silent peer for a sign of life after so long, and again: while a slot waits for transactions that
/// are open, the server says nothing.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Reads and writes.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(super) type Stream = Box<dyn Duplex>;

/// Opens it.
///
/// # Errors
/// The network's, and a certificate's.
pub(super) async fn open(login: &Login) -> io::Result<Stream> {
    if let Some(folder) = &login.socket {
        return Ok(Box::new(UnixStream::connect(folder.join(format!(".s.PGSQL.{}", login.port))).await?));
    }
    let host = login.host.trim_start_matches('[').trim_end_matches(']');
    let mut stream = TcpStream::connect((host, login.port)).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(3);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    if matches!(login.tls.mode, PgSslMode::Disable | PgSslMode::Allow) {
        return Ok(Box::new(stream));
    }
    stream.write_all(&SSL_REQUEST).await?;
    match stream.read_u8().await? {
        b'S' => {
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let connector = TlsConnector::from(Arc::new(config(&login.tls).await?));
            Ok(Box::new(connector.connect(name, stream).await?))
        }
        _ if matches!(login.tls.mode, PgSslMode::Prefer) => Ok(Box::new(stream)),
        _ => Err(io::Error::other("the server does not speak TLS")),
    }
}

/// What is read from the text of a certificate or key, or from the file that it names.
async fn pem(text: &str) -> io::Result<Vec<u8>> {
    match text.strip_prefix("file: ") {
        Some(path) => tokio::fs::read(path).await.map_err(|error| io::Error::other(format!("{path}: {error}"))),
        None => Ok(text.as_bytes().to_vec()),
    }
}

async fn config(tls: &Tls) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match &tls.authorities {
        Some(text) => {
            let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem(text).await?)
                .collect::<Result<_, _>>()
                .map_err(io::Error::other)?;
            roots.add_parsable_certificates(certificates);
        }
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let leniency = leniency(tls.mode, &roots)?;
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?.with_root_certificates(roots);
    let mut config = match &tls.certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(&pem(certificate).await?).collect::<Result<_, _>>();
            let key = PrivateKeyDer::from_pem_slice(&pem(key).await?).map_err(io::Error::other)?;
            builder.with_client_auth_cert(chain.map_err(io::Error::other)?, key).map_err(io::Error::other)?
        }
    };
    if let Some(lenient) = leniency {
        config.dangerous().set_certificate_verifier(Arc::new(lenient));
    }
    Ok(config)
}

/// What is verified less than everything: `sslmode=prefer` takes any certificate, `verify-ca` one for any name. Nothing
/// where the server is verified as it should be.
fn leniency(mode: PgSslMode, roots: &RootCertStore) -> io::Result<Option<Lenient>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let authorities = match mode {
        PgSslMode::VerifyFull => return Ok(None),
        PgSslMode::VerifyCa => {
            let roots = Arc::new(roots.clone());
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
            Some(verifier.map_err(io::Error::other)?)
        }
        _ => None,
    };
    Ok(Some(Lenient::new(authorities)))
}
