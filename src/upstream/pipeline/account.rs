//! Counts what one client holds in memory, wherever it lies (decision 0018). How much may be requested on its behalf
//! follows from that and from its window (`client_window.rs`).
//!
//! Invariants:
//! - bytes are counted where they arrive and where they leave, by whoever keeps them, and never by looking at them
//!   later;
//! - a client for which nothing is under way may always ask for something, unless it does not read: nothing waits for
//!   ever.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;

use super::client_window::ClientWindow;
use super::lane_waker::{LaneWaker, wake};
use crate::telemetry::client_memory::Holding;
use crate::telemetry::traces::CurrentTrace;

/// What a client holds is reported to other threads from so many bytes on, and whenever it has changed by as many.
const REPORTED_FROM: usize = 4096;
/// What bytes that wait cost: what an allocator with four sizes for each doubling keeps for them, and a place in a
/// queue.
pub(super) fn cost(bytes: &Bytes) -> usize {
    let length = bytes.len();
    let step = (length.next_power_of_two() / 8).max(16);
    length.next_multiple_of(step) + 2 * size_of::<Bytes>()
}

/// One client's account.
#[derive(Debug)]
pub struct Account {
    /// Where other threads see it; none for what belongs to no client.
    holding: Option<Arc<Holding>>,
    /// The client's name, which its own connections have at the upstream, too.
    name: RefCell<Bytes>,
    /// Bytes in all, those of them that wait for the client to read, and the number that was last reported.
    holds: Cell<usize>,
    owes: Cell<usize>,
    reported: Cell<usize>,
    /// What its connection last reported: bytes that were read from it, and bytes that wait to be written to it.
    connection: Cell<(usize, usize)>,
    /// Bytes in its tickets and its inbox.
    arrived: Cell<usize>,
    /// `limits.client_output`.
    most: Cell<usize>,
    /// Its socket takes nothing more.
    is_stalled: Cell<bool>,
    /// It has left: its requests must not delay others.
    has_left: Cell<bool>,
    /// How much may be requested on its behalf.
    pub(super) window: ClientWindow,
    /// The lanes on which requests of it wait for room.
    lane_wakers: RefCell<Vec<Rc<LaneWaker>>>,
    /// The task of its own connection, which waits until it has taken something.
    reader: RefCell<Option<Waker>>,
    /// What is traced of its command that is taken now.
    pub trace: CurrentTrace,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            holding: None,
            name: RefCell::default(),
            holds: Cell::default(),
            owes: Cell::default(),
            reported: Cell::default(),
            connection: Cell::default(),
            arrived: Cell::default(),
            most: Cell::new(usize::MAX),
            is_stalled: Cell::default(),
            has_left: Cell::default(),
            window: ClientWindow::default(),
            lane_wakers: RefCell::default(),
            reader: RefCell::default(),
            trace: CurrentTrace::default(),
        }
    }
}

impl Account {
    /// The account of a client that others see as `holding`.
    #[must_use]
    pub fn of(holding: Arc<Holding>) -> Rc<Self> {
        Rc::new(Self { holding: Some(holding), ..Self::default() })
    }

    /// The client has this name from now on.
    pub fn rename(&self, name: Bytes) {
        self.name.replace(name);
    }

    /// The client's name.
    pub(crate) fn name(&self) -> Bytes {
        self.name.borrow().clone()
    }

    /// Past `most` bytes that wait for it to read, nothing more is asked for on its behalf.
    pub fn limit(&self, most: usize) {
        self.most.set(most);
    }

    /// Notes what its connection holds: bytes that were read from it, and bytes that wait to be written to it.
    pub fn connection(&self, read: usize, waiting: usize) {
        let (was_read, was_waiting) = self.connection.replace((read, waiting));
        if (read, waiting) == (was_read, was_waiting) {
            return;
        }
        self.holds.set(self.holds.get() + read + waiting - was_read - was_waiting);
        self.owes.set(self.owes.get() + waiting - was_waiting);
        if waiting < was_waiting {
            self.made_room();
        }
        self.tell();
    }

    /// Notes whether its socket takes something.
    pub fn stalls(&self, is_stalled: bool) {
        self.is_stalled.set(is_stalled);
        self.made_room();
    }

    /// It has left; what is still under way for it is read and dropped.
    pub fn leave(&self) {
        self.connection(0, 0);
        self.has_left.set(true);
        self.made_room();
        wake(&mut self.reader.borrow_mut());
    }

    /// More comes for a client that holds much already; true when it is not kept, and the client must be closed.
    pub fn overflows(&self) -> bool {
        let Some(holding) = &self.holding else { return false };
        if holding.is_too_much(self.holds.get(), self.most.get()) {
            holding.cut();
        }
        holding.is_cut()
    }

    /// Bytes that wait for it to read.
    #[must_use]
    pub const fn owes(&self) -> usize {
        self.owes.get()
    }

    /// A reply or message of so many bytes has come.
    pub(super) fn came(&self, bytes: usize) {
        self.arrived.set(self.arrived.get() + bytes);
        self.owes.set(self.owes.get() + bytes);
        self.hold(bytes);
    }

    /// It has taken so many bytes of what came.
    pub(super) fn took(&self, bytes: usize) {
        self.arrived.set(self.arrived.get() - bytes);
        self.owes.set(self.owes.get() - bytes);
        self.release(bytes);
        if self.reader.borrow().is_some() {
            wake(&mut self.reader.borrow_mut());
        }
        self.made_room();
    }

    /// So many bytes are kept for it.
    pub(super) fn hold(&self, bytes: usize) {
        self.holds.set(self.holds.get() + bytes);
        self.tell();
    }

    pub(super) fn release(&self, bytes: usize) {
        self.holds.set(self.holds.get() - bytes);
        self.tell();
    }

    /// Small changes are not reported: other threads see the number to within 4 KiB.
    fn tell(&self) {
        let (holds, reported) = (self.holds.get(), self.reported.get());
        if let Some(holding) = &self.holding {
            holding.note_now(holds, self.owes.get());
        }
        if holds.abs_diff(reported) < REPORTED_FROM && (holds >= REPORTED_FROM || reported == 0) {
            return;
        }
        let (holds, owes) = if holds < REPORTED_FROM { (0, 0) } else { (holds, self.owes.get()) };
        self.reported.set(holds);
        if let Some(holding) = &self.holding {
            holding.note(holds, owes);
        }
    }

    /// True when it has taken all but `most` bytes of what came.
    pub(super) const fn is_up_with(&self, most: usize) -> bool {
        self.arrived.get() <= most || self.has_left.get()
    }

    /// The same; if it has not, the task of `cx` is woken when it takes some.
    pub(super) fn poll_room(&self, most: usize, cx: &Context<'_>) -> bool {
        let has_room = self.is_up_with(most);
        if !has_room {
            *self.reader.borrow_mut() = Some(cx.waker().clone());
        }
        has_room
    }

    /// True when a lane may ask for more on its behalf.
    pub(super) fn has_room(&self) -> bool {
        let is_within = self.window.has_room();
        let is_reading = self.owes.get().saturating_add(self.window.expected()) < self.most.get();
        let waits_for_nothing = self.window.is_empty() && !self.is_stalled.get();
        self.has_left.get() || waits_for_nothing || is_reading && is_within
    }

    /// Requests of it wait on a lane until it has room; they come before all others of it there.
    pub(super) fn waits(&self, lane_waker: &Rc<LaneWaker>) {
        self.lane_wakers.borrow_mut().push(lane_waker.clone());
    }

    /// None of its requests waits on this lane any more.
    pub(super) fn waits_no_more(&self, lane_waker: &Rc<LaneWaker>) {
        self.lane_wakers.borrow_mut().retain(|known| !Rc::ptr_eq(known, lane_waker));
    }

    /// True while requests of it wait for room, on any lane.
    pub(super) fn is_waiting(&self) -> bool {
        !self.lane_wakers.borrow().is_empty()
    }

    fn made_room(&self) {
        let lane_wakers = self.lane_wakers.borrow();
        if !lane_wakers.is_empty() && self.has_room() {
            lane_wakers.iter().for_each(|lane_waker| lane_waker.announce_room());
        }
    }

    /// A batch of so many requests is long enough.
    #[must_use]
    pub const fn is_batch(&self, requests: usize) -> bool {
        self.window.is_batch(requests)
    }
}

/// Requests of a client on their way: what they cost it, until they are dropped.
#[derive(Debug)]
pub(super) struct Charge {
    account: Rc<Account>,
    bytes: usize,
    asked: usize,
}

impl Charge {
    pub(super) fn new(account: Rc<Account>, bytes: usize) -> Self {
        account.hold(bytes);
        Self { account, bytes, asked: 0 }
    }

    pub(super) const fn account(&self) -> &Rc<Account> {
        &self.account
    }

    /// They are sent, and will have so many replies; the bytes that those are expected to be.
    pub(super) fn send(&mut self, replies: usize) -> usize {
        self.asked = replies;
        self.account.window.open(replies)
    }

    /// Nothing is under way for them.
    pub(super) fn settle(&mut self) {
        self.account.window.close(std::mem::take(&mut self.asked));
        self.account.made_room();
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.release(self.bytes);
        self.settle();
    }
}

/// Bytes that somebody gathers for a client, which waits for them.
#[derive(Debug)]
pub struct Kept {
    account: Rc<Account>,
    bytes: usize,
}

impl Kept {
    /// None yet.
    #[must_use]
    pub const fn new(account: Rc<Account>) -> Self {
        Self { account, bytes: 0 }
    }

    /// Counts so many bytes instead of those before.
    pub fn are(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        self.account.holds.set(self.account.holds.get() + bytes - before);
        self.account.owes.set(self.account.owes.get() + bytes - before);
        if bytes < before {
            self.account.made_room();
        }
        self.account.tell();
    }

    /// So many more bytes.
    pub fn more(&mut self, bytes: usize) {
        self.are(self.bytes + bytes);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.are(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Account, Charge};
    use crate::telemetry::client_memory::Holding;

    /// Requests that may be asked for one by one.
    fn requests(account: &std::rc::Rc<Account>) -> usize {
        let ask = || {
            account.has_room().then(|| {
                let mut charge = Charge::new(account.clone(), 0);
                charge.send(1);
                charge
            })
        };
        std::iter::from_fn(ask).collect::<Vec<_>>().len()
    }

    #[test]
    fn who_does_not_read_asks_for_nothing_more_until_it_does() {
        let account = std::rc::Rc::new(Account::default());
        account.limit(1000);
        (0..1000).for_each(|_| assert!(!account.window.saw(5)));
        account.came(2000);
        assert_eq!(requests(&account), 1, "its socket may take what it has; one more may always be asked for");
        account.stalls(true);
        assert_eq!(requests(&account), 0);
        account.took(1500);
        assert_ne!(requests(&account), 0);
    }

    #[test]
    fn others_see_what_it_holds_to_within_a_few_kilobytes() {
        let holding = Arc::new(Holding::default());
        let account = Account::of(holding.clone());
        account.came(4000);
        assert_eq!(holding.holds(), 0);
        account.came(4000);
        assert_eq!((holding.holds(), holding.owes()), (8000, 8000));
        let charge = Charge::new(account.clone(), 50_000);
        account.connection(100, 10_000);
        assert_eq!((holding.holds(), holding.owes()), (68_100, 18_000));
        account.took(8000);
        drop(charge);
        account.leave();
        assert_eq!((holding.holds(), holding.owes()), (0, 0));
    }
}
