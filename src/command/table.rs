//! The command table, read once from `commands.tsv`.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{KeySpec, Request};
use crate::errors;

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
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The row's number, for tables beside this one.
    pub id: usize,
    /// Lower-case name; `container|subcommand` for a subcommand.
    pub name: String,
    /// Number of arguments with the name; negative: at least so many.
    pub arity: i64,
    /// Flags as `COMMAND` gives them.
    pub flags: Flags,
    /// ACL categories, without `@`.
    pub categories: Vec<&'static str>,
    /// Where the keys stand.
    pub keys: Vec<KeySpec>,
    /// It may touch keys that no specification finds (SORT's BY and GET).
    pub has_hidden_keys: bool,
    /// The first server that knows it.
    pub since: &'static str,
    /// Where its only key stands, for the commands that have one in a fixed place, as most have.
    pub only_key: Option<usize>,
    /// It has subcommands: a first argument that names none of them is one that the table does not know.
    pub is_container: bool,
    /// Its name alone tells it: it is no subcommand and has none.
    is_plain: bool,
    /// Its name as most clients send it.
    upper: String,
    /// Its name in upper and in lower case as [`Request::word`] reads it, if it is that short.
    words: Option<[u64; 2]>,
}

impl Spec {
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
        if self.arity >= 0 { argc as i64 == self.arity } else { argc as i64 >= -self.arity }
    }

    /// True when the keys of `request` all stand before argument `end`, whatever the arguments from there on are.
    #[must_use]
    pub fn knows_keys_before(&self, request: &Request<'_>, end: usize) -> bool {
        let mut before = !self.has_hidden_keys && self.keys.iter().all(|keys| keys.is_fixed_before(end));
        request.each_key(self, |at| before &= at < end);
        before && (end > 1 || !self.is_container)
    }

    /// Redis's words for a number of arguments that is not accepted.
    #[must_use]
    pub fn arity_error(&self) -> String {
        errors::as_redis::wrong_arity(&self.name)
    }
}

/// Longest name in the table, container and subcommand together.
const LONGEST: usize = 40;

type Table = HashMap<&'static [u8], Spec, foldhash::quality::RandomState>;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let lines = || include_str!("commands.tsv").lines().enumerate();
    let mut table: Table = lines().filter_map(|(id, line)| row(id, line)).collect();
    for (container, _) in lines().filter_map(|(_, line)| line.split_once('|')) {
        if let Some(spec) = table.get_mut(container.as_bytes()) {
            spec.is_container = true;
        }
    }
    table
});

fn row(id: usize, line: &'static str) -> Option<(&'static [u8], Spec)> {
    if line.starts_with('#') {
        return None;
    }
    let mut columns = line.split('\t');
    let (name, arity, flags, categories) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
    let (keys, since) = (columns.next()?, columns.next()?);
    let has = |flag| flags.split(',').any(|f| f == flag);
    let flags =
        Flags { write: has("write"), readonly: has("readonly"), blocking: has("blocking"), no_auth: has("no_auth") };
    let has_hidden_keys = keys.split(' ').any(|spec| spec == "?");
    let keys = KeySpec::of(name, keys);
    let only_key = if let [only] = &keys[..] { only.fixed() } else { None };
    let is_plain = !keys.is_empty() && !name.contains('|');
    let categories = categories.split(',').filter(|category| *category != "-").collect();
    let arity = arity.parse().ok()?;
    let is_container = false;
    let spec = Spec {
        id,
        name: name.to_owned(),
        arity,
        flags,
        categories,
        keys,
        has_hidden_keys,
        only_key,
        since,
        is_container,
        is_plain,
        upper: name.to_ascii_uppercase(),
        words: word(&name.to_ascii_uppercase()).zip(word(name)).map(|(upper, lower)| [upper, lower]),
    };
    Some((name.as_bytes(), spec))
}

/// A short name as [`Request::word`] reads it.
fn word(name: &str) -> Option<u64> {
    let mut bytes = [0; 8];
    bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    Some(u64::from_le_bytes(bytes))
}

/// The row of a command or, when `name` is a container, of its subcommand `sub` if there is one.
/// `None` for commands that the table does not know: those are forwarded verbatim.
#[must_use]
pub fn lookup(name: &[u8], sub: &[u8]) -> Option<&'static Spec> {
    let mut buffer = [0_u8; LONGEST];
    let name = buffer.get_mut(..name.len()).map(|to| lower(to, name)).and_then(|n| TABLE.get(n))?;
    if !name.keys.is_empty() || sub.is_empty() {
        return Some(name);
    }
    let (at, end) = (name.name.len(), name.name.len() + 1 + sub.len());
    let Some(whole) = buffer.get_mut(..end) else { return Some(name) };
    whole[at] = b'|';
    lower(&mut whole[at + 1..], sub);
    Some(TABLE.get(&*whole).unwrap_or(name))
}

fn lower<'a>(to: &'a mut [u8], from: &[u8]) -> &'a [u8] {
    to.copy_from_slice(from);
    to.make_ascii_lowercase();
    to
}

/// The row of this id.
#[must_use]
pub fn by_id(id: usize) -> Option<&'static Spec> {
    static BY_ID: LazyLock<HashMap<usize, &'static Spec>> =
        LazyLock::new(|| TABLE.values().map(|spec| (spec.id, spec)).collect());
    BY_ID.get(&id).copied()
}

/// One more than the largest id of a row, for tables beside this one.
#[must_use]
pub fn rows() -> usize {
    TABLE.values().map(|spec| spec.id + 1).max().unwrap_or(0)
}

/// Every row of the table, in no order.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    TABLE.values()
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
