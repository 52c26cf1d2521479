//! The clients that CLIENT KILL selects.
//!
//! Source: <https://redis.io/docs/latest/commands/client-kill/>

use super::Peer;
use crate::errors::as_redis;
use crate::resp::number::parse_i64;
use crate::telemetry::clock::Tick;

/// The types of CLIENT LIST and KILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientType {
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
    /// Reads its name.
    ///
    /// # Errors
    /// Redis's words for an unknown one.
    pub fn read(name: &[u8]) -> Result<Self, String> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(Self::Normal),
            b"pubsub" => Ok(Self::PubSub),
            b"replica" | b"slave" => Ok(Self::Replica),
            b"master" => Ok(Self::Master),
            _ => Err(as_redis::client_type(name)),
        }
    }

    /// True for a client of this type.
    #[must_use]
    pub fn matches(self, peer: &Peer) -> bool {
        self == match peer.read(|state| (state.replica, state.subscribes())) {
            (true, _) => Self::Replica,
            (_, true) => Self::PubSub,
            _ => Self::Normal,
        }
    }
}

#[derive(Debug)]
enum Test {
    Id(u64),
    Type(ClientType),
    User(String),
    Address(String),
    LocalAddress(String),
    /// Connected for at least so many seconds.
    Age(u64),
    /// Not the one that asks.
    Other(u64),
}

/// Conditions that must all hold.
#[derive(Debug)]
pub struct Filter {
    tests: Vec<Test>,
}

impl Filter {
    /// Reads the `option value` pairs of CLIENT KILL, asked by client `asker`.
    ///
    /// # Errors
    /// Redis's words.
    pub fn read(words: &[&[u8]], asker: u64, is_user: &dyn Fn(&str) -> bool) -> Result<Self, String> {
        let mut tests = vec![Test::Other(asker)];
        for pair in words.chunks(2) {
            let &[option, value] = pair else { return Err(as_redis::SYNTAX.into()) };
            match (option.to_ascii_uppercase().as_slice(), value.to_ascii_lowercase().as_slice()) {
                (b"SKIPME", b"yes") => {}
                (b"SKIPME", b"no") => tests.retain(|test| !matches!(test, Test::Other(_))),
                (option, _) => tests.push(test(option, value, is_user)?),
            }
        }
        Ok(Self { tests })
    }

    /// True for a client that it means.
    #[must_use]
    pub fn matches(&self, peer: &Peer) -> bool {
        self.tests.iter().all(|test| match test {
            Test::Id(id) => peer.id == *id,
            Test::Type(kind) => kind.matches(peer),
            Test::User(user) => peer.read(|state| state.user == *user),
            Test::Address(address) => peer.addresses.0 == *address,
            Test::LocalAddress(address) => peer.addresses.1 == *address,
            Test::Age(seconds) => Tick::now().since(peer.since) / 1000 >= *seconds,
            Test::Other(asker) => peer.id != *asker,
        })
    }
}

fn test(option: &[u8], value: &[u8], is_user: &dyn Fn(&str) -> bool) -> Result<Test, String> {
    let text = || String::from_utf8_lossy(value).into_owned();
    let positive = |what: &str| {
        let number = parse_i64(value).filter(|number| *number > 0);
        number.map(|number| number as u64).ok_or_else(|| as_redis::not_positive(what))
    };
    Ok(match option {
        b"ID" => Test::Id(positive("client-id")?),
        b"MAXAGE" => Test::Age(positive("maxage")?),
        b"TYPE" => Test::Type(ClientType::read(value)?),
        b"ADDR" => Test::Address(text()),
        b"LADDR" => Test::LocalAddress(text()),
        b"USER" if is_user(&text()) => Test::User(text()),
        b"USER" => return Err(as_redis::no_user(&text())),
        _ => return Err(as_redis::SYNTAX.into()),
    })
}
