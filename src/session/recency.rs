//! What one client has written and read lately, where reads may go to replicas: when it may be answered with what was
//! there a moment ago, and what a write of it must wait for.

use crate::telemetry::clock::Tick;

/// Of one client.
#[derive(Debug, Default)]
pub struct Recency {
    /// The last request was something else than a read.
    is_write: bool,
    /// So was one that has not been answered yet.
    is_writing: bool,
    /// When the last such one was answered.
    wrote: Option<Tick>,
    /// Reads have been sent to replicas that have not been answered yet.
    is_reading: bool,
}

impl Recency {
    /// True for a client that has written nothing for more than `lag` milliseconds.
    #[must_use]
    pub fn may_lag(&self, now: Tick, lag: u64) -> bool {
        !self.is_writing && self.wrote.is_none_or(|wrote| now.since(wrote) > lag)
    }

    /// It asks for something that is no read, or for a read.
    pub const fn asks(&mut self, is_write: bool) {
        self.is_write = is_write;
        self.is_writing |= is_write;
    }

    /// True when the last request is something else than a read.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        self.is_write
    }

    /// Reads are sent that replicas may answer.
    pub const fn reads(&mut self) {
        self.is_reading = true;
    }

    /// True while reads are under way at replicas. A write that is sent meanwhile could be seen by them.
    #[must_use]
    pub const fn is_reading(&self) -> bool {
        self.is_reading
    }

    /// True when it is to be told when everything has been answered.
    #[must_use]
    pub const fn is_writing(&self) -> bool {
        self.is_writing
    }

    /// Everything has been answered, at this moment.
    pub const fn settles(&mut self, at: Tick) {
        self.is_reading = false;
        if self.is_writing {
            (self.is_writing, self.wrote) = (false, Some(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Recency, Tick};

    #[test]
    fn a_client_reads_what_it_wrote() {
        let (mut recency, at) = (Recency::default(), Tick::from_ms);
        assert!(recency.may_lag(at(0), 1000));
        recency.asks(true);
        recency.asks(false);
        assert!(!recency.may_lag(at(9000), 1000), "it has not been answered");
        recency.settles(at(9000));
        assert!(!recency.may_lag(at(10_000), 1000));
        assert!(recency.may_lag(at(10_001), 1000));
        recency.settles(at(20_000));
        assert!(recency.may_lag(at(20_000), 1000), "only a write counts");
    }
}
