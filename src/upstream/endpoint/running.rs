//! Runs transactions of the sidecar's own at the upstream, each call over a connection that is opened for it.
//!
//! Invariant: while a call may still take effect that nobody waits for any more, its connection is unsettled, and no
//! other one begins. What is in a connection may be executed long after it was given up, over what clients have written
//! since (hazard 49): `settle` ends it at the server, and says so only when the server has.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};

use super::Endpoint;
use super::asking::{fault, in_time, open};
use super::target::Target;
use crate::telemetry::locked;
use crate::telemetry::random_id::fresh;

/// How long they may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The commands of a transaction, word by word.
pub type Transaction = Vec<Vec<Vec<u8>>>;

/// A connection with transactions whose outcome is not known, as its server knows it.
#[derive(Clone, Debug)]
struct Unsettled {
    target: Arc<Target>,
    id: i64,
    /// Ids begin again when a server does; this name does not come again.
    name: String,
}

/// The connection that is unsettled, if one is.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<Option<Unsettled>>);

impl Endpoint {
    /// Whether it has a key, in the database of `upstream.url`.
    ///
    /// # Errors
    /// Why it does not say so.
    pub async fn has_key(&self, key: &[u8]) -> Result<bool, String> {
        if self.is_several_as_one() {
            return Err("a cluster is not asked for single keys by the sidecar itself".to_owned());
        }
        let target = self.location.target().map_err(|error| error.to_string())?;
        let mut connection = open(&target, self.settings.connect_timeout).await?;
        let mut both = Pipeline::new();
        both.cmd("SELECT").arg(self.first_database()).ignore();
        both.cmd("EXISTS").arg(key);
        Ok(told(both.query_async::<Vec<i64>>(&mut connection)).await?.contains(&1))
    }

    /// Runs each of these transactions, in this order: MULTI, its commands, EXEC. What came of each of them.
    ///
    /// # Errors
    /// Why it is not known what came of them; any may have been run, or be run before [`Endpoint::settle`] has said
    /// that nothing is.
    pub async fn run_transactions(&self, transactions: &[Transaction]) -> Result<Vec<Result<(), String>>, String> {
        if self.is_several_as_one() {
            return Err("a cluster is not written to by the sidecar itself".to_owned());
        }
        if self.paused().is_some() {
            return Err("commands for the upstream are held back (HEARTHSIDE PAUSE)".to_owned());
        }
        self.settle().await?;
        let target = self.location.target().map_err(|error| error.to_string())?;
        let mut connection = open(&target, self.settings.connect_timeout).await?;
        let unsettled = greet(&mut connection, target, self.first_database()).await?;
        *locked(&self.running.0) = Some(unsettled);
        let pipeline = pipeline(transactions);
        let replies: Vec<Value> = told(pipeline.query_async(&mut connection)).await?;
        *locked(&self.running.0) = None;
        let mut replies = replies.iter();
        let outcome = |commands: &Transaction| {
            // MULTI, the commands, EXEC.
            let mut theirs = replies.by_ref().take(commands.len() + 2);
            let first = theirs.by_ref().find_map(fault);
            theirs.for_each(drop);
            first.map_or(Ok(()), |error| Err(error.to_string()))
        };
        Ok(transactions.iter().map(outcome).collect())
    }

    /// Returns when nothing is run any more of what was given up.
    ///
    /// # Errors
    /// The server does not say so.
    pub async fn settle(&self) -> Result<(), String> {
        let Some(Unsettled { target, id, name }) = locked(&self.running.0).clone() else { return Ok(()) };
        // What is run at another server is no matter any more.
        if self.location.target().is_ok_and(|now| now.host() == target.host()) {
            let mut connection = open(&target, self.settings.connect_timeout).await?;
            let about = |what| redis::cmd("CLIENT").arg(what).arg("ID").arg(id).to_owned();
            let listed: String = told(about("LIST").query_async(&mut connection)).await?;
            if listed.contains(&format!(" name={name} ")) {
                let _was_there: i64 = told(about("KILL").query_async(&mut connection)).await?;
            }
        }
        *locked(&self.running.0) = None;
        Ok(())
    }
}

/// Says who the connection is, so that it can be ended.
async fn greet(
    connection: &mut MultiplexedConnection,
    target: Arc<Target>,
    database: i64,
) -> Result<Unsettled, String> {
    let name = format!("hearthside-mirror-{:016x}", fresh());
    let mut greeting = Pipeline::new();
    greeting.cmd("SELECT").arg(database).ignore();
    greeting.cmd("CLIENT").arg("SETNAME").arg(&name).ignore();
    greeting.cmd("CLIENT").arg("ID");
    let (id,) = told(greeting.query_async::<(i64,)>(connection)).await?;
    Ok(Unsettled { target, id, name })
}

/// What a server answers in time.
async fn told<T>(asked: impl Future<Output = RedisResult<T>>) -> Result<T, String> {
    in_time(PATIENCE, async { asked.await.map_err(|error| error.to_string()) }).await
}

fn pipeline(transactions: &[Transaction]) -> Pipeline {
    let mut all = Pipeline::new();
    all.ignore_errors();
    for commands in transactions {
        all.cmd("MULTI");
        for words in commands {
            let mut command = Cmd::new();
            for word in words {
                command.arg(&word[..]);
            }
            all.add_command(command);
        }
        all.cmd("EXEC");
    }
    all
}
