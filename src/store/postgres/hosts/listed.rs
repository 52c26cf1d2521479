//! A URL that names several servers, as libpq reads it, taken apart into URLs of one server each. Nobody is asked.
//! Source: <https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS>

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::wanted::Wanted;
use crate::store::StoreError;

/// What a URL names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// One for each server, in their order.
    pub(super) urls: Vec<String>,
    pub(super) wanted: Wanted,
    /// They are tried in any order.
    pub(super) is_random: bool,
}

/// The parts of a URL that do not say which server it is.
struct Frame<'u> {
    scheme: &'u str,
    /// With its `@`.
    user: &'u str,
    path: &'u str,
    /// Parameters as they stand.
    query: Vec<&'u str>,
}

/// Where servers are.
#[derive(Default)]
struct Places {
    hosts: Vec<String>,
    /// None, one for all of them, or one for each; empty: the usual one.
    ports: Vec<String>,
}

/// Takes a URL apart. One of a single server, of which nothing is wanted, stays as it is.
///
/// # Errors
/// [`StoreError::Refused`]: what libpq has and this has not, and what neither can read.
pub(super) fn read(url: &str) -> Result<Listed, StoreError> {
    let one = || Listed { urls: vec![url.to_owned()], ..Listed::default() };
    let Some((scheme, rest)) = url.split_once("://") else { return Ok(one()) };
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (user, places) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    let mut frame = Frame { scheme, user, path, query: Vec::new() };
    let (mut places, mut listed, mut is_plain) = (of_authority(places), Listed::default(), true);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = percent_decode_str(value).decode_utf8_lossy();
        match name {
            "host" => places.hosts = value.split(',').map(str::to_owned).collect(),
            "port" => places.ports = value.split(',').map(str::to_owned).collect(),
            "target_session_attrs" => {
                listed.wanted = Wanted::read(&value).ok_or_else(|| unknown(name, &value, WANTED))?;
                is_plain = false;
            }
            "load_balance_hosts" => {
                listed.is_random = is_random(&value)?;
                is_plain = false;
            }
            _ => frame.query.push(parameter),
        }
    }
    if places.hosts.len() < 2 && places.ports.len() < 2 && is_plain {
        return Ok(one());
    }
    if places.hosts.len() > 1 && frame.query.iter().any(|parameter| parameter.starts_with("hostaddr=")) {
        return Err(refused("names several hosts and hostaddr, which is not supported: write the addresses as hosts"));
    }
    listed.urls = frame.each(&places)?;
    Ok(listed)
}

const WANTED: &str = "any, read-write, read-only, primary, standby or prefer-standby";

fn refused(why: &str) -> StoreError {
    StoreError::Refused(why.to_owned())
}

fn unknown(name: &str, value: &str, known: &str) -> StoreError {
    StoreError::Refused(format!("{name} is \"{value}\", and can be {known}"))
}

fn is_random(value: &str) -> Result<bool, StoreError> {
    match value {
        "random" => Ok(true),
        "disable" => Ok(false),
        _ => Err(unknown("load_balance_hosts", value, "disable or random")),
    }
}

/// The hosts of `a:5432,[::1]:5433,b`, with their ports.
fn of_authority(text: &str) -> Places {
    let mut places = Places::default();
    for place in text.split(',') {
        let after_address = place.rfind(']').unwrap_or(0);
        let at = place[after_address..].find(':').map_or(place.len(), |at| after_address + at);
        places.hosts.push(percent_decode_str(&place[..at]).decode_utf8_lossy().into_owned());
        places.ports.push(place.get(at + 1..).unwrap_or_default().to_owned());
    }
    places
}

impl Frame<'_> {
    /// A URL for each of the places.
    fn each(&self, places: &Places) -> Result<Vec<String>, StoreError> {
        let (hosts, ports) = (places.hosts.len(), places.ports.len());
        if ports > 1 && ports != hosts {
            return Err(StoreError::Refused(format!("names {hosts} hosts and {ports} ports")));
        }
        if hosts > 1 && places.hosts.iter().any(String::is_empty) {
            return Err(refused(
                "names an empty host among several; write the folder of a local socket as host=/folder",
            ));
        }
        let port = |at: usize| places.ports.get(if ports > 1 { at } else { 0 }).map_or("", String::as_str);
        Ok(places.hosts.iter().enumerate().map(|(at, host)| self.one(host, port(at))).collect())
    }

    fn one(&self, host: &str, port: &str) -> String {
        let host = match host {
            socket if socket.starts_with('/') => utf8_percent_encode(socket, NON_ALPHANUMERIC).to_string(),
            address if address.contains(':') && !address.starts_with('[') => format!("[{address}]"),
            name => name.to_owned(),
        };
        let mut url = format!("{}://{}{host}", self.scheme, self.user);
        if !port.is_empty() {
            url = format!("{url}:{port}");
        }
        url.push_str(self.path);
        if !self.query.is_empty() {
            url = format!("{url}?{}", self.query.join("&"));
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::{Listed, read};
    use crate::store::StoreError;
    use crate::store::postgres::hosts::wanted::Wanted;

    fn urls(url: &str) -> Vec<String> {
        read(url).expect(url).urls
    }

    #[test]
    fn servers_are_named_as_libpq_has_it() {
        let plain = "postgres://me:p%40ss@[::1]:5433/game?sslmode=disable";
        assert_eq!(urls(plain), [plain]);
        let two = read("postgres://me:p%2Css@a:5432,b:5433/game?target_session_attrs=read-write&sslmode=require");
        let each =
            ["postgres://me:p%2Css@a:5432/game?sslmode=require", "postgres://me:p%2Css@b:5433/game?sslmode=require"];
        let urls_of_two = each.map(str::to_owned).to_vec();
        assert_eq!(two, Ok(Listed { urls: urls_of_two, wanted: Wanted::ReadWrite, is_random: false }));
        assert_eq!(
            urls("postgres://a,[::1]:7,b/game"),
            ["postgres://a/game", "postgres://[::1]:7/game", "postgres://b/game"]
        );
        assert_eq!(urls("postgres:///game?host=a,b&port=1,2"), ["postgres://a:1/game", "postgres://b:2/game"]);
        assert_eq!(urls("postgres://x/game?host=a,::1&port=7"), ["postgres://a:7/game", "postgres://[::1]:7/game"]);
        assert_eq!(
            urls("postgres://me@/game?host=/run/pg,b"),
            ["postgres://me@%2Frun%2Fpg/game", "postgres://me@b/game"]
        );
        assert_eq!(urls("postgres://a:7/game?target_session_attrs=primary"), ["postgres://a:7/game"]);
        assert!(read("postgres://a,b/game?load_balance_hosts=random").expect("read").is_random);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_a_reason() {
        for (url, why) in [
            ("postgres://a,b/x?target_session_attrs=master", "can be any, read-write, read-only, primary, standby"),
            ("postgres://a,b/x?load_balance_hosts=always", "can be disable or random"),
            ("postgres://a,b/x?hostaddr=1.2.3.4,1.2.3.5", "hostaddr, which is not supported"),
            ("postgres://a,,b/x", "names an empty host"),
            ("postgres:///x?host=a,b,c&port=1,2", "names 3 hosts and 2 ports"),
        ] {
            let told = read(url);
            assert!(matches!(&told, Err(StoreError::Refused(text)) if text.contains(why)), "{url}: {told:?}");
        }
    }
}
