//! What a client holds while its requests are under way: their replies come from here, in order, together with the push
//! messages that came between them.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::account::{Account, Kept};
use super::cluster::Merged;
use super::lane_ticket::{Broken, Chunk, LaneTicket, SLICE};
use crate::resp::pieces::Pieces;

/// The client's side of a batch.
#[derive(Debug)]
pub enum Ticket {
    /// Everything went over one connection.
    Lane(LaneTicket),
    /// Each request went to its node of a cluster.
    Merged(Box<Merged>),
}

impl Ticket {
    /// The next bytes; `None` after the last.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Broken>> {
        match self {
            Self::Lane(ticket) => ticket.poll_chunk(cx),
            Self::Merged(merged) => merged.poll_chunk(cx),
        }
    }

    /// Only push messages arrive, whatever has come already: what cannot be sent is answered at once.
    pub fn mute(&mut self) {
        match self {
            Self::Lane(ticket) => ticket.mute(),
            Self::Merged(merged) => merged.mute(),
        }
    }

    /// True when one of its replies was so long that the client should not share a connection.
    #[must_use]
    pub fn is_bulky(&self) -> bool {
        match self {
            Self::Lane(ticket) => ticket.is_bulky(),
            Self::Merged(merged) => merged.is_bulky(),
        }
    }

    fn account(&self) -> Rc<Account> {
        match self {
            Self::Lane(ticket) => ticket.account(),
            Self::Merged(merged) => merged.account(),
        }
    }

    /// All replies at once, for the few that the sidecar reads itself.
    ///
    /// # Errors
    /// [`Broken`].
    pub async fn whole(self) -> Result<Bytes, Broken> {
        Ok(self.parts().await?.0.whole())
    }

    /// All replies at once, and the push messages that came before or between them.
    ///
    /// # Errors
    /// [`Broken`], also when they are more than may be kept for the client, which is to go.
    pub async fn parts(mut self) -> Result<(Pieces, Bytes), Broken> {
        let (mut replies, mut pushes) = (Pieces::default(), BytesMut::new());
        let account = self.account();
        let mut kept = Kept::new(account.clone());
        while let Some(chunk) = std::future::poll_fn(|cx| self.poll_chunk(cx)).await? {
            if account.overflows() {
                return Err(Broken);
            }
            match chunk {
                Chunk::Reply(bytes) if bytes.len() < SLICE => replies.tail().extend_from_slice(&bytes),
                Chunk::Reply(bytes) => replies.share(bytes),
                Chunk::Push(bytes) => pushes.extend_from_slice(&bytes),
            }
            replies.settle();
            kept.are(replies.len() + pushes.len());
        }
        Ok((replies, pushes.freeze()))
    }
}
