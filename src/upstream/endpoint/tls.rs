//! TLS to the upstream: what its certificate must prove (`upstream.tls_verify`), and what an operator is told when it
//! does not.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};

use crate::config::{self, TlsVerify};
use crate::leniency::{Lenient, is_about_the_name};

/// How encrypted connections are made.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    /// Nothing of the server is verified.
    pub(super) is_unverified: bool,
}

/// How `rediss://` connections are made by `[upstream]`.
///
/// # Errors
/// What is wrong with `ca_file`.
pub(super) fn client(settings: &config::Upstream) -> Result<Tls, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let proof: Arc<dyn ServerCertVerifier> = match settings.tls_verify {
        TlsVerify::Full => authorities(&settings.ca_file, &provider)?,
        TlsVerify::Ca => Arc::new(Lenient::new(Some(authorities(&settings.ca_file, &provider)?))),
        TlsVerify::Fingerprint(_) | TlsVerify::None => Arc::new(Lenient::new(None)),
    };
    let judge = Judge { verify: settings.tls_verify, proof };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.dangerous();
    let config = Arc::new(builder.with_custom_certificate_verifier(Arc::new(judge)).with_no_client_auth());
    Ok(Tls { config, is_unverified: settings.tls_verify == TlsVerify::None })
}

/// Those of the file, or the system's.
fn authorities(ca_file: &str, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    if ca_file.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        let faulty = |error: String| format!("upstream.ca_file {ca_file}: {error}");
        let pem = std::fs::read(ca_file).map_err(|error| faulty(error.to_string()))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| faulty(error.to_string()))?;
            roots.add(certificate).map_err(|error| faulty(error.to_string()))?;
        }
    }
    if roots.is_empty() {
        return Err(match ca_file.is_empty() {
            true => "no certificate authority was found for rediss://; set upstream.ca_file".to_owned(),
            false => format!("upstream.ca_file {ca_file}: has no certificate in PEM form"),
        });
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    verifier.map_err(|error| error.to_string())
}

/// Why a handshake has failed, in an operator's words.
pub(super) fn in_words(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(CertificateError::Other(why))) => {
            io::Error::other(format!("its certificate is not taken: {}", why.0))
        }
        _ => error,
    }
}

/// Says whether a server's certificate proves what it must.
#[derive(Debug)]
struct Judge {
    verify: TlsVerify,
    /// What it must prove besides.
    proof: Arc<dyn ServerCertVerifier>,
}

/// A certificate that is not taken: what is wrong with it, and which setting would help.
#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// In an operator's words.
    fn of(error: &Error, host: &str, fingerprint: TlsVerify) -> Error {
        let alone = format!("trust this certificate alone with upstream.tls_verify = \"{fingerprint}\"");
        let text = match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => format!(
                "nobody who is known here has signed its certificate: name its authority in upstream.ca_file, or \
                 {alone}"
            ),
            Error::InvalidCertificate(reason) if is_about_the_name(reason) => format!(
                "{reason}: connect by a name that it has instead of {host}, or let any name do with \
                 upstream.tls_verify = \"ca\", or {alone}"
            ),
            Error::InvalidCertificate(CertificateError::Other(why)) if format!("{why:?}").contains("CaUsed") => {
                format!(
                    "it is an authority's own (CA:TRUE), which no server may show: give it one of its own, or {alone}"
                )
            }
            Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                format!("it has expired: give it a new one, or {alone}")
            }
            Error::InvalidCertificate(reason) => format!("{reason}: give it a new one, or {alone}"),
            other => other.to_string(),
        };
        Self(text).into()
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> TlsVerify {
    TlsVerify::Fingerprint(Sha256::digest(certificate).into())
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let its = fingerprint(certificate);
        if matches!(self.verify, TlsVerify::Fingerprint(_)) && its != self.verify {
            let text = format!(
                "it is another certificate than upstream.tls_verify names: if the server was given a new one, set \
                 \"{its}\""
            );
            return Err(Refusal(text).into());
        }
        let proven = self.proof.verify_server_cert(certificate, intermediates, host, ocsp, now);
        proven.map_err(|error| Refusal::of(&error, &host.to_str(), its))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.proof.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.proof.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.proof.supported_verify_schemes()
    }
}
