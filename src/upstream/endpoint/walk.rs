//! Reads the keys of the upstream for the sidecar itself: which there are, and what they hold, over connections of the
//! `redis` crate that are opened for it. In a cluster each server that owns slots is asked.

use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};

use super::asking::{fault, open};
use super::cluster;
use super::not_told::NotTold;
use super::replicas;
use super::sentinel;
use super::target::Target;
use super::topology::Topology;

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// Its parts, as the command that was asked for gives them, and the milliseconds that it has to live.
    Value(Vec<Bytes>, Option<i64>),
    /// There is no such key.
    Nothing,
    /// A value of another type.
    OtherType,
    /// Another server has it, or is about to.
    Elsewhere,
}

/// The servers that own keys, and how slots of a cluster lie.
#[derive(Debug)]
pub struct Owners {
    /// Each of them.
    pub servers: Vec<KeyServer>,
    /// Is the same as long as no slot moves.
    pub layout: String,
}

/// A server that owns keys.
#[derive(Debug)]
pub struct KeyServer {
    connection: MultiplexedConnection,
    /// The process that answers, as it calls itself; empty where its user may not ask.
    pub run: String,
}

impl Owners {
    /// Finds them, and opens a connection to each. Opening one, and each answer, may take so long.
    ///
    /// # Errors
    /// Why one of them does not answer.
    pub async fn find(topology: &Topology, timeout: Duration) -> Result<Self, NotTold> {
        let (targets, layout) = match topology {
            Topology::Single(target) => (vec![target.clone()], String::new()),
            Topology::Hosts(servers) => one(replicas::find(servers, timeout).await)?,
            Topology::Sentinels(sentinels) => one(sentinel::find(sentinels, timeout).await)?,
            Topology::Cluster(members) => cluster::owners(members, timeout).await?,
        };
        let mut servers = Vec::with_capacity(targets.len());
        for target in targets {
            servers.push(KeyServer::open(&target, topology.db(), timeout).await?);
        }
        Ok(Self { servers, layout })
    }
}

fn one(found: Result<(Target, Vec<String>), String>) -> Result<(Vec<Target>, String), NotTold> {
    found.map(|(target, _)| (vec![target], String::new())).map_err(NotTold::Silent)
}

impl KeyServer {
    /// A step of SCAN looks at so many keys, whoever's they are.
    pub const STEP: u64 = 1000;

    async fn open(target: &Target, db: i64, timeout: Duration) -> Result<Self, NotTold> {
        let name = target.name();
        let its = |why: String| NotTold::Silent(format!("{name}: {why}"));
        let mut connection = open(target, timeout).await.map_err(its)?;
        if db != 0 {
            redis::cmd("SELECT").arg(db).query_async::<()>(&mut connection).await?;
        }
        let told: Option<String> = redis::cmd("INFO").arg("server").query_async(&mut connection).await.ok();
        let run = told.and_then(|told| Some(told.lines().find_map(|line| line.strip_prefix("run_id:"))?.to_owned()));
        Ok(Self { connection, run: run.unwrap_or_default() })
    }

    /// How many keys it has in its database.
    ///
    /// # Errors
    /// [`NotTold`].
    pub async fn count(&mut self) -> Result<u64, NotTold> {
        Ok(redis::cmd("DBSIZE").query_async(&mut self.connection).await?)
    }

    /// Its databases that have keys, by their numbers, with how many.
    ///
    /// # Errors
    /// [`NotTold`].
    pub async fn databases(&mut self) -> Result<Vec<(i64, u64)>, NotTold> {
        let told: String = redis::cmd("INFO").arg("keyspace").query_async(&mut self.connection).await?;
        Ok(told.lines().filter_map(database).collect())
    }

    /// Some of its keys, and where to go on; 0: these were the last.
    ///
    /// # Errors
    /// [`NotTold`].
    pub async fn scan(&mut self, cursor: u64, glob: &[u8]) -> Result<(u64, Vec<Bytes>), NotTold> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(glob).arg("COUNT").arg(Self::STEP);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut self.connection).await?;
        Ok((next, keys.into_iter().map(Bytes::from).collect()))
    }

    /// What each of these keys holds, as a command gives it that has these words behind the key; its value and its time
    /// to live are of one moment.
    ///
    /// # Errors
    /// [`NotTold`].
    pub async fn read(&mut self, command: &str, behind: &[&str], keys: &[Bytes]) -> Result<Vec<Held>, NotTold> {
        let mut all = Pipeline::with_capacity(keys.len() * 4);
        all.ignore_errors();
        for key in keys {
            all.cmd("MULTI").cmd(command).arg(&key[..]).arg(behind).cmd("PTTL").arg(&key[..]).cmd("EXEC");
        }
        let replies: Vec<Value> = all.query_async(&mut self.connection).await?;
        replies.chunks(4).map(held).collect()
    }
}

/// A line of INFO keyspace: `db1:keys=2,expires=0,avg_ttl=0`.
/// Source: <https://redis.io/docs/latest/commands/info/>
fn database(line: &str) -> Option<(i64, u64)> {
    let (number, told) = line.trim().strip_prefix("db")?.split_once(":keys=")?;
    Some((number.parse().ok()?, told.split(',').next()?.parse().ok()?))
}

/// What the replies to one transaction say.
fn held(replies: &[Value]) -> Result<Held, NotTold> {
    // Of a command: that of EXEC alone says only that there was another one.
    if let Some(error) = replies.iter().find_map(fault) {
        return match error.code() {
            "WRONGTYPE" => Ok(Held::OtherType),
            "MOVED" | "ASK" | "TRYAGAIN" => Ok(Held::Elsewhere),
            _ => Err(error.into()),
        };
    }
    let Some(Value::Array(told)) = replies.last() else {
        return Err(NotTold::Silent("a transaction had no answer".to_owned()));
    };
    match &told[..] {
        [_, Value::Int(-2)] => Ok(Held::Nothing),
        [value, Value::Int(left)] => Ok(Held::Value(parts(value)?, (*left >= 0).then_some(*left))),
        _ => Err(NotTold::Silent("a transaction was answered with something else".to_owned())),
    }
}

fn parts(value: &Value) -> Result<Vec<Bytes>, NotTold> {
    match value {
        Value::BulkString(text) => Ok(vec![Bytes::copy_from_slice(text)]),
        Value::SimpleString(text) => Ok(vec![Bytes::copy_from_slice(text.as_bytes())]),
        Value::Array(several) | Value::Set(several) => {
            let each: Result<Vec<Vec<Bytes>>, NotTold> = several.iter().map(parts).collect();
            Ok(each?.concat())
        }
        Value::Nil => Ok(Vec::new()),
        _ => Err(NotTold::Silent("a value is neither texts nor a list of them".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use redis::Value;

    use super::{Held, database, held};

    #[test]
    fn databases_are_read_with_their_keys() {
        for (line, expected) in [
            ("db1:keys=20,expires=3,avg_ttl=0\r", Some((1, 20))),
            ("db12:keys=1,expires=0,avg_ttl=0,subexpiry=0", Some((12, 1))),
            ("# Keyspace", None),
            ("db0_distrib_strings_sizes:1=2", None),
        ] {
            assert_eq!(database(line), expected, "{line}");
        }
    }

    fn told(value: Value, left: i64) -> Vec<Value> {
        let queued = || Value::SimpleString("QUEUED".into());
        vec![Value::Okay, queued(), queued(), Value::Array(vec![value, Value::Int(left)])]
    }

    #[test]
    fn what_a_key_holds_is_read_with_its_time_to_live() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let both = Value::Array(vec![text("f"), text("")]);
        let parts = vec![Bytes::from_static(b"f"), Bytes::new()];
        assert_eq!(held(&told(both.clone(), -1)), Ok(Held::Value(parts.clone(), None)));
        assert_eq!(held(&told(both, 50)), Ok(Held::Value(parts, Some(50))));
        assert_eq!(held(&told(Value::Array(vec![]), -2)), Ok(Held::Nothing));
        assert!(held(&told(Value::Int(3), -1)).is_err());
    }
}
