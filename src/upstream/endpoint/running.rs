//! Runs transactions of the sidecar's own at the upstream, over a connection that is opened for them.

use std::time::Duration;

use redis::{Cmd, Pipeline, Value};

use super::Endpoint;
use super::asking::{in_time, open};

/// How long they may take.
const PATIENCE: Duration = Duration::from_secs(2);

impl Endpoint {
    /// Runs each of these transactions, in this order: MULTI, its commands, EXEC.
    ///
    /// # Errors
    /// Why not all of them have been run; any may have been.
    pub async fn run_transactions(&self, transactions: &[Vec<Vec<Vec<u8>>>]) -> Result<(), String> {
        if self.is_several_as_one() {
            return Err("a cluster is not written to by mirror".to_owned());
        }
        let target = self.location.target().map_err(|error| error.to_string())?;
        let mut connection = open(&target, self.settings.connect_timeout).await?;
        let mut all = Pipeline::new();
        all.cmd("SELECT").arg(self.first_database());
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
        let ran = async { all.query_async::<Vec<Value>>(&mut connection).await.map_err(|error| error.to_string()) };
        let replies = in_time(PATIENCE, ran).await?;
        replies.iter().find_map(fault).map_or(Ok(()), Err)
    }
}

/// The first error in a reply.
fn fault(reply: &Value) -> Option<String> {
    match reply {
        Value::ServerError(error) => Some(error.to_string()),
        Value::Array(parts) => parts.iter().find_map(fault),
        _ => None,
    }
}
