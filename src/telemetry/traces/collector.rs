//! The way to a collector: OTLP over HTTP, as protobuf.

use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry::KeyValue;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::telling_client::{LastFailure, TellingClient};
use crate::config::TracesConfig;
use crate::telemetry::random_id::fresh;

/// How long it may take to take what it is given.
const PATIENCE: Duration = Duration::from_secs(10);

/// One collector.
#[derive(Debug)]
pub(super) struct Collector {
    exporter: SpanExporter,
    failure: LastFailure,
    pub(super) url: String,
}

impl Collector {
    /// The one of these settings, if they name one. Nothing is sent.
    ///
    /// # Errors
    /// The setting, and what is wrong with it.
    pub(super) fn of(settings: &TracesConfig) -> Result<Option<Self>, (&'static str, String)> {
        if !settings.are_on() {
            return Ok(None);
        }
        let tls = tls(settings).map_err(|text| ("traces.ca_file", text))?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let (url, failure) = (settings.url(), LastFailure::default());
        let client = TellingClient { client: HyperClient::new(connector, PATIENCE, None), failure: failure.clone() };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(url.clone())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(PATIENCE)
            // What waits meanwhile is bounded, and the next attempt is soon.
            .with_retry_policy(RetryPolicy::disabled())
            .build();
        let mut exporter = exporter.map_err(|error| ("traces.endpoint", error.to_string()))?;
        exporter.set_resource(&resource(settings));
        Ok(Some(Self { exporter, failure, url }))
    }

    /// Gives it these.
    ///
    /// # Errors
    /// It does not take them, or not in time.
    pub(super) async fn take(&self, spans: Vec<SpanData>) -> Result<(), String> {
        let taken = tokio::time::timeout(PATIENCE, self.exporter.export(spans)).await;
        match taken {
            Ok(Ok(())) => Ok(()),
            Ok(Err(OTelSdkError::InternalFailure(text))) => Err(self.failure.take().unwrap_or(text)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }
}

/// Who it is that the spans are of.
fn resource(settings: &TracesConfig) -> Resource {
    let process = i64::from(std::process::id());
    Resource::builder_empty()
        .with_service_name(settings.service.clone())
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", format!("{:016x}", fresh())),
            KeyValue::new("process.pid", process),
        ])
        .build()
}

/// How `https://` is spoken.
fn tls(settings: &TracesConfig) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    if !settings.ca_file.is_empty() {
        let faulty = |error: String| format!("{}: {error}", settings.ca_file);
        let pem = std::fs::read(&settings.ca_file).map_err(|error| faulty(error.to_string()))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| faulty(error.to_string()))?;
            roots.add(certificate).map_err(|error| faulty(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(faulty("has no certificate in PEM form".into()));
        }
    } else if settings.endpoint.starts_with("https://") {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
