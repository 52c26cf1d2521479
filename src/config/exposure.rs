//! Finds the addresses that strangers may reach without authentication.

use std::net::IpAddr;

use super::{AuthMode, Settings, addresses};

/// The addresses of `server.listen` that a stranger may reach without authentication. The admin port protects itself.
pub(super) fn open_to_all(settings: &Settings) -> Vec<&str> {
    if settings.security.allow_no_auth {
        return Vec::new();
    }
    // A client that must show a certificate is known, too.
    let shows = |address: &&String| address.starts_with("rediss://") && !settings.tls.client_ca_file.is_empty();
    let clients = settings.server.listen.iter().filter(|_| settings.auth.mode == AuthMode::None);
    let clients = clients.filter(|address| !shows(address));
    let open = clients.filter(|address| addresses::is_sound(address) && is_beyond_loopback(address));
    open.map(String::as_str).collect()
}

fn is_beyond_loopback(address: &str) -> bool {
    let address = address.strip_prefix("rediss://").unwrap_or(address);
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    !address.is_empty() && !address.starts_with("unix://") && !is_loopback(host)
}

/// True for a name or IP address (IPv6 in brackets or without) that only this machine can reach.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_beyond_loopback;

    #[test]
    fn an_address_is_beyond_loopback_or_not() {
        for local in [
            "127.0.0.1:1",
            "rediss://127.0.0.1:1",
            "127.8.0.1:1",
            "[::1]:1",
            "localhost:1",
            "unix:///run/0.0.0.0:1",
            "",
        ] {
            assert!(!is_beyond_loopback(local), "{local}");
        }
        for open in ["0.0.0.0:1", "rediss://0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.com:1", ":1"] {
            assert!(is_beyond_loopback(open), "{open}");
        }
    }
}
