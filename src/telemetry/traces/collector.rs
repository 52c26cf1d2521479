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

use super::answer::{Answer, Refusal};
use super::telling_client::{LastRequest, TellingClient};
use crate::config::TracesConfig;

/// How long it may take to take what it is given.
const PATIENCE: Duration = Duration::from_secs(10);

/// One collector.
#[derive(Debug)]
pub(super) struct Collector {
    exporter: SpanExporter,
    last: LastRequest,
    pub(super) url: String,
}

impl Collector {
    /// The one of these settings, if they name one, for spans of the process of this name. Nothing is sent.
    ///
    /// # Errors
    /// The setting, and what is wrong with it.
    pub(super) fn of(settings: &TracesConfig, instance: &str) -> Result<Option<Self>, (&'static str, String)> {
        if !settings.are_on() {
            return Ok(None);
        }
        let tls = tls(settings).map_err(|text| ("traces.ca_file", text))?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let (url, last) = (settings.url(), LastRequest::default());
        let client = TellingClient { client: HyperClient::new(connector, PATIENCE, None), last: last.clone() };
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
        exporter.set_resource(&resource(settings, instance));
        Ok(Some(Self { exporter, last, url }))
    }

    /// Gives it these.
    ///
    /// # Errors
    /// It does not take them, or not in time.
    pub(super) async fn take(&self, spans: Vec<SpanData>) -> Result<Answer, Refusal> {
        let taken = tokio::time::timeout(PATIENCE, self.exporter.export(spans)).await;
        let told = self.last.take();
        let why = match taken {
            Ok(Ok(())) => return Ok(told.answer),
            Ok(Err(OTelSdkError::InternalFailure(text))) => told.failure.unwrap_or(text),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        Err(Refusal { why, rest: told.rest })
    }
}

/// Who it is that the spans are of.
fn resource(settings: &TracesConfig, instance: &str) -> Resource {
    let process = i64::from(std::process::id());
    Resource::builder_empty()
        .with_service_name(settings.service.clone())
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance.to_owned()),
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
