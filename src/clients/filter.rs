//! The clients that CLIENT LIST and CLIENT KILL select.
//!
//! A Redis lists by a type or by ids, and kills by a few conditions. A Valkey of our days selects by any conditions in
//! both, and by their opposites.
//!
//! Source: <https://redis.io/docs/latest/commands/client-kill/>, <https://valkey.io/commands/client-list/>

use super::generation::Generation;
use super::{Peer, State, flags};
use crate::errors::as_redis;
use crate::resp::number::parse_i64;
use crate::telemetry::clock::Tick;

/// The types of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientType {
    /// Without a subscription.
    Normal,
    /// With one.
    PubSub,
    /// One that follows the upstream.
    Replica,
    /// A master, which no client of a sidecar is.
    Master,
}

impl ClientType {
    fn read(name: &[u8], generation: Generation) -> Result<Self, String> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(Self::Normal),
            b"pubsub" => Ok(Self::PubSub),
            b"replica" | b"slave" => Ok(Self::Replica),
            b"master" => Ok(Self::Master),
            b"primary" if generation.selects_by_all() => Ok(Self::Master),
            _ => Err(as_redis::client_type(name)),
        }
    }

    fn of(state: &State) -> Self {
        match () {
            () if state.replica => Self::Replica,
            () if state.subscribes() => Self::PubSub,
            () => Self::Normal,
        }
    }
}

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Id,
    Type,
    User,
    Address,
    LocalAddress,
    Age,
    Idle,
    Flags,
    Name,
    LibName,
    LibVer,
    Db,
    Capa,
    Ip,
}

/// What CLIENT KILL of every server selects by.
const COMMON: [About; 5] = [About::Id, About::Type, About::User, About::Address, About::LocalAddress];

/// Their names.
const ABOUT: [(&[u8], About); 14] = [
    (b"ID", About::Id),
    (b"TYPE", About::Type),
    (b"USER", About::User),
    (b"ADDR", About::Address),
    (b"LADDR", About::LocalAddress),
    (b"MAXAGE", About::Age),
    (b"IDLE", About::Idle),
    (b"FLAGS", About::Flags),
    (b"NAME", About::Name),
    (b"LIB-NAME", About::LibName),
    (b"LIB-VER", About::LibVer),
    (b"DB", About::Db),
    (b"CAPA", About::Capa),
    (b"IP", About::Ip),
];

/// Flags that a Valkey knows (`validateClientFlagFilter`).
const FLAGS: &[u8] = b"ABEIMNOPRSTUbcdeirtux";

#[derive(Debug)]
enum Wanted {
    Ids(Vec<i64>),
    Type(ClientType),
    Text(String),
    Number(i64),
}

#[derive(Debug)]
struct Test {
    about: About,
    /// The client must not be so.
    is_not: bool,
    wanted: Wanted,
}

/// Who asks, and what is known of the server that it takes the sidecar for.
pub struct Asker<'a> {
    /// Its id.
    pub id: u64,
    /// The server.
    pub generation: Generation,
    /// Whether there is a user of this name; `None` where only the upstream knows.
    pub is_user: &'a dyn Fn(&str) -> Option<bool>,
}

/// Conditions that must all hold.
#[derive(Debug, Default)]
pub struct Filter {
    tests: Vec<Test>,
    /// Not this client, which asks.
    except: Option<u64>,
    /// The upstream must say whether there is such a user.
    unsure: Option<String>,
}

/// What CLIENT LIST is asked for.
#[derive(Debug)]
pub enum Listing {
    /// The clients of these ids, in this order.
    Ids(Vec<i64>),
    /// Those that match.
    Matching(Filter),
}

impl Listing {
    /// Reads what stands behind CLIENT LIST.
    ///
    /// # Errors
    /// The server's words.
    pub fn read(words: &[&[u8]], asker: &Asker<'_>) -> Result<Self, String> {
        if asker.generation.selects_by_all() {
            return Filter::read(words, asker, false).map(Self::Matching);
        }
        let is = |name: &str| words[0].eq_ignore_ascii_case(name.as_bytes());
        match words.len() {
            0 => Ok(Self::Matching(Filter::default())),
            2 if is("TYPE") => Filter::read(words, asker, false).map(Self::Matching),
            2.. if is("ID") => {
                let ids = words[1..].iter().map(|id| parse_i64(id).ok_or(as_redis::CLIENT_ID));
                Ok(Self::Ids(ids.collect::<Result<_, _>>()?))
            }
            _ => Err(as_redis::SYNTAX.into()),
        }
    }
}

impl Filter {
    /// Reads what stands behind CLIENT KILL: an address, or conditions.
    ///
    /// # Errors
    /// The server's words.
    pub fn of_kill(words: &[&[u8]], asker: &Asker<'_>) -> Result<Self, String> {
        match words {
            [address] => {
                let wanted = Wanted::Text(text(address));
                Ok(Self { tests: vec![Test { about: About::Address, is_not: false, wanted }], ..Self::default() })
            }
            _ => Self::read(words, asker, true),
        }
    }

    fn read(words: &[&[u8]], asker: &Asker<'_>, skips_asker: bool) -> Result<Self, String> {
        let mut filter = Self { except: skips_asker.then_some(asker.id), ..Self::default() };
        let mut rest = words;
        while let [option, values @ ..] = rest {
            let option = option.to_ascii_uppercase();
            let Some(value) = values.first() else { return Err(as_redis::SYNTAX.into()) };
            let mut used = 1;
            if option == b"SKIPME" {
                filter.except = skips(value)?.then_some(asker.id);
            } else {
                let (about, is_not) = about(&option, asker.generation).ok_or(as_redis::SYNTAX)?;
                let wanted = match about {
                    About::Id if asker.generation.selects_by_all() => {
                        let ids = ids(values)?;
                        used = ids.len();
                        Wanted::Ids(ids)
                    }
                    About::Id => Wanted::Ids(vec![positive_id(value)?]),
                    _ => filter.wanted(about, is_not, value, asker)?,
                };
                filter.add(Test { about, is_not, wanted }, asker.generation);
            }
            rest = &values[used..];
        }
        Ok(filter)
    }

    /// The last one about something holds; but ids may be added to others.
    fn add(&mut self, test: Test, generation: Generation) {
        let before = self.tests.iter_mut().find(|other| (other.about, other.is_not) == (test.about, test.is_not));
        match (before, test.wanted) {
            (Some(Test { wanted: Wanted::Ids(all), .. }), Wanted::Ids(more)) if generation.selects_by_all() => {
                all.extend(more);
            }
            (Some(before), wanted) => before.wanted = wanted,
            (None, wanted) => self.tests.push(Test { wanted, ..test }),
        }
    }

    fn wanted(&mut self, about: About, is_not: bool, value: &[u8], asker: &Asker<'_>) -> Result<Wanted, String> {
        Ok(match about {
            About::Type => Wanted::Type(ClientType::read(value, asker.generation)?),
            About::User => {
                let name = text(value);
                match (asker.is_user)(&name) {
                    Some(false) => return Err(as_redis::no_user(&name)),
                    None if !is_not => self.unsure = Some(name.clone()),
                    _ => {}
                }
                Wanted::Text(name)
            }
            About::Age => Wanted::Number(seconds("maxage", value)?),
            About::Idle => Wanted::Number(seconds("idle", value)?),
            About::Db => {
                let db = parse_i64(value).ok_or_else(|| as_redis::not_a_number("DB"))?;
                Wanted::Number(if db < 0 { return Err(as_redis::CLIENT_DB.into()) } else { db })
            }
            About::Flags if !value.iter().all(|flag| FLAGS.contains(flag)) => {
                return Err(as_redis::unknown_in_filter("flags", is_not, value));
            }
            About::Capa if value.iter().any(|capa| *capa != b'r') => {
                return Err(as_redis::unknown_in_filter("capa", is_not, value));
            }
            _ => Wanted::Text(text(value)),
        })
    }

    /// The user of whom only the upstream knows whether there is one: none of these clients has the name.
    #[must_use]
    pub fn unsure(&self) -> Option<&str> {
        self.unsure.as_deref()
    }

    /// True for a client that it means.
    #[must_use]
    pub fn matches(&self, peer: &Peer) -> bool {
        self.except != Some(peer.id)
            && peer.read(|state| self.tests.iter().all(|test| test.holds(peer, state) != test.is_not))
    }
}

impl Test {
    fn holds(&self, peer: &Peer, state: &State) -> bool {
        let is_said = |bytes: &[u8], wanted: &str| !bytes.is_empty() && bytes == wanted.as_bytes();
        match (&self.wanted, self.about) {
            (Wanted::Ids(ids), _) => ids.iter().any(|id| u64::try_from(*id) == Ok(peer.id)),
            (Wanted::Type(kind), _) => ClientType::of(state) == *kind,
            (Wanted::Number(db), About::Db) => state.db == *db,
            (Wanted::Number(seconds), About::Idle) => age(peer.heard()) >= *seconds,
            (Wanted::Number(seconds), _) => age(peer.since) >= *seconds,
            (Wanted::Text(user), About::User) => state.user == *user,
            (Wanted::Text(address), About::LocalAddress) => peer.addresses.1 == *address,
            (Wanted::Text(ip), About::Ip) => is_at(&peer.addresses.0, ip),
            (Wanted::Text(name), About::Name) => is_said(&state.name, name),
            (Wanted::Text(name), About::LibName) => is_said(&state.lib_name, name),
            (Wanted::Text(version), About::LibVer) => is_said(&state.lib_ver, version),
            (Wanted::Text(capa), About::Capa) => capa.is_empty() || state.redirects,
            (Wanted::Text(wanted), About::Flags) => {
                let flags = flags::of(peer, state);
                wanted.chars().all(|flag| flags.contains(flag))
            }
            (Wanted::Text(address), _) => peer.addresses.0 == *address,
        }
    }
}

/// True for an address and port of this address.
fn is_at(address: &str, ip: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']') == ip
}

fn age(since: Tick) -> i64 {
    i64::try_from(Tick::now().since(since) / 1000).unwrap_or(i64::MAX)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What an option is about, where the server has it, and whether it is the opposite.
fn about(option: &[u8], generation: Generation) -> Option<(About, bool)> {
    let (name, is_not) = option.strip_prefix(b"NOT-").map_or((option, false), |name| (name, true));
    let about = ABOUT.iter().find(|(known, _)| *known == name).map(|(_, about)| *about)?;
    let is_known = match about {
        _ if is_not => generation.selects_by_all() && !matches!(about, About::Age | About::Idle),
        About::Age => generation.kills_by_age(),
        _ => COMMON.contains(&about) || generation.selects_by_all(),
    };
    is_known.then_some((about, is_not))
}

fn skips(value: &[u8]) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_slice() {
        b"yes" => Ok(true),
        b"no" => Ok(false),
        _ => Err(as_redis::SYNTAX.into()),
    }
}

fn positive_id(value: &[u8]) -> Result<i64, String> {
    parse_i64(value).filter(|id| *id > 0).ok_or_else(|| as_redis::not_positive("client-id"))
}

/// As many ids as there are.
fn ids(values: &[&[u8]]) -> Result<Vec<i64>, String> {
    let numbers = values.iter().map_while(|value| parse_i64(value).map(|_| positive_id(value)));
    let ids = numbers.collect::<Result<Vec<_>, _>>()?;
    if ids.is_empty() { Err(as_redis::SYNTAX.into()) } else { Ok(ids) }
}

fn seconds(option: &str, value: &[u8]) -> Result<i64, String> {
    let number = parse_i64(value).ok_or_else(|| as_redis::not_a_number(option))?;
    if number > 0 { Ok(number) } else { Err(as_redis::not_positive(option)) }
}
