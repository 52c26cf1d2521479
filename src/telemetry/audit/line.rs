//! One line of the audit log: what it says, and how keys stand in it. No value of a key is ever given to it.

use std::time::SystemTime;

use hmac::{Hmac, KeyInit as _, Mac as _};
use humantime_serde::re::humantime::format_rfc3339_millis;
use serde::Serialize;
use sha2::Sha256;

use crate::config::{AuditConfig, AuditKeys};

/// At most so many bytes of a name stand in a line.
const LONGEST: usize = 512;
/// At most so many names stand in a line, and so many keys of one command have lines.
pub const MOST: usize = 64;

/// Who did it.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "they are the names in the file")]
pub struct Origin {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct AuditLine<'a> {
    /// `write`, `admin`, `put_aside` or `lost`.
    pub event: &'static str,
    /// By whom; nobody for what the sidecar does itself.
    pub client: Option<&'a Origin>,
    /// The mapping's pattern.
    pub mapping: &'a str,
    /// The key, or the glob of keys.
    pub key: Option<&'a [u8]>,
    /// The command, or what was asked of the admin port.
    pub command: &'a str,
    /// The names of fields, or what the command is about.
    pub names: &'a [String],
    /// `ok`, `error`, `sent` or `unknown`; nothing where the event says all.
    pub outcome: &'static str,
    /// The error.
    pub error: &'a str,
    /// How many keys of the command have no line.
    pub more: Option<u64>,
    /// How many lines are missing.
    pub lines: Option<u64>,
}

#[derive(Serialize)]
struct Shown<'a> {
    time: String,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a Origin>,
    #[serde(skip_serializing_if = "str::is_empty")]
    mapping: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hash: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    command: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    fields: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    about: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    outcome: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<u64>,
}

/// How keys stand in lines: as they are, or hashed.
#[derive(Debug, Default)]
pub(super) struct Keys(Option<Vec<u8>>);

impl Keys {
    pub(super) fn of(settings: &AuditConfig) -> Self {
        Self((settings.keys == AuditKeys::Hashed).then(|| settings.secret.clone().into_bytes()))
    }

    fn hashed(&self, key: &[u8]) -> Option<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_ref()?).ok()?;
        mac.update(key);
        Some(mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// An error's text may name the key: where keys are hashed its code must do, which begins what clients are told and
    /// ends what the store says.
    fn of_error<'e>(&self, error: &'e str) -> &'e str {
        let is_code = |word: &&str| word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        let code = || error.split(' ').next().filter(is_code).or_else(|| error.rsplit(['(', ')']).nth(1));
        if self.0.is_some() { code().unwrap_or_default() } else { error }
    }
}

/// A name as it stands in lines.
pub(super) fn shown(name: &[u8]) -> String {
    crate::telemetry::shown(name, LONGEST)
}

/// The same of several names, and no more than there is room for.
pub fn shown_all<'n>(names: impl Iterator<Item = &'n [u8]>) -> Vec<String> {
    let mut shown: Vec<String> = names.take(MOST + 1).map(shown).collect();
    if shown.len() > MOST {
        shown[MOST] = "...".to_owned();
    }
    shown
}

impl<'a> AuditLine<'a> {
    /// So many lines are missing before this one.
    pub(super) fn lost(lines: u64) -> Self {
        Self { event: "lost", lines: Some(lines), ..Self::default() }
    }

    /// What the sidecar did, or was told to by a signal, and how that went.
    pub fn of_the_sidecar(command: &'a str, went: &'a Result<(), impl AsRef<str>>) -> Self {
        let (outcome, error) = match went {
            Ok(()) => ("ok", ""),
            Err(error) => ("error", error.as_ref()),
        };
        Self { event: "admin", command, outcome, error, ..Self::default() }
    }

    /// What the store does not take of a deferred write that was acknowledged.
    pub fn put_aside(mapping: &'a str, key: &'a [u8], names: &'a [String], error: &'a str) -> Self {
        Self { event: "put_aside", mapping, key: Some(key), names, error, ..Self::default() }
    }

    /// The line, without its end.
    pub(super) fn text(&self, keys: &Keys) -> String {
        let is_write = self.event != "admin";
        let is_plain = keys.0.is_none();
        let (fields, about) = if is_write { (self.names, &[][..]) } else { (&[][..], self.names) };
        let shown = Shown {
            time: format_rfc3339_millis(SystemTime::now()).to_string(),
            event: self.event,
            client: self.client,
            mapping: self.mapping,
            key: self.key.filter(|_| is_plain).map(shown),
            key_hash: self.key.and_then(|key| keys.hashed(key)),
            command: self.command,
            fields,
            about,
            outcome: self.outcome,
            error: keys.of_error(self.error),
            more: self.more,
            lines: self.lines,
        };
        serde_json::to_string(&shown).unwrap_or_default()
    }
}
