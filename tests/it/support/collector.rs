//! A collector of traces: takes OTLP over HTTP, as protobuf, and keeps the spans.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::certificates::Signed;
use super::{free_port, until};

/// What it has been given.
#[derive(Default)]
struct Taken {
    spans: Mutex<Vec<Span>>,
    resource: Mutex<Vec<KeyValue>>,
    bytes: Mutex<Vec<u8>>,
    connections: AtomicUsize,
    requests: AtomicUsize,
    /// It answers nothing.
    hangs: AtomicBool,
    /// It answers this, and keeps nothing.
    refusal: Mutex<Option<Vec<u8>>>,
    /// It answers this behind the head of a success.
    said: Mutex<Vec<u8>>,
}

pub struct Collector {
    pub port: u16,
    taken: Arc<Taken>,
}

impl Collector {
    pub fn start() -> Self {
        Self::at(free_port())
    }

    pub fn at(port: u16) -> Self {
        Self::serving(port, |stream| stream)
    }

    /// One that speaks HTTPS, with this certificate.
    pub fn start_with_tls(signed: &Signed) -> Self {
        let chain = CertificateDer::pem_file_iter(&signed.certificate).expect("a file").map(|it| it.expect("PEM"));
        let key = PrivateKeyDer::from_pem_file(&signed.key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth().with_single_cert(chain.collect(), key);
        let config = Arc::new(config.expect("a certificate"));
        Self::serving(free_port(), move |stream| {
            StreamOwned::new(ServerConnection::new(config.clone()).expect("a connection"), stream)
        })
    }

    fn serving<T: Read + Write>(port: u16, speak: impl Fn(TcpStream) -> T + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
        let taken = Arc::new(Taken::default());
        let its = taken.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                its.connections.fetch_add(1, SeqCst);
                let (its, speak) = (its.clone(), speak.clone());
                std::thread::spawn(move || serve(speak(stream), &its));
            }
        });
        Self { port, taken }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on it answers nothing, or answers again.
    pub fn hang(&self, hangs: bool) {
        self.taken.hangs.store(hangs, SeqCst);
    }

    /// From now on it answers that it cannot, or takes spans again.
    pub fn refuse(&self, refuses: bool) {
        self.refuse_with(refuses.then_some("503 Service Unavailable\r\n"));
    }

    /// From now on it answers with this status and these fields, or takes spans again.
    pub fn refuse_with(&self, head: Option<&str>) {
        let answer = head.map(|head| format!("HTTP/1.1 {head}content-length: 0\r\n\r\n").into_bytes());
        *self.taken.refusal.lock().expect("whole") = answer;
    }

    /// From now on it says that it has refused so many spans of each request, and why.
    pub fn refuse_some(&self, rejected_spans: i64, why: &str) {
        let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message: why.into() });
        *self.taken.said.lock().expect("whole") = ExportTraceServiceResponse { partial_success }.encode_to_vec();
    }

    pub fn connections(&self) -> usize {
        self.taken.connections.load(SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.taken.requests.load(SeqCst)
    }

    /// Everything that came, as it came.
    pub fn bytes(&self) -> Vec<u8> {
        self.taken.bytes.lock().expect("whole").clone()
    }

    /// What the spans are of.
    pub fn resource(&self, name: &str) -> String {
        attribute_of(&self.taken.resource.lock().expect("whole"), name)
    }

    pub fn spans(&self) -> Vec<Span> {
        self.taken.spans.lock().expect("whole").clone()
    }

    /// The spans that no other is above, of this name.
    pub fn roots(&self, name: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.name == name && span.parent_span_id.is_empty()).collect()
    }

    /// Waits for so many of them.
    pub fn wait_for(&self, count: usize, name: &str) -> Vec<Span> {
        until(&format!("{count} spans {name:?}"), || self.roots(name).len() >= count);
        let roots = self.roots(name);
        assert_eq!(roots.len(), count, "{name}");
        roots
    }

    /// The trace of a span as lines, each a span below the one that is above it, by name.
    pub fn tree(&self, root: &Span) -> Vec<String> {
        let spans: Vec<Span> = self.spans().into_iter().filter(|span| span.trace_id == root.trace_id).collect();
        let mut lines = Vec::new();
        branch(&spans, &root.parent_span_id, 0, &mut lines);
        lines
    }

    /// The child of a span that has this name.
    pub fn child(&self, parent: &Span, name: &str) -> Span {
        let is_it = |span: &&Span| {
            span.name == name && span.trace_id == parent.trace_id && span.parent_span_id == parent.span_id
        };
        let spans = self.spans();
        spans.iter().find(is_it).unwrap_or_else(|| panic!("{name} in {:?}", self.tree(parent))).clone()
    }
}

fn branch(spans: &[Span], parent: &[u8], depth: usize, lines: &mut Vec<String>) {
    let mut below: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id == parent).collect();
    below.sort_by_key(|span| (span.start_time_unix_nano, span.name.clone()));
    for span in below {
        lines.push(format!("{}{}", "  ".repeat(depth), span.name));
        branch(spans, &span.span_id, depth + 1, lines);
    }
}

/// The value of an attribute as text; empty where there is none.
pub fn attribute(span: &Span, name: &str) -> String {
    attribute_of(&span.attributes, name)
}

fn attribute_of(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.clone()) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is_so)) => is_so.to_string(),
        Some(other) => format!("{other:?}"),
        None => String::new(),
    }
}

pub fn is_server(span: &Span) -> bool {
    span.kind() == SpanKind::Server
}

/// Milliseconds from its beginning to its end.
pub fn millis(span: &Span) -> u64 {
    (span.end_time_unix_nano - span.start_time_unix_nano) / 1_000_000
}

fn serve(stream: impl Read + Write, taken: &Taken) {
    let mut reader = BufReader::new(stream);
    while let Some(body) = request(&mut reader) {
        taken.requests.fetch_add(1, SeqCst);
        until_unhung(taken);
        let refusal = taken.refusal.lock().expect("whole").clone();
        let answer = refusal.unwrap_or_else(|| {
            keep(taken, &body);
            let said = taken.said.lock().expect("whole").clone();
            let length = said.len();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: {length}\r\n\r\n");
            [head.into_bytes(), said].concat()
        });
        if reader.get_mut().write_all(&answer).is_err() {
            return;
        }
    }
}

fn until_unhung(taken: &Taken) {
    while taken.hangs.load(SeqCst) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn keep(taken: &Taken, body: &[u8]) {
    let request = ExportTraceServiceRequest::decode(body).expect("protobuf");
    for resource in request.resource_spans {
        *taken.resource.lock().expect("whole") = resource.resource.expect("a resource").attributes;
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        taken.spans.lock().expect("whole").extend(spans);
    }
    taken.bytes.lock().expect("whole").extend_from_slice(body);
}

/// The body of the next request.
fn request(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    assert!(first.starts_with("POST /v1/traces "), "{first}");
    let (mut length, mut is_protobuf) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end().to_ascii_lowercase();
        is_protobuf |= line == "content-type: application/x-protobuf";
        match line.strip_prefix("content-length: ") {
            Some(text) => length = text.parse().expect("a length"),
            None if line.is_empty() => break,
            None => {}
        }
    }
    assert!(is_protobuf);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}
