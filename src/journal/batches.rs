//! Batches: what flushes take, and how it is noted what became of them.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::SeqCst;

use tokio::sync::oneshot;

use super::file::Taken;
use super::writer::Order;
use super::{Entry, Held, Journal, JournalError, gone, incarnation};

/// What a flush has taken. As long as it is there, the journal keeps the incarnation.
#[derive(Debug)]
pub struct Batch {
    /// Its number, above those of all batches that were taken before.
    pub number: u64,
    /// The name under which the store notes it: that of its strand.
    pub note: String,
    /// The incarnation under which it was taken.
    pub held: Held,
}

impl Journal {
    /// The incarnation, which stays as long as this is held. It must not be awaited while another one is held.
    pub async fn hold(&self) -> Held {
        self.incarnation.hold().await
    }

    /// True when the store has a note of this strand.
    #[must_use]
    pub fn is_enrolled(&self, strand: &str) -> bool {
        self.incarnation.is_enrolled(strand)
    }

    /// Notes that it has; the incarnation is held meanwhile.
    pub fn set_enrolled(&self, strand: &str) {
        self.incarnation.set_enrolled(strand);
    }

    /// Goes on under another incarnation than this one, which the store does not know yet. Waits until every batch
    /// that was taken under it is settled.
    ///
    /// # Errors
    /// [`JournalError`] when the system gives no random bytes.
    pub async fn renew(&self, former: &str) -> Result<(), JournalError> {
        self.incarnation.renew(former).await
    }

    /// Notes that a flush takes these entries, as the next batch of a strand.
    ///
    /// # Errors
    /// [`JournalError`]: then the flush must not go on.
    pub async fn take(&self, held: Held, strand: &str, entries: &[Entry]) -> Result<Batch, JournalError> {
        let (done, taken) = oneshot::channel();
        let number = {
            let _in_order = self.numbering.lock().unwrap_or_else(PoisonError::into_inner);
            let number = self.number()?;
            let (incarnation, entries) = (held.incarnation().clone(), entries.to_vec());
            let order = Order::Take(Taken { incarnation, batch: number, entries }, done);
            self.orders.send(order).map_err(|_| gone())?;
            number
        };
        taken.await.map_err(|_| gone())??;
        Ok(Batch { number, note: held.note(strand), held })
    }

    /// Forgets what a flush has taken and the store has applied.
    ///
    /// # Errors
    /// [`JournalError`]: the store still knows that the batch was applied.
    pub async fn applied(&self, batch: u64) -> Result<(), JournalError> {
        let freed = self.order(|done| Order::Applied(batch, done)).await?;
        self.room.free(freed);
        Ok(())
    }

    /// Gives back what a flush has taken and the store has not applied.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn give_back(&self, batch: u64) -> Result<(), JournalError> {
        self.order(|done| Order::GiveBack(batch, done)).await
    }

    /// A number for a flush, above all before. How far above is drawn each time (24 bits): two machines that go on from
    /// one memory, and with it from one incarnation, hardly ever take the same.
    ///
    /// # Errors
    /// [`JournalError`] when the system gives no random bytes.
    fn number(&self) -> Result<u64, JournalError> {
        let [a, b, c] = incarnation::random()?;
        let gap = u64::from(u32::from_le_bytes([a, b, c, 0]));
        Ok(self.next.fetch_add(gap + 1, SeqCst) + gap)
    }
}
