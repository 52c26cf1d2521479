//! The last moments of a client while the sidecar shuts down: what it has sent is answered, it is closed between two
//! requests, and it gets every reply, however much it goes on sending.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::connection::{Connection, End, FAREWELL};
use crate::telemetry::clock::Tick;

/// Who has sent nothing for so long, in milliseconds, has nothing on its way.
const QUIET: u64 = 10;
/// The same for who has only just connected: it is about to ask something.
const FIRST: u64 = 500;
/// Who has sent nothing for so long after it was told that the connection ends will not be hurt by its end.
const SILENCE: Duration = Duration::from_millis(50);

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// True when the client has sent more that is to be answered before it is closed.
    pub(super) async fn asks_more(&mut self) -> Result<bool, End> {
        let now = Tick::now();
        let is_new = !self.peer.traffic.has_sent_any();
        let quiet = if is_new { FIRST.saturating_sub(self.peer.age(now)).max(QUIET) } else { QUIET };
        let patience = self.broadcast.drains().map_or(0, |last| quiet.min(last.since(now)));
        if patience == 0 || !self.has_room() {
            return Ok(false);
        }
        let more = poll_fn(|cx| {
            self.poll_output(cx)?;
            match self.peer.is_killed() {
                true => Poll::Ready(Err(End::Killed)),
                false => self.poll_read(cx),
            }
        });
        match tokio::time::timeout(Duration::from_millis(patience), more).await {
            Ok(read) => read.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Takes what the client sends after the connection was ended, until it ends it too or is silent. Nothing of it is
    /// done. A connection that is dropped with something unread is reset, and replies on their way would be lost.
    pub(super) async fn linger(&mut self) {
        let mut rest = [0; 1024];
        let silent =
            async { while let Ok(Ok(1..)) = tokio::time::timeout(SILENCE, self.stream.read(&mut rest)).await {} };
        let _late = tokio::time::timeout(FAREWELL, silent).await;
    }
}
