//! The table of the commands on owned keys: what each asks of a key, and the function that answers it. A new command on
//! hashes, lists, strings or sets gets a row here.

use std::sync::LazyLock;

use super::expire::{self, ExpireCommand};
use super::read::{self, Answer, ReadError};
use super::write::{self, ReplyForm, Write};
use super::{Shape, collections, random, scan, set, ttl};
use crate::command::{self, Request, Spec};

/// Reads the arguments of a write command.
pub type ParseWrite = fn(&Request<'_>, &'static Spec) -> Result<Write, ReadError>;
/// Reads the arguments of a command that changes when a key expires.
pub type ParseExpire = fn(&Request<'_>, &'static Spec) -> Result<ExpireCommand, ReadError>;

/// What a command asks of one owned key.
#[derive(Clone, Copy, Debug)]
pub enum Verb {
    /// Reads the value, which starts its TTL again where the mapping says so.
    Read(Answer),
    /// Asks about the key (TYPE, TTL), which changes nothing.
    Inspect(Answer),
    /// Writes the value.
    Write(WriteVerb),
    /// Changes when the key expires.
    Expire(ParseExpire),
}

/// A command that writes one key's value.
#[derive(Clone, Copy, Debug)]
pub struct WriteVerb {
    /// The shape that the value must have.
    pub shape: Shape,
    /// Reads the arguments, whose number the table accepts.
    pub parse: ParseWrite,
    /// It deletes the key, whatever its arguments are (GETDEL).
    pub deletes: bool,
}

const fn hash(parse: ParseWrite) -> Verb {
    Verb::Write(WriteVerb { shape: Shape::Hash, parse, deletes: false })
}

const fn string(parse: ParseWrite) -> Verb {
    Verb::Write(WriteVerb { shape: Shape::String, parse, deletes: false })
}

const fn set_of(parse: ParseWrite) -> Verb {
    Verb::Write(WriteVerb { shape: Shape::Set, parse, deletes: false })
}

const fn list(parse: ParseWrite) -> Verb {
    Verb::Write(WriteVerb { shape: Shape::List, parse, deletes: false })
}

/// Every command that is answered on one owned key.
const VERBS: &[(&str, Verb)] = &[
    ("hget", Verb::Read(read::hget)),
    ("hmget", Verb::Read(read::hmget)),
    ("hgetall", Verb::Read(collections::hgetall)),
    ("hexists", Verb::Read(read::hexists)),
    ("hlen", Verb::Read(read::hlen)),
    ("hkeys", Verb::Read(collections::hkeys)),
    ("hvals", Verb::Read(collections::hvals)),
    ("hstrlen", Verb::Read(read::hstrlen)),
    ("hrandfield", Verb::Read(random::hrandfield)),
    ("hscan", Verb::Read(scan::hscan)),
    ("lrange", Verb::Read(read::lrange)),
    ("llen", Verb::Read(read::llen)),
    ("lindex", Verb::Read(read::lindex)),
    ("lpos", Verb::Read(scan::lpos)),
    ("get", Verb::Read(read::get)),
    ("strlen", Verb::Read(read::strlen)),
    ("getrange", Verb::Read(read::getrange)),
    ("substr", Verb::Read(read::getrange)),
    ("smembers", Verb::Read(collections::smembers)),
    ("sismember", Verb::Read(read::sismember)),
    ("smismember", Verb::Read(read::smismember)),
    ("scard", Verb::Read(read::scard)),
    ("srandmember", Verb::Read(random::srandmember)),
    ("sscan", Verb::Read(scan::sscan)),
    ("type", Verb::Inspect(ttl::type_name)),
    ("ttl", Verb::Inspect(ttl::ttl)),
    ("pttl", Verb::Inspect(ttl::pttl)),
    ("expiretime", Verb::Inspect(ttl::expiretime)),
    ("pexpiretime", Verb::Inspect(ttl::pexpiretime)),
    ("hset", hash(|request, spec| write::put_fields(request, spec, ReplyForm::Created))),
    ("hmset", hash(|request, spec| write::put_fields(request, spec, ReplyForm::Ok))),
    ("hsetnx", hash(write::hsetnx)),
    ("hdel", hash(write::hdel)),
    ("hincrby", hash(write::hincrby)),
    ("hincrbyfloat", hash(write::hincrbyfloat)),
    ("set", string(set::set)),
    ("setex", string(|request, spec| set::setex(request, spec, 1000))),
    ("psetex", string(|request, spec| set::setex(request, spec, 1))),
    ("setnx", string(write::setnx)),
    ("getset", string(write::getset)),
    ("getdel", Verb::Write(WriteVerb { shape: Shape::String, parse: write::getdel, deletes: true })),
    ("append", string(write::append)),
    ("incr", string(|_, _| Ok(write::count_value(1)))),
    ("decr", string(|_, _| Ok(write::count_value(-1)))),
    ("incrby", string(write::incrby)),
    ("decrby", string(write::decrby)),
    ("incrbyfloat", string(write::incrbyfloat)),
    ("sadd", set_of(|request, _| Ok(write::members(request, true)))),
    ("srem", set_of(|request, _| Ok(write::members(request, false)))),
    ("rpush", list(write::rpush)),
    ("lrem", list(write::lrem)),
    ("expire", Verb::Expire(|request, spec| expire::expire(request, spec, 1000, false))),
    ("pexpire", Verb::Expire(|request, spec| expire::expire(request, spec, 1, false))),
    ("expireat", Verb::Expire(|request, spec| expire::expire(request, spec, 1000, true))),
    ("pexpireat", Verb::Expire(|request, spec| expire::expire(request, spec, 1, true))),
    ("persist", Verb::Expire(expire::persist)),
    ("getex", Verb::Expire(expire::getex)),
];

static BY_NUMBER: LazyLock<Vec<Option<Verb>>> = LazyLock::new(|| {
    let mut table = vec![None; command::rows()];
    for spec in command::all() {
        table[spec.id] = VERBS.iter().find(|(name, _)| *name == spec.name).map(|(_, verb)| *verb);
    }
    table
});

/// What this command asks of one owned key; `None` when it is not answered on owned keys.
#[must_use]
pub fn verb_of(spec: &Spec) -> Option<Verb> {
    BY_NUMBER.get(spec.id).copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::{VERBS, Verb, verb_of};
    use crate::command::{all, lookup};

    #[test]
    fn every_verb_belongs_to_a_command_of_the_table_that_has_one_key() {
        for (name, _) in VERBS {
            let spec = lookup(name.as_bytes(), b"").expect("a command");
            assert!(verb_of(spec).is_some() && spec.keys.len() == 1 && !spec.is_container, "{name}");
        }
        assert_eq!(all().filter(|spec| verb_of(spec).is_some()).count(), VERBS.len());
    }

    #[test]
    fn a_verb_fits_what_the_command_table_says_of_the_command() {
        for (name, verb) in VERBS {
            let flags = lookup(name.as_bytes(), b"").expect("a command").flags;
            match verb {
                Verb::Read(_) | Verb::Inspect(_) => assert!(flags.readonly, "{name}"),
                Verb::Write(_) | Verb::Expire(_) => assert!(flags.write, "{name}"),
            }
        }
    }
}
