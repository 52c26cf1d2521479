//! One row of the command table: what is known of a command, and who said it.

use super::{KeySpec, Policy, Request};
use crate::errors;
use crate::telemetry::metrics::CommandFamily;

/// What the sidecar needs to know of a command's flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Changes data: never sent twice.
    pub write: bool,
    /// Only reads: may be sent again when a connection dies.
    pub readonly: bool,
    /// May wait for other clients.
    pub blocking: bool,
    /// May be sent by a client that has not logged in.
    pub no_auth: bool,
    /// Is an error inside a transaction, whose EXEC fails then.
    pub no_multi: bool,
}

/// Who says what stands in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `commands.tsv` alone.
    BuiltIn,
    /// `commands.tsv`, and the upstream more than that.
    Completed,
    /// The upstream alone.
    Learned(Learned),
}

/// What follows from the upstream's word on a command that `commands.tsv` does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// What it may do to the connection that carries it.
    pub conduct: Conduct,
    /// The row of the command that has this name at the upstream only (`rename-command`).
    pub original: Option<&'static Spec>,
}

/// What a command may do to the connection that carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// It leaves nothing there. It waits for other clients only if its flags say so.
    Clean,
    /// It may wait, and may leave something there.
    Unclear,
    /// It sets or uses what the upstream keeps for the connection.
    Stateful,
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The number of the name, for tables beside this one: rows of one name have one number.
    pub id: usize,
    /// Lower-case name; `container|subcommand` for a subcommand.
    pub name: String,
    /// Number of arguments with the name; negative: at least so many.
    pub arity: i32,
    /// Flags as `COMMAND` gives them.
    pub flags: Flags,
    /// How a cluster serves it.
    pub policy: Policy,
    /// ACL categories, without `@`.
    pub categories: Vec<&'static str>,
    /// What kind of command they make it.
    pub family: CommandFamily,
    /// Where the keys stand.
    pub keys: Vec<KeySpec>,
    /// It may touch keys that no specification finds (SORT's BY and GET).
    pub has_hidden_keys: bool,
    /// The first server that knows it.
    pub since: &'static str,
    /// Where its only key stands, for the commands that have one in a fixed place, as most have.
    pub only_key: Option<usize>,
    /// Where the first of its keys stands, and how far apart they are, for the commands all of whose further arguments
    /// are keys, or begin with one.
    pub(super) row: Option<(usize, usize)>,
    /// It has subcommands: a first argument that names none of them is one that the table does not know.
    pub is_container: bool,
    /// Who says this.
    pub source: Source,
    /// Its key specifications as `commands.tsv` writes them.
    pub(super) key_column: &'static str,
    /// Its name alone tells it: it is no subcommand and has none.
    pub(super) is_plain: bool,
    /// Its name as most clients send it.
    pub(super) upper: String,
    /// Its name in upper and in lower case as [`Request::word`] reads it, if it is that short.
    pub(super) words: Option<[u64; 2]>,
}

impl Spec {
    /// A row of which only the name and the keys are known.
    pub(super) fn new(id: usize, name: String, keys: Vec<KeySpec>) -> Self {
        let upper = name.to_ascii_uppercase();
        Self {
            id,
            arity: -1,
            flags: Flags::default(),
            policy: Policy::default(),
            categories: Vec::new(),
            family: CommandFamily::Other,
            has_hidden_keys: false,
            since: "",
            only_key: if let [only] = &keys[..] { only.fixed() } else { None },
            row: if let [only] = &keys[..] { only.row() } else { None },
            is_container: false,
            source: Source::BuiltIn,
            key_column: "",
            is_plain: !keys.is_empty() && !name.contains('|'),
            words: word(&upper).zip(word(&name)).map(|(upper, lower)| [upper, lower]),
            upper,
            name,
            keys,
        }
    }

    /// Where the only key of a request of so many arguments stands, if it has one and its place follows from that.
    #[must_use]
    #[inline]
    pub fn key_of(&self, arguments: usize) -> Option<usize> {
        match (self.only_key, self.row) {
            (Some(at), _) => (at < arguments).then_some(at),
            (None, Some((at, step))) => (at + step == arguments).then_some(at),
            (None, None) => None,
        }
    }

    /// True when `request` is this command and no subcommand could make it another.
    #[must_use]
    #[inline]
    pub fn is_again(&self, request: &Request<'_>) -> bool {
        let name = request.arg(0);
        if !self.is_plain || name.len() != self.name.len() {
            return false;
        }
        match (self.words, request.word(0)) {
            (Some([upper, lower]), Some(word)) if word == upper || word == lower => true,
            _ => name == self.upper.as_bytes() || name.eq_ignore_ascii_case(self.name.as_bytes()),
        }
    }

    /// True when `argc` arguments (with the name, and a subcommand's container) are accepted.
    #[must_use]
    pub const fn accepts(&self, argc: usize) -> bool {
        let arity = self.arity as i64;
        if arity >= 0 { argc as i64 == arity } else { argc as i64 >= -arity }
    }

    /// True when the keys of `request` all stand before argument `end`, whatever the arguments from there on are.
    #[must_use]
    pub fn knows_keys_before(&self, request: &Request<'_>, end: usize) -> bool {
        let mut before = !self.has_hidden_keys && self.keys.iter().all(|keys| keys.is_fixed_before(end));
        request.each_key(self, |at| before &= at < end);
        before && (end > 1 || !self.is_container)
    }

    /// What only the upstream says of it, if `commands.tsv` does not have it.
    #[must_use]
    pub const fn learned(&self) -> Option<Learned> {
        if let Source::Learned(learned) = self.source { Some(learned) } else { None }
    }

    /// True when it leaves nothing at its connection that the sidecar does not know of, and waits only if its flags
    /// say so.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.learned().is_none_or(|learned| learned.conduct == Conduct::Clean)
    }

    /// Redis's words for a number of arguments that is not accepted.
    #[must_use]
    pub fn arity_error(&self) -> String {
        errors::as_redis::wrong_arity(&self.name)
    }
}

/// A short name as [`Request::word`] reads it.
fn word(name: &str) -> Option<u64> {
    let mut bytes = [0; 8];
    bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    Some(u64::from_le_bytes(bytes))
}
