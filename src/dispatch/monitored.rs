//! What is said of requests while somebody looks on, and only then: the lines of the debug log, and what monitors are
//! shown (MONITOR). The upstream shows what is passed on to it, and here are the lines of what never reaches it. Behind
//! a cluster, where no node sees everything, they are the lines of all that clients ask.
//!
//! Source: `replicationFeedMonitors`, `call` and `redactClientCommandArgument` of Redis.

use bytes::{BufMut, BytesMut};

use super::Services;
use crate::command::{Request, Spec};
use crate::config::AuthMode;
use crate::route::{Local, Pin, Route, Transaction};
use crate::session::Session;
use crate::telemetry::clock::unix_micros;
use crate::upstream::To;

/// What stands where a secret stood.
const REDACTED: &[u8] = b"(redacted)";

impl Services {
    /// Whether somebody looks on: asked once for many requests.
    #[inline]
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.clients.monitors.is_any() || tracing::enabled!(tracing::Level::DEBUG)
    }

    /// Logs a request that goes `route`, and shows it to the monitors, if no other line will show it.
    #[cold]
    pub fn show_routed(&self, session: &Session, request: &Request<'_>, route: &Route) {
        let route = if let Route::Fallback(route) = route { route } else { route };
        self.log_routed(session, request, route);
        if !self.clients.monitors.is_any() {
            return;
        }
        let is_ours = match route {
            // Of these the upstream's part has the same words.
            Route::Local(Local::Info | Local::Keys, _) => false,
            Route::Local(Local::WhoAmI, _) => self.access.mode == AuthMode::Users,
            // Redis ends the monitoring first.
            Route::Local(Local::Reset, _) => !session.way.state().monitor,
            // What begins a transaction, or is in one, is shown when that has ended.
            Route::Transaction(Transaction::Exec | Transaction::Discard | Transaction::Unwatch, _)
            | Route::Local(..)
            | Route::Hearthside
            | Route::Definition(..)
            | Route::Cached(..)
            | Route::Near(Some(_))
            | Route::NotAnswered(_)
            | Route::Split(_) => true,
            Route::Pinned(Pin::Subscribe(_) | Pin::Unsubscribe(_), _) => self.has_hub(session),
            _ => false,
        };
        // No monitor of the primary sees what a replica is asked.
        let is_elsewhere = matches!(session.to, To::Reader(_)) && matches!(route, Route::PassThrough(_));
        if is_ours || is_elsewhere || self.upstream.is_cluster() && runs_now(route) {
            self.show(session, request);
        }
    }

    /// Logs, at the level of debugging, what is asked of owned keys; never what they hold.
    #[cold]
    pub fn log_routed(&self, session: &Session, request: &Request<'_>, route: &Route) {
        let client = session.peer.id;
        if let Route::Split(keys) = route {
            let command = &*keys.spec.name;
            tracing::debug!(client, command, keys = keys.keys.len(), "several keys are asked for, some of them owned");
        }
        let Some(key) = route.owned_key() else { return };
        tracing::debug!(
            client,
            command = key.spec.name,
            mapping = self.router.pattern(key.mapping),
            key = %String::from_utf8_lossy(request.arg(key.at)),
            "an owned key is asked for"
        );
    }

    /// Shows a request to the monitors, unless Redis would not: administrative commands, and what is no command.
    #[cold]
    pub fn show(&self, session: &Session, request: &Request<'_>) {
        let Some(spec) = self.upstream.lookup(request.arg(0), request.arg(1)) else { return };
        if self.clients.monitors.is_any() && spec.accepts(request.len()) && !spec.categories.contains(&"admin") {
            self.clients.monitors.show(&line(session, request, spec).freeze());
        }
    }

    /// Shows a command without arguments.
    #[cold]
    pub fn show_word(&self, session: &Session, word: &str) {
        let raw = word.as_bytes();
        self.show(session, &Request::new(raw, std::slice::from_ref(&(0..raw.len()))));
    }
}

/// It does not end here, nor waits for what comes.
const fn runs_now(route: &Route) -> bool {
    !matches!(route, Route::Transaction(..) | Route::Refused(_) | Route::Attack | Route::Unproven | Route::Held(_))
}

/// `+1700000000.123456 [0 127.0.0.1:6000] "HGET" "a" "b"`.
fn line(session: &Session, request: &Request<'_>, spec: &Spec) -> BytesMut {
    let (now, address) = (unix_micros(), &session.peer.addresses.0);
    let kind = if address.starts_with('/') { "unix:" } else { "" };
    let address = address.strip_suffix(":0").filter(|_| !kind.is_empty()).unwrap_or(address);
    let head = format!("+{}.{:06} [{} {kind}{address}]", now / 1_000_000, now % 1_000_000, session.group.db);
    let mut line = BytesMut::from(head.as_bytes());
    let secrets = secrets(request, spec);
    for (at, word) in request.args_from(0).enumerate() {
        line.put_u8(b' ');
        quote(&mut line, if secrets.contains(&at) { REDACTED } else { word });
    }
    line.put_slice(b"\r\n");
    line
}

/// Where names and passwords stand.
fn secrets(request: &Request<'_>, spec: &Spec) -> Vec<usize> {
    let original = spec.learned().and_then(|learned| learned.original).unwrap_or(spec);
    match &*original.name {
        "auth" => (1..request.len()).collect(),
        "hello" => logins(request),
        "migrate" => {
            let keys = (6..request.len()).find(|at| request.is(*at, "KEYS")).unwrap_or(request.len());
            let behind = |word: &str, words: usize| {
                let at = (6..keys).find(|at| request.is(*at, word));
                at.map(|at| at + 1..at + 1 + words).into_iter().flatten().collect::<Vec<_>>()
            };
            [behind("AUTH", 1), behind("AUTH2", 2)].concat()
        }
        _ => Vec::new(),
    }
}

/// The same of HELLO: its options are SETNAME with one word, and AUTH with two. Source: `helloCommand`.
fn logins(request: &Request<'_>) -> Vec<usize> {
    let (mut at, mut found) = (2, Vec::new());
    while at < request.len() {
        if request.is(at, "AUTH") {
            found.extend([at + 1, at + 2]);
            at += 2;
        } else if request.is(at, "SETNAME") {
            at += 1;
        }
        at += 1;
    }
    found
}

/// A word as Redis quotes it. Source: `sdscatrepr`.
fn quote(line: &mut BytesMut, word: &[u8]) {
    line.reserve(word.len() + 2);
    line.put_u8(b'"');
    for byte in word {
        match byte {
            b'\\' | b'"' => line.put_slice(&[b'\\', *byte]),
            b'\n' => line.put_slice(b"\\n"),
            b'\r' => line.put_slice(b"\\r"),
            b'\t' => line.put_slice(b"\\t"),
            7 => line.put_slice(b"\\a"),
            8 => line.put_slice(b"\\b"),
            b' '..=b'~' => line.put_u8(*byte),
            other => line.put_slice(format!("\\x{other:02x}").as_bytes()),
        }
    }
    line.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{quote, secrets};
    use crate::command::{OwnedRequest, lookup};

    #[test]
    fn secrets_are_found_where_redis_finds_them() {
        for (text, expected) in [
            ("AUTH pw", &[1][..]),
            ("auth joe pw", &[1, 2]),
            ("HELLO 3 AUTH joe pw SETNAME AUTH", &[3, 4]),
            ("HELLO 3 SETNAME joe auth joe pw", &[5, 6]),
            ("HELLO 3 SETNAME joe", &[]),
            ("HELLO 3 SETNAME AUTH AUTH joe pw", &[5, 6]),
            ("HELLO 3 AUTH joe pw AUTH joe pw", &[3, 4, 6, 7]),
            ("MIGRATE h 1 k 0 10 AUTH pw", &[7]),
            ("MIGRATE h 1  0 10 COPY AUTH2 joe pw KEYS AUTH AUTH", &[8, 9]),
            ("SET AUTH pw", &[]),
        ] {
            let request = OwnedRequest::from_words(&text.split(' ').map(|word| word.into()).collect::<Vec<_>>());
            let view = request.view();
            let spec = lookup(view.arg(0), b"").expect("a command");
            assert_eq!(secrets(&view, spec), expected, "{text}");
        }
    }

    #[test]
    fn words_are_quoted_as_redis_quotes_them() {
        let mut line = BytesMut::new();
        quote(&mut line, b"a\r\n\t\x07\x08\x00\xff\"\\ \x7f~\xc3\xa9");
        assert_eq!(&line[..], br#""a\r\n\t\a\b\x00\xff\"\\ \x7f~\xc3\xa9""#);
    }
}
