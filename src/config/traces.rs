//! `[traces]`: where the spans of commands go, and of which commands.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Faults;

/// Where they go, and of which commands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TracesConfig {
    /// A collector that speaks OTLP over HTTP (`http://host:4318`); empty: there are no traces.
    pub endpoint: String,
    /// The part of all commands that is traced: 0.001 is one of a thousand.
    pub sample: f64,
    /// A command that takes so long is traced in any case; 0: none is.
    #[serde(with = "humantime_serde")]
    pub slower_than: Duration,
    /// The name under which spans are shown (`service.name`).
    pub service: String,
    /// Authorities of the collector's certificate, for `https://`; empty: the system's.
    pub ca_file: String,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            sample: 0.001,
            slower_than: Duration::from_millis(100),
            service: "hearthside".into(),
            ca_file: String::new(),
        }
    }
}

impl TracesConfig {
    /// There is a collector.
    #[must_use]
    pub const fn are_on(&self) -> bool {
        !self.endpoint.is_empty()
    }

    /// They go to an address.
    #[must_use]
    pub fn have_address(&self) -> bool {
        self.are_on() && is_address(&self.endpoint).is_ok()
    }

    /// Where requests go: what OTLP says is behind a collector's address, or the path that is given.
    #[must_use]
    pub fn url(&self) -> String {
        match split(&self.endpoint) {
            Some((_, _, "" | "/")) => format!("{}/v1/traces", self.endpoint.trim_end_matches('/')),
            _ => self.endpoint.clone(),
        }
    }

    /// What is sent passes a network, and can be read there.
    #[must_use]
    pub fn are_in_clear(&self) -> bool {
        let Some(("http", authority, _)) = split(&self.endpoint) else { return false };
        let here = ["localhost", "127.", "[::1]"];
        !here.iter().any(|host| authority.starts_with(host))
    }

    pub(super) fn check(&self, faults: &mut Faults) {
        if self.are_on()
            && let Err(text) = is_address(&self.endpoint)
        {
            faults.add("traces.endpoint", text);
        }
        if !(0.0..=1.0).contains(&self.sample) {
            faults.add("traces.sample", "must be between 0 (no command) and 1 (every command)");
        }
        if self.service.trim().is_empty() {
            faults.add("traces.service", "must not be empty: spans are found by it");
        }
    }
}

/// Scheme, authority and path.
fn split(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    Some((scheme, authority, path))
}

fn is_address(url: &str) -> Result<(), String> {
    let Some((scheme @ ("http" | "https"), authority, path)) = split(url) else {
        return Err("must begin with http:// or https://, as in http://collector:4318".into());
    };
    if authority.contains('@') {
        return Err("must not hold a password: give the collector's token in OTEL_EXPORTER_OTLP_HEADERS".into());
    }
    let (host, port) = match authority.rsplit_once(':').filter(|_| !authority.ends_with(']')) {
        Some((host, port)) => (host, port),
        None => (authority, "0"),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let is_path = |c: char| c.is_ascii_graphic() && !"?#\"<>\\^`{|}".contains(c);
    match () {
        () if host.is_empty() || !host.chars().all(is_name) => Err(format!("has no host behind {scheme}://")),
        () if port.parse::<u16>().is_err() => Err(format!("'{port}' is no port")),
        () if !path.chars().all(is_path) => Err("must end with the path, without '?' or '#'".into()),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::TracesConfig;
    use crate::config::Faults;

    fn of(endpoint: &str) -> TracesConfig {
        TracesConfig { endpoint: endpoint.into(), ..TracesConfig::default() }
    }

    #[test]
    fn an_endpoint_is_an_address_of_http() {
        for good in ["", "http://c:4318", "https://c", "http://[::1]:4318/", "http://10.0.0.1/otlp/v1/traces"] {
            let mut faults = Faults::default();
            of(good).check(&mut faults);
            assert!(faults.is_empty(), "{good}: {faults}");
        }
        for bad in ["c:4318", "grpc://c:4317", "http://", "http://:4318", "http://u:p@c", "http://c:x", "http://c/?a"] {
            let mut faults = Faults::default();
            of(bad).check(&mut faults);
            assert!(!faults.is_empty(), "{bad}");
        }
    }

    #[test]
    fn what_leaves_the_machine_over_http_is_in_clear() {
        for endpoint in ["http://c:4318", "http://10.0.0.1/otlp"] {
            assert!(of(endpoint).are_in_clear(), "{endpoint}");
        }
        for endpoint in ["", "https://c", "http://localhost:4318", "http://127.0.0.1:4318", "http://[::1]:4318"] {
            assert!(!of(endpoint).are_in_clear(), "{endpoint}");
        }
    }

    #[test]
    fn a_collector_takes_traces_where_otlp_says() {
        for (endpoint, url) in [
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("http://c/api/otlp/v1/traces", "http://c/api/otlp/v1/traces"),
        ] {
            assert_eq!(of(endpoint).url(), url);
        }
    }
}
