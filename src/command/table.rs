//! The command table: the rows of `commands.tsv`, and for each upstream what completes them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};

use super::described::Described;
use super::learned::{self, Report};
use super::spec::{Flags, Spec};
use super::{KeySpec, Policy};
use crate::telemetry::metrics::CommandFamily;

/// Longest name in the table, container and subcommand together. Commands are renamed to hashes of 64 digits.
pub(super) const LONGEST: usize = 96;

type Rows = HashMap<&'static [u8], &'static Spec, foldhash::quality::RandomState>;

/// The commands of one upstream: the rows of `commands.tsv`, completed by what the upstream says of itself.
#[derive(Clone, Debug)]
pub struct Table(Rows);

impl Table {
    /// The rows of `commands.tsv` alone.
    #[must_use]
    pub fn built_in() -> &'static Arc<Self> {
        static TABLE: LazyLock<Arc<Table>> =
            LazyLock::new(|| Arc::new(Table(all().map(|spec| (spec.name.as_bytes(), spec)).collect())));
        &TABLE
    }

    /// The row of a command or, when `name` is a container, of its subcommand `sub` if there is one.
    /// `None` for commands that the table does not know.
    #[must_use]
    pub fn lookup(&self, name: &[u8], sub: &[u8]) -> Option<&'static Spec> {
        let mut buffer = [0_u8; LONGEST];
        let name = *buffer.get_mut(..name.len()).map(|to| lower(to, name)).and_then(|n| self.0.get(n))?;
        if !name.keys.is_empty() || sub.is_empty() {
            return Some(name);
        }
        let (at, end) = (name.name.len(), name.name.len() + 1 + sub.len());
        let Some(whole) = buffer.get_mut(..end) else { return Some(name) };
        whole[at] = b'|';
        lower(&mut whole[at + 1..], sub);
        Some(self.0.get(&*whole).copied().unwrap_or(name))
    }

    /// The row of this name, which is in lower case.
    pub(super) fn row(&self, name: &str) -> Option<&'static Spec> {
        self.0.get(name.as_bytes()).copied()
    }

    /// This table, and what a server says of its `commands`.
    #[must_use]
    pub fn completed(&self, commands: &[Described]) -> (Self, Report) {
        let (mut table, mut report) = (self.clone(), Report::default());
        for command in commands {
            match learned::row(command, commands) {
                Ok(Some(row)) => {
                    let before = table.0.insert(row.name.as_bytes(), row);
                    if before.is_none() { &mut report.new } else { &mut report.completed }.push(&row.name);
                }
                Ok(None) => {}
                Err(learned::Full) => report.left_out += 1,
            }
        }
        (table, report)
    }

    /// True when both have the same rows.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let has = |row: &&'static Spec| other.row(&row.name).is_some_and(|theirs| std::ptr::eq(*row, theirs));
        self.0.len() == other.0.len() && self.0.values().all(has)
    }

    /// Every row, in no order.
    pub fn rows(&self) -> impl Iterator<Item = &'static Spec> {
        self.0.values().copied()
    }
}

/// The rows of `commands.tsv`, each at its number.
static SPECS: LazyLock<Vec<Spec>> = LazyLock::new(|| {
    let lines = || include_str!("commands.tsv").lines().filter(|line| !line.starts_with('#'));
    let containers: HashSet<&str> = lines().filter_map(|line| Some(line.split_once('|')?.0)).collect();
    let mut specs = Vec::new();
    for line in lines() {
        if let Some(spec) = read(specs.len(), line) {
            specs.push(Spec { is_container: containers.contains(&*spec.name), ..spec });
        }
    }
    specs
});

fn read(id: usize, line: &'static str) -> Option<Spec> {
    let mut columns = line.split('\t');
    let (name, arity, flags, categories) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
    let (keys, tips, since) = (columns.next()?, columns.next()?, columns.next()?);
    let has = |flag| flags.split(',').any(|f| f == flag);
    let categories: Vec<&'static str> = categories.split(',').filter(|category| *category != "-").collect();
    Some(Spec {
        arity: arity.parse().ok()?,
        flags: Flags {
            write: has("write"),
            readonly: has("readonly"),
            blocking: has("blocking"),
            no_auth: has("no_auth"),
            no_multi: has("no_multi"),
        },
        policy: Policy::of(tips.split(',')),
        family: CommandFamily::of(&categories),
        categories,
        has_hidden_keys: keys.split(' ').any(|spec| spec == "?"),
        since,
        key_column: keys,
        ..Spec::new(id, name.to_owned(), KeySpec::of(name, keys))
    })
}

/// The row of `commands.tsv` of a command or, when `name` is a container, of its subcommand `sub` if there is one.
#[must_use]
pub fn lookup(name: &[u8], sub: &[u8]) -> Option<&'static Spec> {
    Table::built_in().lookup(name, sub)
}

fn lower<'a>(to: &'a mut [u8], from: &[u8]) -> &'a [u8] {
    to.copy_from_slice(from);
    to.make_ascii_lowercase();
    to
}

/// The name of this number, also of a command that only an upstream knows.
#[must_use]
pub fn name_of(id: usize) -> Option<&'static str> {
    match SPECS.get(id) {
        Some(spec) => Some(&spec.name),
        None => learned::name_of(id),
    }
}

/// The number of rows of `commands.tsv`, for tables beside it; those of other commands are larger.
#[must_use]
pub fn rows() -> usize {
    SPECS.len()
}

/// Every row of `commands.tsv`, in no order.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    SPECS.iter()
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::lookup;
    use crate::command::Request;
    use crate::resp::encode;
    use crate::resp::request::RequestScanner;

    fn keys(line: &str) -> Vec<String> {
        let mut raw = BytesMut::new();
        encode::request(&mut raw, &line.split(' ').collect::<Vec<_>>());
        let mut scanner = RequestScanner::default();
        scanner.scan(&raw).expect("a request");
        let request = Request::new(&raw, scanner.spans());
        let spec = lookup(request.arg(0), request.arg(1)).expect("a known command");
        request.key_positions(spec).iter().map(|i| String::from_utf8_lossy(request.arg(*i)).into_owned()).collect()
    }

    #[test]
    fn keys_are_found_where_redis_finds_them() {
        for (line, expected) in [
            ("get a", "a"),
            ("GeT a", "a"),
            ("mget a b c", "a,b,c"),
            ("mset a 1 b 2", "a,b"),
            ("eval script 2 a b c", "a,b"),
            ("eval script 0 a", ""),
            ("eval script 9 a", ""),
            ("xread COUNT 2 STREAMS a b 0 0", "a,b"),
            ("blpop a b 0", "a,b"),
            ("zunionstore d 2 a b WEIGHTS 1 2", "d,a,b"),
            ("object encoding a", "a"),
            ("memory usage a", "a"),
            ("bitop and d a b", "d,a,b"),
            ("xgroup create a g 0", "a"),
            ("ping", ""),
            ("georadius a 1 2 3 km STORE d", "a,d"),
            // The command obeys the last of several.
            ("georadius a 1 2 3 km STORE d STORE e", "a,d,e"),
            ("georadius a 1 2 3 km STORE STOREDIST STOREDIST e", "a,STOREDIST,STOREDIST,e"),
            ("georadiusbymember store store 3 km STOREDIST d STORE e STORE", "store,d,e"),
            ("georadiusbymember", ""),
            ("sort a", "a"),
            ("sort a BY store GET store LIMIT store 1 STORE b STORE c STORE", "a,c"),
            ("sort a STORE GET STORE b", "a,b"),
            ("sort", ""),
            ("migrate h 1 a 0 10 COPY", "a"),
            ("migrate h 1  0 10 COPY AUTH keys REPLACE KEYS a keys", "a,keys"),
            ("migrate h 1  0 10 AUTH2 keys keys KEYS a b", "a,b"),
            ("migrate h 1", ""),
            ("xread COUNT 1 STREAMS streams a 0 0", "streams,a"),
            ("xread STREAMS", ""),
            ("xreadgroup GROUP g streams BLOCK 0 STREAMS a >", "a"),
            ("xreadgroup GROUP streams block NOACK STREAMS a b > >", "a,b"),
            ("xreadgroup COUNT 1 GROUP g streams STREAMS a >", "a"),
            ("xreadgroup BLOCK 1 GROUP streams streams streams streams >", "streams"),
            ("spublish a b", ""),
            ("ssubscribe a b", ""),
            ("hearthside invalidate a*", "a*"),
        ] {
            assert_eq!(keys(line).join(","), expected, "{line}");
        }
    }

    #[test]
    fn unknown_names_are_unknown_whatever_their_length() {
        assert!(lookup(b"json.get", b"").is_none());
        assert!(lookup(&[b'x'; 500], b"").is_none());
        assert_eq!(lookup(b"CLIENT", b"SetName").map(|s| s.name.as_str()), Some("client|setname"));
        assert_eq!(lookup(b"client", &[b'x'; 500]).map(|s| s.name.as_str()), Some("client"));
        assert!(super::all().count() > 350);
    }
}
