//! The table of the commands on owned keys: what each asks of a key, and the function that answers it. A new command on
//! hashes, lists, strings or sets gets a row here.

use std::sync::LazyLock;

use super::expire::{self, ExpireCommand};
use super::read::{self, Answer, ReadError};
use super::write::{self, ReplyForm, Write};
use super::{Shape, collections, random, scan, set, ttl};
use crate::command::{self, Request, Spec};

/// Reads the arguments of a write command.
type ParseWrite = fn(&Request<'_>, &'static Spec) -> Result<Write, ReadError>;
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
    parse: ParseWrite,
    /// The event that is told of it (keyspace notifications).
    event: &'static str,
    /// It deletes the key, whatever its arguments are (GETDEL).
    pub deletes: bool,
}

impl WriteVerb {
    /// Reads the arguments, whose number the table accepts.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(&self, request: &Request<'_>, spec: &'static Spec) -> Result<Write, ReadError> {
        Ok((self.parse)(request, spec)?.of(self.shape, self.event))
    }
}

const fn hash(event: &'static str, parse: ParseWrite) -> Verb {
    Verb::Write(WriteVerb { shape: Shape::Hash, parse, event, deletes: false })
}

const fn string(event: &'static str, parse: ParseWrite) -> Verb {
    Verb::Write(WriteVerb { shape: Shape::String, parse, event, deletes: false })
}

const fn set_of(event: &'static str, parse: ParseWrite) -> Verb {
    Verb::Write(WriteVerb { shape: Shape::Set, parse, event, deletes: false })
}

const fn list(event: &'static str, parse: ParseWrite) -> Verb {
    Verb::Write(WriteVerb { shape: Shape::List, parse, event, deletes: false })
}

/// GETDEL.
const fn deleted(parse: ParseWrite) -> Verb {
    Verb::Write(WriteVerb { shape: Shape::String, parse, event: "del", deletes: true })
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
    ("hset", hash("hset", |request, spec| write::put_fields(request, spec, ReplyForm::Created))),
    ("hmset", hash("hset", |request, spec| write::put_fields(request, spec, ReplyForm::Ok))),
    ("hsetnx", hash("hset", write::hsetnx)),
    ("hdel", hash("hdel", write::hdel)),
    ("hincrby", hash("hincrby", write::hincrby)),
    ("hincrbyfloat", hash("hincrbyfloat", write::hincrbyfloat)),
    ("set", string("set", set::set)),
    ("setex", string("set", |request, spec| set::setex(request, spec, 1000))),
    ("psetex", string("set", |request, spec| set::setex(request, spec, 1))),
    ("setnx", string("set", write::setnx)),
    ("getset", string("set", write::getset)),
    ("getdel", deleted(write::getdel)),
    ("append", string("append", write::append)),
    ("incr", string("incrby", |_, _| Ok(write::count_value(1)))),
    ("decr", string("incrby", |_, _| Ok(write::count_value(-1)))),
    ("incrby", string("incrby", write::incrby)),
    ("decrby", string("incrby", write::decrby)),
    ("incrbyfloat", string("incrbyfloat", write::incrbyfloat)),
    ("sadd", set_of("sadd", |request, _| Ok(write::members(request, true)))),
    ("srem", set_of("srem", |request, _| Ok(write::members(request, false)))),
    ("rpush", list("rpush", write::rpush)),
    ("lrem", list("lrem", write::lrem)),
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
