//! What one client holds in memory, wherever it lies, and how much may be asked for on its behalf (decision 0018).
//!
//! Invariants:
//! - bytes are counted where they arrive and where they leave, by whoever keeps them, and never by looking at them later;
//! - a client for which nothing is under way may always ask for something, unless it does not read: nothing waits for ever.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;

use super::ticket::wake;
use crate::telemetry::holding::Holding;

/// What a client holds is told to others from so many bytes on, and when it has changed by as many.
const TOLD: usize = 4096;
/// Bytes of replies that may be expected at once for one client: what a fast network carries in a round trip of a millisecond.
const MOST_EXPECTED: usize = 1 << 20;
/// Requests of one client that may be under way before the length of its replies is known, then, and after many short replies:
/// each of those makes room for one more while there is too little, so that what is under way doubles in a round trip.
const FIRST_ASKED: usize = 32;
const KNOWN_ASKED: usize = 512;
const MOST_ASKED: usize = 8 * 1024;
/// What a reply is expected to be before any has come. One of that length halves the room that short ones have made.
const UNKNOWN: usize = 4096;
/// Replies are expected to be of this length at least, and at most: a very long one is its client's own affair
/// ([`super::ticket::Ticket::is_bulky`]).
const SHORT: usize = 16;
const LONG: usize = 256 * 1024;
/// What a reply is expected to be falls by this part of the difference to one that is shorter.
const FALL: usize = 16;
/// A run ends when its replies are expected to be so many bytes, or at so many requests: between runs others have their turn.
const RUN: usize = 64 * 1024;
const RUN_REQUESTS: usize = 256;
/// A reply from so many bytes on is long, and so many bytes in long replies without a short one between are more than others
/// should wait behind.
const LONG_REPLY: usize = 64 * 1024;
const ROW: usize = 1 << 20;

/// What bytes that wait cost: what an allocator with four sizes for each doubling keeps for them, and a place in a queue.
pub(crate) fn cost(bytes: &Bytes) -> usize {
    let length = bytes.len();
    let step = (length.next_power_of_two() / 8).max(16);
    length.next_multiple_of(step) + 2 * size_of::<Bytes>()
}

/// Tells a lane that one of the clients it asks nothing for has room again.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Bell {
    /// The lane's task is woken when the bell rings, or by [`Bell::wake`].
    pub(crate) fn listen(&self, cx: &Context<'_>) {
        *self.waker.borrow_mut() = Some(cx.waker().clone());
    }

    pub(crate) fn wake(&self) {
        wake(&mut self.waker.borrow_mut());
    }

    fn ring(&self) {
        self.rung.set(true);
        self.wake();
    }

    /// True once after it has rung.
    pub(crate) const fn has_rung(&self) -> bool {
        self.rung.replace(false)
    }
}

/// One client's account.
#[derive(Debug)]
pub struct Account {
    /// Where the others see it; none for what is nobody's.
    holding: Option<Arc<Holding>>,
    /// Bytes in all, those of them that wait for the client to read, and what the others were told.
    holds: Cell<usize>,
    owes: Cell<usize>,
    told: Cell<usize>,
    /// What its connection told last: bytes that were read from it, and that wait to be written to it.
    connection: Cell<(usize, usize)>,
    /// Bytes in its tickets and its inbox.
    arrived: Cell<usize>,
    /// `limits.client_output`.
    most: Cell<usize>,
    /// Its socket takes nothing more.
    is_stalled: Cell<bool>,
    /// It has left: what it asked for holds nobody up.
    has_left: Cell<bool>,
    /// Replies that are under way on lanes.
    asked: Cell<usize>,
    /// Bytes of a reply, by the latest of them: quick to rise and slow to fall. Whether there has been one.
    typical: Cell<usize>,
    is_known: Cell<bool>,
    /// Replies that may be under way, and whether it would have asked for more.
    most_asked: Cell<usize>,
    asks_more: Cell<bool>,
    /// Bytes in long replies since the last short one, or since it had nothing else under way: who asks for one value after the
    /// other lets everybody have their turn.
    row: Cell<usize>,
    /// The lane on which requests of it wait for room.
    bell: RefCell<Option<Rc<Bell>>>,
    /// The task of its own connection, which waits until it has taken something.
    reader: RefCell<Option<Waker>>,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            holding: None,
            holds: Cell::default(),
            owes: Cell::default(),
            told: Cell::default(),
            connection: Cell::default(),
            arrived: Cell::default(),
            most: Cell::new(usize::MAX),
            is_stalled: Cell::default(),
            has_left: Cell::default(),
            asked: Cell::default(),
            typical: Cell::new(UNKNOWN),
            is_known: Cell::default(),
            most_asked: Cell::new(FIRST_ASKED),
            asks_more: Cell::default(),
            row: Cell::default(),
            bell: RefCell::default(),
            reader: RefCell::default(),
        }
    }
}

impl Account {
    /// The account of a client that others see as `holding`.
    #[must_use]
    pub fn of(holding: Arc<Holding>) -> Rc<Self> {
        Rc::new(Self { holding: Some(holding), ..Self::default() })
    }

    /// Past `most` bytes that wait for it to read, nothing more is asked for on its behalf.
    pub fn limit(&self, most: usize) {
        self.most.set(most);
    }

    /// Notes what its connection holds: bytes that were read from it, and bytes that wait to be written to it.
    pub fn connection(&self, read: usize, waiting: usize) {
        let (was_read, was_waiting) = self.connection.replace((read, waiting));
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

    /// More comes for a client that has much already; true when it is not kept, and the client is to go.
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
    pub(crate) fn came(&self, bytes: usize) {
        self.arrived.set(self.arrived.get() + bytes);
        self.owes.set(self.owes.get() + bytes);
        self.hold(bytes);
    }

    /// It has taken so many bytes of what came.
    pub(crate) fn took(&self, bytes: usize) {
        self.arrived.set(self.arrived.get() - bytes);
        self.owes.set(self.owes.get() - bytes);
        self.release(bytes);
        if self.reader.borrow().is_some() {
            wake(&mut self.reader.borrow_mut());
        }
        self.made_room();
    }

    /// So many bytes are kept for it.
    pub(crate) fn hold(&self, bytes: usize) {
        self.holds.set(self.holds.get() + bytes);
        self.tell();
    }

    pub(crate) fn release(&self, bytes: usize) {
        self.holds.set(self.holds.get() - bytes);
        self.tell();
    }

    /// Little is told of seldom: others see it to within 4 KiB.
    fn tell(&self) {
        let (holds, told) = (self.holds.get(), self.told.get());
        if holds.abs_diff(told) < TOLD && (holds >= TOLD || told == 0) {
            return;
        }
        let (holds, owes) = if holds < TOLD { (0, 0) } else { (holds, self.owes.get()) };
        self.told.set(holds);
        if let Some(holding) = &self.holding {
            holding.note(holds, owes);
        }
    }

    /// True when it has taken all but `most` bytes of what came.
    pub(crate) const fn is_up_with(&self, most: usize) -> bool {
        self.arrived.get() <= most || self.has_left.get()
    }

    /// The same; if it has not, the task of `cx` is woken when it takes some.
    pub(crate) fn poll_room(&self, most: usize, cx: &Context<'_>) -> bool {
        let has_room = self.is_up_with(most);
        if !has_room {
            *self.reader.borrow_mut() = Some(cx.waker().clone());
        }
        has_room
    }

    /// True when a lane may ask for more on its behalf.
    pub(crate) fn has_room(&self) -> bool {
        let most_asked = self.most_asked.get();
        let (asked, expected) = (self.asked.get(), self.asked.get().saturating_mul(self.typical.get()));
        let is_reading = self.owes.get().saturating_add(expected) < self.most.get();
        let waits_for_nothing = asked == 0 && !self.is_stalled.get();
        self.asks_more.set(asked >= most_asked);
        self.has_left.get() || waits_for_nothing || is_reading && asked < most_asked && expected < MOST_EXPECTED
    }

    /// Requests of it wait on a lane until it has room; they come before all others of it.
    pub(crate) fn waits(&self, bell: &Rc<Bell>) {
        *self.bell.borrow_mut() = Some(bell.clone());
    }

    pub(crate) fn waits_no_more(&self) {
        self.bell.borrow_mut().take();
    }

    /// True while requests of it wait for room.
    pub(crate) fn is_waiting(&self) -> bool {
        self.bell.borrow().is_some()
    }

    fn made_room(&self) {
        if let Some(bell) = &*self.bell.borrow()
            && self.has_room()
        {
            bell.ring();
        }
    }

    /// A run of so many requests is long enough.
    #[must_use]
    pub const fn is_run(&self, requests: usize) -> bool {
        requests >= RUN_REQUESTS || requests * self.typical.get() >= RUN
    }

    /// Bytes that one more of its replies is expected to be.
    pub(crate) const fn typical(&self) -> usize {
        self.typical.get()
    }

    /// A reply of `length` bytes has come; true when others should not have to wait behind the next.
    pub(crate) fn saw(&self, length: usize) -> bool {
        let before = if self.asked.get() > 1 { self.row.get() } else { 0 };
        let row = if length < LONG_REPLY { 0 } else { before + length };
        self.row.set(row);
        if length >= UNKNOWN || !self.is_known.replace(true) {
            self.most_asked.set((self.most_asked.get() / 2).max(KNOWN_ASKED));
        } else if self.asks_more.get() {
            self.most_asked.set((self.most_asked.get() + 1).min(MOST_ASKED));
        }
        let (length, typical) = (length.clamp(SHORT, LONG), self.typical.get());
        self.typical.set(if length > typical {
            usize::midpoint(length, typical)
        } else {
            typical - (typical - length) / FALL
        });
        row >= ROW
    }

    /// A reply is longer than `length` bytes, and there is more to come.
    pub(crate) fn sees(&self, length: usize) {
        self.is_known.set(true);
        self.most_asked.set((self.most_asked.get() / 2).max(KNOWN_ASKED));
        self.typical.set(self.typical.get().max(length.min(LONG)));
    }
}

/// Requests of a client on their way: what they cost it, until they are dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    account: Rc<Account>,
    bytes: usize,
    asked: usize,
}

impl Charge {
    pub(crate) fn new(account: Rc<Account>, bytes: usize) -> Self {
        account.hold(bytes);
        Self { account, bytes, asked: 0 }
    }

    pub(crate) const fn account(&self) -> &Rc<Account> {
        &self.account
    }

    /// They are sent, and will have so many replies; the bytes that those are expected to be.
    pub(crate) fn send(&mut self, replies: usize) -> usize {
        self.asked = replies;
        self.account.asked.set(self.account.asked.get() + replies);
        replies * self.account.typical()
    }

    /// Nothing is under way for them.
    pub(crate) fn settle(&mut self) {
        self.account.asked.set(self.account.asked.get() - std::mem::take(&mut self.asked));
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

    /// So many bytes, no longer those of before.
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

    use super::{Account, Charge, FIRST_ASKED, KNOWN_ASKED, MOST_ASKED, UNKNOWN};
    use crate::telemetry::holding::Holding;

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
    fn who_is_unknown_asks_for_little_and_short_replies_open_the_window() {
        let account = std::rc::Rc::new(Account::default());
        assert_eq!((requests(&account), account.is_run(15), account.is_run(16)), (FIRST_ASKED, false, true));
        assert!(account.has_room());
        (0..1000).for_each(|_| assert!(!account.saw(5)));
        assert_eq!((requests(&account), account.is_run(255), account.is_run(256)), (KNOWN_ASKED, false, true));
        (0..10).for_each(|_| assert!(account.saw(1 << 20)));
        assert_eq!((requests(&account), account.is_run(1)), (5, true));
    }

    #[test]
    fn who_would_ask_for_more_may_after_short_replies_and_a_long_one_halves_it() {
        let account = std::rc::Rc::new(Account::default());
        (0..1000).for_each(|_| assert!(!account.saw(5)));
        for expected in [512, 1024, 2048, 4096, MOST_ASKED, MOST_ASKED] {
            let asked = requests(&account);
            assert_eq!(asked, expected);
            (0..asked).for_each(|_| assert!(!account.saw(5)));
        }
        account.saw(UNKNOWN);
        (0..1000).for_each(|_| assert!(!account.saw(5)));
        assert_eq!(account.most_asked.get(), MOST_ASKED / 2 + 1000, "it still asks for more");
        (0..10).for_each(|_| assert!(!account.saw(UNKNOWN)));
        assert_eq!(account.most_asked.get(), KNOWN_ASKED);
    }

    #[test]
    fn many_long_replies_in_a_row_are_as_one_that_is_very_long() {
        let account = std::rc::Rc::new(Account::default());
        let mut charge = Charge::new(account.clone(), 0);
        charge.send(20);
        let seen: Vec<bool> = [100_000; 11].map(|length| account.saw(length)).into();
        assert_eq!(seen.iter().position(|is_bulky| *is_bulky), Some(10));
        account.saw(10);
        assert!(!account.saw(100_000));
        charge.settle();
        charge.send(1);
        assert!((0..20).all(|_| !account.saw(100_000)), "one after the other holds nobody up");
    }

    #[test]
    fn who_does_not_read_asks_for_nothing_more_until_it_does() {
        let account = std::rc::Rc::new(Account::default());
        account.limit(1000);
        (0..1000).for_each(|_| assert!(!account.saw(5)));
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
