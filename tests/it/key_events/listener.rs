//! One who is subscribed to events, and what it has been told.

use crate::support::wire::{Wire, line};

/// A channel and what was published there.
pub(super) type Told = (String, String);

/// One who is subscribed to events, by one pattern.
pub(super) struct Listener {
    pub(super) wire: Wire,
}

impl Listener {
    /// Subscribed to every event of every key.
    pub(super) fn of_all(wire: Wire) -> Self {
        Self::of(wire, "HELLO 2", "PSUBSCRIBE __key*__:*")
    }

    pub(super) fn of(mut wire: Wire, hello: &str, request: &str) -> Self {
        wire.ask(hello);
        wire.send(&line(request));
        for name in request.split(' ').skip(1) {
            let confirmed = wire.text();
            assert!(confirmed.contains("subscribe\r\n") && confirmed.contains(name), "{request}: {confirmed}");
        }
        Self { wire }
    }

    /// The next message.
    pub(super) fn next(&mut self) -> Told {
        told(&self.wire.text())
    }

    /// What comes before this event of this key, on whatever channel; that itself is not part of it.
    pub(super) fn until(&mut self, key: &str, event: &str) -> Vec<Told> {
        let mut all = Vec::new();
        loop {
            let next = self.next();
            if next.0.ends_with(&format!("__:{event}")) && next.1 == key {
                all.retain(|(channel, _): &Told| !channel.ends_with(&format!("__:{key}")));
                return all;
            }
            all.push(next);
        }
    }
}

/// A message of a channel, or of a pattern.
pub(super) fn told(frame: &str) -> Told {
    let words: Vec<&str> = frame.split("\r\n").collect();
    let at = match words.get(2) {
        Some(&"message") => 4,
        Some(&"pmessage") => 6,
        _ => panic!("no message: {frame}"),
    };
    (words[at].to_owned(), words[at + 2].to_owned())
}

/// An event of a key, as it is told on both channels.
pub(super) fn both(key: &str, event: &str) -> [Told; 2] {
    [(format!("__keyspace@0__:{key}"), event.to_owned()), (format!("__keyevent@0__:{event}"), key.to_owned())]
}

/// The same of several.
pub(super) fn all(events: &[(&str, &str)]) -> Vec<Told> {
    events.iter().flat_map(|(key, event)| both(key, event)).collect()
}
