//! The admin port over plain HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::sidecar::Sidecar;

/// Status and body.
pub fn request(sidecar: &Sidecar, method: &str, path: &str) -> (u16, String) {
    request_with(sidecar, method, path, "")
}

/// The same, with header lines of the caller's.
pub fn request_with(sidecar: &Sidecar, method: &str, path: &str, headers: &str) -> (u16, String) {
    request_at(sidecar.logged_port("admin port").expect("an admin port"), method, path, headers)
}

/// The same, with a body.
pub fn post_with(sidecar: &Sidecar, path: &str, headers: &str, body: &str) -> (u16, String) {
    // What the head ends with stands behind the body, where nobody reads it.
    request_with(sidecar, "POST", path, &format!("{headers}Content-Length: {}\r\n\r\n{body}", body.len()))
}

fn request_at(port: u16, method: &str, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n").expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a response");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// The value of one metric: the sum of all its series that have these labels, as in `name{label="value"}`.
pub fn metric(sidecar: &Sidecar, name: &str) -> f64 {
    metric_at(sidecar.logged_port("admin port").expect("an admin port"), name)
}

/// The same, of the sidecar whose admin port this is.
pub fn metric_at(port: u16, name: &str) -> f64 {
    let (_, body) = request_at(port, "GET", "/metrics", "");
    let (name, labels) = split(name);
    let values = body.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (its_name, its_labels) = split(series);
        let has_all = labels.iter().all(|label| its_labels.contains(label));
        (its_name == name && has_all).then(|| value.parse::<f64>().expect("a number"))
    });
    values.fold(0.0, |sum, value| sum + value)
}

/// The name of a series, and its labels with their values.
fn split(series: &str) -> (&str, Vec<&str>) {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = labels.strip_suffix('}').unwrap_or(labels);
    let labels: Vec<&str> = labels.split("\",").filter(|label| !label.is_empty()).collect();
    (name, labels.into_iter().map(|label| label.trim_end_matches('"')).collect())
}
