//! TLS for clients, from the settings in `[tls]`.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::config::Tls;

/// Reads the certificate, its key and the clients' authority; `None` when no certificate is configured.
///
/// # Errors
/// The key of `[tls]` at fault, and why; never what the files hold.
pub fn server_config(settings: &Tls) -> Result<Option<Arc<ServerConfig>>, (&'static str, String)> {
    if settings.cert_file.is_empty() {
        return Ok(None);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |error: &dyn std::fmt::Display| ("tls.cert_file", error.to_string());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?;
    let builder = if settings.client_ca_file.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in certificates("tls.client_ca_file", &settings.client_ca_file)? {
            roots.add(certificate).map_err(|error| ("tls.client_ca_file", error.to_string()))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        builder.with_client_cert_verifier(verifier.map_err(|error| ("tls.client_ca_file", error.to_string()))?)
    };
    let chain = certificates("tls.cert_file", &settings.cert_file)?;
    let key = PrivateKeyDer::from_pem_file(Path::new(&settings.key_file))
        .map_err(|error| ("tls.key_file", format!("{}: {error}", settings.key_file)))?;
    let config = builder.with_single_cert(chain, key).map_err(|error| failed(&error))?;
    Ok(Some(Arc::new(config)))
}

fn certificates(key: &'static str, path: &str) -> Result<Vec<CertificateDer<'static>>, (&'static str, String)> {
    let failed = |error: &dyn std::fmt::Display| (key, format!("{path}: {error}"));
    let read = CertificateDer::pem_file_iter(Path::new(path)).map_err(|error| failed(&error))?;
    let list = read.collect::<Result<Vec<_>, _>>().map_err(|error| failed(&error))?;
    if list.is_empty() { Err(failed(&"holds no certificate")) } else { Ok(list) }
}
