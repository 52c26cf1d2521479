//! The steps of a transaction and their results. Each result has its own copy of a record, which counts as memory of
//! the client until the client has been answered from it.

use std::ops::Deref;

use bytes::Bytes;

use crate::cache::writes::expire::ExpireOutcome;
use crate::keys::MappingId;
use crate::record::{ExpireCommand, KeyEvent, Record, Write, Written};
use crate::store::StoreError;
use crate::telemetry::client_memory::Gathered;

/// One command's part.
#[derive(Clone, Debug)]
pub struct Step {
    /// The mapping.
    pub mapping: MappingId,
    /// The key.
    pub key: Bytes,
    /// What is done to it.
    pub act: Act,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Reads the key.
    Read,
    /// Writes it.
    Write(Write),
    /// Changes when it expires, which its row says.
    ChangeTtl(ExpireCommand),
}

/// The result of a step.
#[derive(Clone, Debug)]
pub enum Done {
    /// A write, or why it was refused.
    Written(Result<Written, StoreError>),
    /// What the transaction read.
    Read(Option<Record>),
    /// The new expiry of a key.
    TtlChanged(ExpireOutcome),
}

impl Done {
    /// True when `act`, whose result this is, counts as a change of its key.
    pub(super) fn has_changed(&self, act: &Act) -> bool {
        match self {
            Self::Written(Ok(written)) => matches!(act, Act::Write(write) if written.has_changed(&write.edit)),
            Self::TtlChanged(outcome) => outcome.record.is_some() && matches!(outcome.life, Ok(Some(_))),
            Self::Written(Err(_)) | Self::Read(_) => false,
        }
    }

    /// What is told of `act`, whose result this is.
    pub(super) fn events(&self, act: &Act) -> Vec<KeyEvent> {
        match (act, self) {
            (Act::Write(write), Self::Written(Ok(written))) => write.events(written),
            (Act::ChangeTtl(_), Self::TtlChanged(ExpireOutcome { record: Some(_), life: Ok(Some(life)) })) => {
                life.event().into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// What it costs in memory, in bytes.
    fn weight(&self) -> usize {
        let records = match self {
            Self::Written(Ok(Written { old, new, .. })) => [old.as_ref(), new.as_ref()],
            Self::Written(Err(_)) => [None, None],
            Self::Read(record) | Self::TtlChanged(ExpireOutcome { record, .. }) => [record.as_ref(), None],
        };
        size_of::<Self>() + records.into_iter().flatten().map(Record::weight).sum::<usize>()
    }
}

/// The results of a transaction's steps, in their order.
#[derive(Debug, Default)]
pub struct AllDone {
    list: Vec<Done>,
    gathered: Gathered,
}

impl AllDone {
    /// No results yet; those that come count as `gathered`.
    pub(super) const fn new(gathered: Gathered) -> Self {
        Self { list: Vec::new(), gathered }
    }

    /// Adds the result of the next step.
    ///
    /// # Errors
    /// [`StoreError::TooMuch`].
    pub(super) fn push(&mut self, done: Done) -> Result<(), StoreError> {
        if !self.gathered.takes(done.weight()) {
            return Err(StoreError::TooMuch);
        }
        self.list.push(done);
        Ok(())
    }

    /// Drops the result of a step whose command has been answered.
    pub fn let_go(&mut self, step: usize) {
        if let Some(done) = self.list.get_mut(step) {
            let before = done.weight();
            *done = Done::Read(None);
            self.gathered.lets_go(before - done.weight());
        }
    }
}

impl Deref for AllDone {
    type Target = [Done];

    fn deref(&self) -> &[Done] {
        &self.list
    }
}
