//! What is known of a request before its answer: it becomes a line for each of its keys when the answer is there. One
//! that is dropped before says so: what became of its write nobody knows here.

use std::sync::Arc;

use super::line::{shown, shown_all};
use super::{Audit, AuditLine, Origin};
use crate::errors::store_words::without_words;

/// One request on its way.
#[derive(Debug)]
pub struct AuditNote {
    audit: Arc<Audit>,
    event: &'static str,
    client: Origin,
    /// Each with its mapping's pattern.
    keys: Vec<(String, Vec<u8>)>,
    command: String,
    names: Vec<String>,
    /// So many keys more than have lines.
    more: u64,
    /// It is refused because of who asks.
    is_refusal: bool,
    has_ended: bool,
}

impl AuditNote {
    /// A write of `keys`, each with its mapping's pattern.
    #[must_use]
    pub fn of_write(audit: &Arc<Audit>, client: Origin, command: String, keys: Vec<(String, Vec<u8>)>) -> Self {
        let command = shown(command.as_bytes());
        let (audit, names) = (audit.clone(), Vec::new());
        Self { audit, event: "write", client, keys, command, names, more: 0, is_refusal: false, has_ended: false }
    }

    /// An act of administration.
    #[must_use]
    pub fn of_admin(audit: &Arc<Audit>, client: Origin, command: String) -> Self {
        let mut note = Self::of_write(audit, client, command, Vec::new());
        note.event = "admin";
        note
    }

    /// With the names of fields, or what it is about.
    #[must_use]
    pub fn naming<'n>(mut self, names: impl Iterator<Item = &'n [u8]>) -> Self {
        self.names = shown_all(names);
        self
    }

    /// About a key, or a glob of keys, of no certain mapping.
    #[must_use]
    pub fn about_key(mut self, key: &[u8]) -> Self {
        self.keys.push((String::new(), key.to_vec()));
        self
    }

    /// The last line says that there are so many keys more.
    #[must_use]
    pub const fn and_more(mut self, more: u64) -> Self {
        self.more = more;
        self
    }

    /// Of a request that is refused because of who asks: only so many of these in a second have lines.
    #[must_use]
    pub const fn refused(mut self) -> Self {
        self.is_refusal = true;
        self
    }

    /// The reply is there: its first line tells whether it is an error.
    pub fn answered(self, reply: &[u8]) {
        match reply.strip_prefix(b"-") {
            None => self.ended("ok", ""),
            Some(error) => {
                let line = error.split(|byte| *byte == b'\r').next().unwrap_or_default();
                self.ended("error", &String::from_utf8_lossy(line));
            }
        }
    }

    /// It was refused, or failed.
    pub fn failed(self, error: &str) {
        self.ended("error", error);
    }

    /// It was sent to the upstream, whose answer is the client's.
    pub fn sent(self) {
        self.ended("sent", "");
    }

    fn ended(mut self, outcome: &'static str, error: &str) {
        self.has_ended = true;
        self.add(outcome, &shown(without_words(error).as_bytes()));
    }

    fn add(&self, outcome: &'static str, error: &str) {
        let line = AuditLine {
            event: self.event,
            client: Some(&self.client),
            command: &self.command,
            names: &self.names,
            outcome,
            error,
            ..AuditLine::default()
        };
        if self.is_refusal && !self.audit.has_room_for_refusal() {
            return;
        }
        if self.keys.is_empty() {
            self.audit.add(&line);
        }
        for (at, (mapping, key)) in self.keys.iter().enumerate() {
            let more = (self.more > 0 && at + 1 == self.keys.len()).then_some(self.more);
            self.audit.add(&AuditLine { mapping, key: Some(key), more, ..line.clone() });
        }
    }
}

impl Drop for AuditNote {
    fn drop(&mut self) {
        if !self.has_ended {
            self.add("unknown", "");
        }
    }
}
