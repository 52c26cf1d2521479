//! What a server says of its commands: the answers to COMMAND and COMMAND INFO, read. They are a stranger's: whatever
//! does not look like a description of a command is left out, or the whole answer is refused.
//!
//! Source: <https://redis.io/docs/latest/commands/command/>

use super::policy::Policy;
use super::table::LONGEST;
use crate::resp::decode;
use crate::resp::reply::parts;

/// Most commands, subcommands among them, that one answer may describe: Redis 8.2 has about 420, and modules may bring
/// as many again.
const MOST_COMMANDS: usize = 4096;
/// Most flags, categories, key specifications and subcommands of one command that are read.
const MOST_PARTS: usize = 256;
/// Widest arity, and farthest place of a key: a request has no more arguments than fit in here.
const FARTHEST: i64 = i32::MAX as i64;

/// One command, or subcommand, as a server describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Lower-case name; `container|subcommand` for a subcommand.
    pub(super) name: String,
    pub(super) arity: i32,
    pub(super) flags: Vec<String>,
    /// Without `@`.
    pub(super) categories: Vec<String>,
    /// How a cluster serves it.
    pub(super) policy: Policy,
    /// Where its keys stand, each specification as `commands.tsv` writes it.
    pub(super) keys: Vec<String>,
    /// The specifications do not find every key.
    pub(super) hides_keys: bool,
    /// It has subcommands.
    pub(super) is_container: bool,
    /// The name by which the server describes it, where clients must call it by another one.
    pub(super) original: Option<String>,
}

impl Described {
    /// True when the server sets this flag.
    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|has| has == flag)
    }

    /// The same command under the name that clients call it by (`rename-command`), which stands for the container if
    /// this is a subcommand.
    #[must_use]
    pub fn called(self, name: &str) -> Self {
        let (container, sub) = match self.name.split_once('|') {
            Some((container, sub)) => (container, Some(sub)),
            None => (self.name.as_str(), None),
        };
        if container == name {
            return self;
        }
        let renamed = sub.map_or_else(|| name.to_owned(), |sub| format!("{name}|{sub}"));
        Self { name: renamed, original: Some(self.name), ..self }
    }
}

/// Reads the whole answer to COMMAND or COMMAND INFO: each command with its subcommands behind it. A command that the
/// server does not have is left out.
///
/// # Errors
/// Why it is not such an answer.
pub fn read(answer: &[u8]) -> Result<Vec<Described>, &'static str> {
    let rows = parts(answer).ok_or("it is no list")?;
    let mut found = Vec::new();
    for row in rows.into_iter().filter(|row| !is_null(row)) {
        if found.len() >= MOST_COMMANDS {
            return Err("it describes too many commands");
        }
        describe(row, None, &mut found).ok_or("a command in it is not described as servers do")?;
    }
    Ok(found)
}

fn is_null(reply: &[u8]) -> bool {
    [&b"*-1\r\n"[..], b"$-1\r\n", b"_\r\n"].contains(&reply)
}

/// Reads one command, and its subcommands behind it.
fn describe(row: &[u8], container: Option<&str>, found: &mut Vec<Described>) -> Option<()> {
    let columns = parts(row)?;
    let name = name(text(columns.first()?)?, container)?;
    let flags = texts(columns.get(2)?)?;
    let keys = match columns.get(8) {
        Some(specs) => Keys::specified(specs)?,
        // A server before Redis 7 has no specifications.
        None => Keys::ranged([3, 4, 5].map(|at| columns.get(at).and_then(|text| decode::integer(text)))),
    };
    let has = |flag: &str| flags.iter().any(|has| has == flag);
    let is_moved = has("movablekeys") && (has("module") || keys.found.is_empty());
    let subcommands = columns.get(9).and_then(|list| parts(list)).filter(|_| container.is_none()).unwrap_or_default();
    if found.len() + subcommands.len() >= MOST_COMMANDS || subcommands.len() > MOST_PARTS {
        return None;
    }
    found.push(Described {
        arity: decode::integer(columns.get(1)?)?.clamp(-FARTHEST, FARTHEST) as i32,
        categories: columns.get(6).map_or(Some(Vec::new()), |list| texts(list))?,
        policy: columns.get(7).map_or_else(Policy::default, |tips| policy(tips)),
        hides_keys: keys.is_incomplete || is_moved,
        keys: keys.found,
        is_container: !subcommands.is_empty(),
        original: None,
        flags,
        name: name.clone(),
    });
    subcommands.into_iter().try_for_each(|subcommand| describe(subcommand, Some(&name), found))
}

/// A name as the table has it. Redis 7 calls a subcommand by its container's name, too.
fn name(told: &[u8], container: Option<&str>) -> Option<String> {
    let mut name = std::str::from_utf8(told).ok()?.to_ascii_lowercase();
    if let Some(container) = container
        && !name.contains('|')
    {
        name = format!("{container}|{name}");
    }
    let is_sound = !name.is_empty() && name.len() <= LONGEST && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_sound.then_some(name)
}

/// A status, or a bulk string.
fn text(reply: &[u8]) -> Option<&[u8]> {
    decode::bulk(reply).or_else(|| reply.strip_prefix(b"+")?.strip_suffix(b"\r\n"))
}

/// Short words, in lower case, without `@`.
fn texts(list: &[u8]) -> Option<Vec<String>> {
    let list = parts(list)?;
    let read = |word: &[u8]| {
        let word = std::str::from_utf8(text(word)?).ok().filter(|word| word.len() <= LONGEST)?;
        Some(word.trim_start_matches('@').to_ascii_lowercase())
    };
    if list.len() > MOST_PARTS { None } else { list.into_iter().map(read).collect() }
}

/// What a list of tips says. Tips may be any text: what is no policy is nothing to the table.
fn policy(tips: &[u8]) -> Policy {
    let tips = parts(tips).unwrap_or_default();
    let words = tips.iter().take(MOST_PARTS).filter_map(|tip| std::str::from_utf8(text(tip)?).ok());
    Policy::of(words)
}

/// The value of `key` in a map, which RESP2 writes as an array.
fn value<'a>(map: &[&'a [u8]], key: &str) -> Option<&'a [u8]> {
    map.chunks_exact(2).find(|pair| text(pair[0]) == Some(key.as_bytes())).map(|pair| pair[1])
}

/// A number that a place may have.
fn number(map: &[&[u8]], key: &str) -> Option<i64> {
    decode::integer(value(map, key)?).filter(|number| (-FARTHEST..=FARTHEST).contains(number))
}

/// Where the keys of one command stand.
#[derive(Default)]
struct Keys {
    found: Vec<String>,
    is_incomplete: bool,
}

impl Keys {
    fn specified(list: &[u8]) -> Option<Self> {
        let (list, mut keys) = (parts(list)?, Self::default());
        if list.len() > MOST_PARTS {
            return None;
        }
        for spec in list {
            let spec = parts(spec)?;
            let flags = texts(value(&spec, "flags")?)?;
            let has = |flag: &str| flags.iter().any(|has| has == flag);
            // A shard channel stands where a key would, and is none.
            if has("not_key") {
                continue;
            }
            match written(&spec) {
                Some(written) => keys.found.push(written),
                None => keys.is_incomplete = true,
            }
            keys.is_incomplete |= has("incomplete");
        }
        Some(keys)
    }

    /// By the places of the first and the last key, and the step between them: a last one below zero counts from the
    /// end.
    fn ranged([first, last, step]: [Option<i64>; 3]) -> Self {
        let is_place = |number: &i64| (-FARTHEST..=FARTHEST).contains(number);
        match [first, last, step].map(|number| number.filter(is_place)) {
            [Some(first @ 1..), Some(last), Some(step @ 1..)] => {
                let last = if last < 0 { last } else { (last - first).max(0) };
                Self { found: vec![format!("@{first}+range:{last}:{step}:0")], is_incomplete: false }
            }
            _ => Self::default(),
        }
    }
}

/// One specification as `commands.tsv` writes it; `None` if the server itself cannot say where the keys are, or says it
/// in a way that is not known here.
fn written(spec: &[&[u8]]) -> Option<String> {
    let (begin, find) = (parts(value(spec, "begin_search")?)?, parts(value(spec, "find_keys")?)?);
    let (at, by) = (parts(value(&begin, "spec")?)?, parts(value(&find, "spec")?)?);
    let start = match text(value(&begin, "type")?)? {
        b"index" => format!("@{}", number(&at, "index").filter(|index| *index >= 1)?),
        b"keyword" => {
            let keyword = std::str::from_utf8(text(value(&at, "keyword")?)?).ok()?;
            let is_word = !keyword.is_empty() && keyword.bytes().all(|byte| byte.is_ascii_alphanumeric());
            format!("{}@{}", is_word.then_some(keyword)?, number(&at, "startfrom")?)
        }
        _ => return None,
    };
    Some(match text(value(&find, "type")?)? {
        b"range" => {
            let step = number(&by, "keystep").filter(|step| *step >= 1)?;
            let limit = number(&by, "limit").filter(|limit| *limit >= 0)?;
            format!("{start}+range:{}:{step}:{limit}", number(&by, "lastkey")?)
        }
        b"keynum" => {
            let step = number(&by, "keystep").filter(|step| *step >= 1)?;
            format!("{start}+keynum:{}:{}:{step}", number(&by, "keynumidx")?, number(&by, "firstkey")?)
        }
        _ => return None,
    })
}
