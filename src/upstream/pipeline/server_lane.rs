//! A lane: one persistent connection that all clients of a group share, as they see it. Its task is in `driver.rs`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::account::Account;
use super::batch::Batch;
use super::driver::{Driver, Lease};
use super::flight::Flight;
use super::lane_ticket::{LaneTicket, ticket};
use super::queue::{Progress, Queue};
use crate::errors;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::connect::Connected;
use crate::upstream::endpoint::group::Group;

/// A handle on a lane. Cloning it is cheap; the lane's task ends when the last handle is gone.
#[derive(Clone, Debug)]
pub struct ServerLane {
    pub(crate) queue: Rc<RefCell<Queue>>,
    pub(super) most_bytes: usize,
    pub(super) seat: Rc<Seat>,
    /// `upstream.lane_patience`, on a lane that its client may leave for another.
    pub(crate) patience: Option<Duration>,
    /// It is not the one that its client begins with.
    pub(super) is_other: bool,
}

/// A client's place on a lane.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// Where it stands among the others.
    turn: Cell<u64>,
    account: Rc<Account>,
}

impl Seat {
    fn of(account: Rc<Account>) -> Rc<Self> {
        Rc::new(Self { turn: Cell::default(), account })
    }
}

impl ServerLane {
    /// Starts the lane's task on this thread. Without a connection it connects when the first batch arrives.
    pub(super) fn start(endpoint: Arc<Endpoint>, group: Group, connected: Option<Connected>) -> Self {
        let patience = Some(endpoint.settings.lane_patience).filter(|patience| !patience.is_zero());
        let most_bytes = endpoint.settings.queue_bytes.0;
        let (queue, seat) = (Rc::default(), Rc::default());
        let lane = Self { queue, most_bytes, seat, patience, is_other: false };
        Driver::new(endpoint, group, &lane.queue, None).start(connected);
        lane
    }

    /// Starts the task of a lane that one client has for itself, for as long as it may.
    pub(crate) fn start_private(
        endpoint: Arc<Endpoint>,
        group: Group,
        account: &Rc<Account>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let lane = Self::for_one(endpoint.settings.queue_bytes.0, account.clone());
        let lease = Lease::new(&endpoint, account.clone(), permit);
        Driver::new(endpoint, group, &lane.queue, Some(lease)).start(None);
        lane
    }

    /// A lane that one client has for itself, and does not leave, on which at most `most_bytes` wait.
    pub(crate) fn for_one(most_bytes: usize, account: Rc<Account>) -> Self {
        let (queue, seat) = (Rc::new(RefCell::new(Queue::of_one_client())), Seat::of(account));
        Self { queue, most_bytes, seat, patience: None, is_other: false }
    }

    /// How many hold a handle on it besides the caller.
    pub(super) fn users(&self) -> usize {
        Rc::strong_count(&self.queue) - 1
    }

    /// Nothing waits on it, and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.borrow().is_idle()
    }

    /// It is connected, and its front request has not taken too long.
    pub(super) fn moves_on(&self) -> bool {
        !self.is_stuck() && !matches!(self.queue.borrow().progress, Progress::Away)
    }

    /// Its front request takes so long that nobody should queue up behind it who need not.
    pub(super) fn is_stuck(&self) -> bool {
        match (self.queue.borrow().progress, self.patience) {
            (Progress::Since(since), Some(patience)) => since.elapsed() > patience,
            _ => false,
        }
    }

    /// Its client, with nothing under way, should look for another lane, or see whether its own moves on again.
    #[must_use]
    pub fn should_be_left(&self) -> bool {
        self.is_other || self.is_stuck()
    }

    /// The same lane for a client that takes turns with the others.
    pub(super) fn of_another_client(&self, account: &Rc<Account>) -> Self {
        Self { seat: Seat::of(account.clone()), ..self.clone() }
    }

    /// Queues a batch; its replies arrive at the ticket.
    #[must_use]
    pub fn submit(&self, batch: Batch) -> LaneTicket {
        let (ticket, delivery) = ticket(self.seat.account.clone());
        let flight = Flight::new(batch, delivery);
        let mut queue = self.queue.borrow_mut();
        if queue.has_room(&flight, self.most_bytes) {
            queue.push(flight, &self.seat.turn);
        } else {
            flight.fail(errors::upstream::QUEUE_FULL);
        }
        drop(queue);
        ticket
    }
}
