//! Ends what waits at a server that is not the upstream any more: that server says then whether it has given something
//! already, or nothing, and in that case whoever waits can wait on where the upstream is now.

use std::time::Duration;

use super::Endpoint;
use super::asking::open;

/// A request may still be on its way when its wait is to end: that is asked for again after so long.
pub const UNBLOCK_AGAIN: Duration = Duration::from_millis(50);

/// True of the reply to a request whose wait was ended: it has been given nothing.
#[must_use]
pub fn is_unblocked(reply: &[u8]) -> bool {
    reply.starts_with(b"-UNBLOCKED")
}

impl Endpoint {
    /// Once the upstream has moved away from the location of this number, asks the server there to end what waits on
    /// its connection `id`, until that has ended. Returns if the server cannot be asked.
    ///
    /// Source: <https://redis.io/docs/latest/commands/client-unblock/>
    pub(in crate::upstream) async fn end_wait_before(&self, generation: u64, id: Option<i64>) {
        self.location.lookout(generation).moved().await;
        let (Some(id), Some(target)) = (id, self.location.target_before(generation)) else { return };
        let Ok(mut questions) = open(&target, self.settings.connect_timeout).await else { return };
        let mut unblock = redis::cmd("CLIENT");
        unblock.arg("UNBLOCK").arg(id).arg("ERROR");
        while unblock.query_async::<i64>(&mut questions).await.is_ok() {
            tokio::time::sleep(UNBLOCK_AGAIN).await;
        }
    }
}
