//! What the table takes from a server's description of a command: a row for one that `commands.tsv` does not have, and
//! what a row of it lacks. Nothing that stands in `commands.tsv` is taken back.
//!
//! A row lives as long as the process, so that routing borrows it and counts nothing. Rows are kept by their contents:
//! a server that is met again, or another of its version, brings no new ones. Their number is bounded all the same.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::KeySpec;
use super::described::Described;
use super::spec::{Conduct, Flags, Learned, Source, Spec};
use super::table::{Table, all, rows};
use crate::telemetry::metrics::CommandFamily;

/// Most rows that all servers together may bring.
const MOST_ROWS: usize = 16_384;

/// What a server's description has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Commands that were not in the table.
    pub new: Vec<&'static str>,
    /// Rows of the table that lacked something.
    pub completed: Vec<&'static str>,
    /// Commands that found no room.
    pub left_out: usize,
}

/// No more rows are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The row that `command`, one of `commands`, adds to `commands.tsv`, or that replaces one of it; `None` if that says
/// everything already.
pub(super) fn row(command: &Described, commands: &[Described]) -> Result<Option<&'static Spec>, Full> {
    let built_in = |name: &str| Table::built_in().row(name);
    if command.name.split('|').next() == Some("hearthside") {
        return Ok(None);
    }
    if let Some(known) = built_in(&command.name) {
        return completed(known, command).map(keep).transpose();
    }
    let conduct = conduct(command, commands);
    let spec = match command.original.as_deref().and_then(built_in) {
        Some(original) => renamed(original, command, conduct),
        None => new(command, conduct),
    };
    keep(spec).map(Some)
}

/// The row of `commands.tsv` with what the server adds to it.
fn completed(known: &'static Spec, command: &Described) -> Option<Spec> {
    let (flags, lacking) = (flags(known, command), lacking(known, command));
    let is_container = known.is_container || command.is_container;
    let lacks = !lacking.is_empty() || flags != known.flags || is_container != known.is_container;
    lacks.then(|| Spec { is_container, source: Source::Completed, ..with(known, known.name.clone(), flags, lacking) })
}

/// A command of `commands.tsv` that has another name at this server.
fn renamed(original: &'static Spec, command: &Described, conduct: Conduct) -> Spec {
    let lacking = lacking(original, command);
    Spec {
        id: 0,
        source: Source::Learned(Learned { conduct, original: Some(original) }),
        ..with(original, command.name.clone(), flags(original, command), lacking)
    }
}

/// What stands in `known`, under this name, with these flags and with more keys.
fn with(known: &'static Spec, name: String, flags: Flags, more: Vec<KeySpec>) -> Spec {
    Spec {
        arity: known.arity,
        flags,
        policy: known.policy,
        categories: known.categories.clone(),
        family: known.family,
        has_hidden_keys: known.has_hidden_keys,
        since: known.since,
        is_container: known.is_container,
        ..Spec::new(known.id, name, known.keys.iter().cloned().chain(more).collect())
    }
}

fn flags(known: &Spec, command: &Described) -> Flags {
    Flags {
        write: known.flags.write || command.has("write"),
        readonly: known.flags.readonly && !command.has("write"),
        blocking: known.flags.blocking || command.has("blocking"),
        no_auth: known.flags.no_auth,
        no_multi: known.flags.no_multi || command.has("no_multi"),
    }
}

/// The keys that the server names and the row does not. Which keys a command with subcommands touches, these say: a
/// server before Redis 7, which does not tell of them, says it of the command.
fn lacking(known: &Spec, command: &Described) -> Vec<KeySpec> {
    if known.is_container {
        return Vec::new();
    }
    let has = |text: &String| known.key_column.split(' ').any(|written| written == text.as_str());
    command.keys.iter().filter(|text| !has(text)).filter_map(|text| KeySpec::parse(text)).collect()
}

/// A command that `commands.tsv` does not have.
fn new(command: &Described, conduct: Conduct) -> Spec {
    let is_told = |category: &&'static str| command.categories.iter().any(|told| told == category);
    let keys = command.keys.iter().filter_map(|text| KeySpec::parse(text)).collect();
    let categories: Vec<&'static str> = CATEGORIES.iter().copied().filter(is_told).collect();
    Spec {
        arity: command.arity,
        flags: Flags {
            write: command.has("write"),
            readonly: command.has("readonly") && !command.has("write"),
            blocking: command.has("blocking"),
            // Who may come in without a login is not for the upstream to say.
            no_auth: false,
            no_multi: command.has("no_multi"),
        },
        policy: command.policy,
        family: CommandFamily::of(&categories),
        categories,
        has_hidden_keys: command.hides_keys,
        is_container: command.is_container,
        source: Source::Learned(Learned { conduct, original: None }),
        ..Spec::new(0, command.name.clone(), keys)
    }
}

/// The categories of `commands.tsv`: a user's rules know no others.
static CATEGORIES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut names: Vec<&'static str> = all().flat_map(|spec| spec.categories.iter().copied()).collect();
    names.sort_unstable();
    names.dedup();
    names
});

/// Categories of commands that are about more than the keys they name.
const NOT_OF_KEYS: [&str; 5] = ["admin", "connection", "pubsub", "scripting", "transaction"];

/// What a command may do to its connection, by what a server says of it and its family. Only a command that reads or
/// writes keys, all of which it names, is known to leave nothing: no flag says so of others. Nor of a module's, which
/// may answer when it likes while the server serves others.
fn conduct(command: &Described, commands: &[Described]) -> Conduct {
    let is_of = |category: &str| command.categories.iter().any(|told| told == category);
    let is_plain = (command.has("write") || command.has("readonly"))
        && !command.keys.is_empty()
        && !command.hides_keys
        && !NOT_OF_KEYS.iter().any(|category| is_of(category));
    match () {
        () if command.has("module") => Conduct::Unclear,
        () if is_of("connection") || is_of_session(command, commands) => Conduct::Stateful,
        () if is_plain => Conduct::Clean,
        () => Conduct::Unclear,
    }
}

/// True for a family of subcommands of which some name keys and others none: what the others prepare is kept for the
/// connection (`HIMPORT PREPARE`, then `HIMPORT SET`). And for whatever is a subcommand of CLIENT.
fn is_of_session(command: &Described, commands: &[Described]) -> bool {
    let Some((container, _)) = command.name.split_once('|') else { return false };
    let family = commands
        .iter()
        .filter(|other| other.name.split_once('|').is_some_and(|(its, sub)| its == container && sub != "help"));
    let (mut keyed, mut keyless) = (false, false);
    family.for_each(|other| if other.keys.is_empty() { keyless = true } else { keyed = true });
    container == "client" || Table::built_in().row(container).is_none() && keyed && keyless
}

/// Everything that was ever learned.
struct Kept {
    /// The number of each name.
    ids: HashMap<&'static str, usize>,
    names: Vec<&'static str>,
    rows: HashMap<&'static str, Vec<&'static Spec>>,
    /// So many rows more may be kept.
    room: usize,
}

static KEPT: LazyLock<Mutex<Kept>> = LazyLock::new(|| Mutex::new(Kept::new(MOST_ROWS)));

impl Kept {
    fn new(room: usize) -> Self {
        Self { ids: HashMap::new(), names: Vec::new(), rows: HashMap::new(), room }
    }

    fn keep(&mut self, mut spec: Spec) -> Result<&'static Spec, Full> {
        let next = rows() + self.names.len();
        if spec.learned().is_some() {
            spec.id = self.ids.get(spec.name.as_str()).copied().unwrap_or(next);
        }
        let same = self.rows.get(spec.name.as_str()).and_then(|rows| rows.iter().find(|row| ***row == spec));
        if let Some(same) = same {
            return Ok(same);
        }
        self.room = self.room.checked_sub(1).ok_or(Full)?;
        let spec: &'static Spec = Box::leak(Box::new(spec));
        if spec.id == next {
            self.names.push(&spec.name);
            self.ids.insert(&spec.name, spec.id);
        }
        self.rows.entry(&spec.name).or_default().push(spec);
        Ok(spec)
    }
}

/// The row that says the same as `spec`, from now on.
fn keep(spec: Spec) -> Result<&'static Spec, Full> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).keep(spec)
}

/// The name of this number, of a command that `commands.tsv` does not have.
pub(super) fn name_of(id: usize) -> Option<&'static str> {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.names.get(id.checked_sub(rows())?).copied()
}

#[cfg(test)]
mod tests {
    use super::{Conduct, Full, Kept, Learned, Source, Spec};

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let mut kept = Kept::new(2);
        let row = |name: &str| Spec {
            source: Source::Learned(Learned { conduct: Conduct::Clean, original: None }),
            ..Spec::new(0, name.to_owned(), Vec::new())
        };
        let first = kept.keep(row("a")).expect("room");
        assert!(kept.keep(row("b")).expect("room").id > first.id);
        assert_eq!(kept.keep(row("c")), Err(Full));
        assert!(std::ptr::eq(kept.keep(row("a")).expect("known"), first), "what is known needs no room");
    }
}
