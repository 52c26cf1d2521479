//! Checks the addresses that this process listens on: each is well-formed, and none appears twice.

use super::{Faults, Settings};

/// Where an address leads to.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Path(&'a str),
    Port(&'a str, u16),
}

pub(super) fn check(settings: &Settings, faults: &mut Faults) {
    let listen = &settings.server.listen;
    if listen.is_empty() {
        faults.add("server.listen", "must name at least one address");
    }
    let admin = Some(("admin.listen".to_owned(), &settings.admin.listen)).filter(|(_, address)| !address.is_empty());
    let clients = listen.iter().enumerate().map(|(i, address)| (format!("server.listen[{i}]"), address));
    let mut before: Vec<(String, &String, Place<'_>)> = Vec::new();
    for (path, address) in clients.chain(admin) {
        let read = if path == "admin.listen" { host_and_port(address, address) } else { place(address) };
        match read {
            Err(text) => faults.add(path, text),
            Ok(place) => {
                if let Some((other, taken, _)) = before.iter().find(|(.., taken)| taken.clashes(&place)) {
                    let what = if matches!(place, Place::Path(_)) { "the same" } else { "the same port" };
                    faults.add(&path, format!("'{address}' is {what} as '{taken}' of {other}; give it another one"));
                }
                before.push((path, address, place));
            }
        }
    }
    if !settings.admin.hosts.iter().all(|name| !name.is_empty() && !name.contains([':', '/', '*'])) {
        faults.add("admin.hosts", "are names as in \"sidecar.internal\": without scheme, port or wildcard");
    }
    let mode = &settings.server.unix_mode;
    if !mode.is_empty() && !u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o777) {
        faults.add("server.unix_mode", "is an octal mode such as \"770\"");
    }
}

/// True when it can be read.
pub(super) fn is_sound(address: &str) -> bool {
    place(address).is_ok()
}

fn place(address: &str) -> Result<Place<'_>, String> {
    match address.strip_prefix("unix://") {
        Some("") => Err(format!("'{address}' has no path; write unix:///path/to/socket")),
        Some(path) => Ok(Place::Path(path)),
        None => host_and_port(address, address.strip_prefix("rediss://").unwrap_or(address)),
    }
}

/// `host:port`, of the address that is `written` so.
fn host_and_port<'a>(written: &str, address: &'a str) -> Result<Place<'a>, String> {
    if address.contains('/') {
        return Err(format!(
            "'{written}' is no address to listen on; write host:port, rediss://host:port or unix:///path/to/socket"
        ));
    }
    let Some((host, port)) = address.rsplit_once(':').filter(|_| !address.ends_with(']')) else {
        if !address.is_empty() && address.chars().all(|c| c.is_ascii_digit()) {
            return Err(format!("'{written}' has no host; write host:port, for example 127.0.0.1:{written}"));
        }
        return Err(format!("'{written}' has no port; write host:port, for example {written}:6380"));
    };
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(format!("'{written}': write an IPv6 address in brackets, for example [::1]:{port}"));
    }
    if host.is_empty() {
        return Err(format!("'{written}' has no host; write host:port, 127.0.0.1:{port} or, for all, 0.0.0.0:{port}"));
    }
    match port.parse() {
        Ok(port) => Ok(Place::Port(host, port)),
        Err(_) => Err(format!("'{written}': {port} is no port; write a number up to 65535")),
    }
}

impl Place<'_> {
    /// True when both cannot be bound at the same time. Port 0 is a different port each time.
    fn clashes(&self, other: &Self) -> bool {
        let is_any = |host: &str| matches!(host, "0.0.0.0" | "[::]");
        match (self, other) {
            (Self::Path(one), Self::Path(other)) => one == other,
            (Self::Port(_, 0), _) | (_, Self::Port(_, 0)) => false,
            (Self::Port(host, port), Self::Port(other, same)) => {
                port == same && (host == other || is_any(host) || is_any(other))
            }
            _ => false,
        }
    }
}
