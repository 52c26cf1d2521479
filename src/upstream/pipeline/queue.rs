//! What waits for a lane's connection. While not everything may be sent at once, clients take turns: a flight's turn
//! comes when its client would have been served had all that wait been served one request at a time, each in its turn
//! (virtual time of fair queueing: Demers, Keshav and Shenker 1989). Flights of one client keep their order.
//!
//! A client that has no room for more replies (`account.rs`) is passed over: its flights stand aside, with all that
//! come after them, and come back to their turns when it has room again. They count for the client, not for what the
//! lane may hold.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::account::Account;
use super::flight::Flight;
use super::lane_waker::{LaneWaker, wake};
use crate::errors;

/// The state of the lane's connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Progress {
    /// There is none.
    #[default]
    Away,
    /// Nothing is under way.
    Idle,
    /// The request whose reply comes next has been the first since then.
    Since(Instant),
}

/// One request, in virtual time.
const TURN: u64 = 1024;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Each with its turn, sorted by turn; a new one usually comes last.
    flights: VecDeque<(u64, Flight)>,
    /// Bytes in `flights`.
    bytes: usize,
    /// The flights of clients without room, those of each client in their order.
    aside: Vec<VecDeque<(u64, Flight)>>,
    /// The lane belongs to one client, whose room is not checked: the connection is not read while there is
    /// none.
    is_own: bool,
    /// The turn that a client gets which comes now, and the last turn that was served.
    turn: u64,
    last_turn: u64,
    /// The connection is gone, and there will be no other.
    closed: bool,
    /// The connection leads to one node of a cluster: what is for an upstream of one server is answered with an error.
    is_of_node: bool,
    /// As the connection says.
    pub(super) progress: Progress,
    lane_waker: Rc<LaneWaker>,
    /// Tasks that wait until the queue is shorter.
    drained: Option<Waker>,
}

/// The lane's task ends when nobody can give it anything any more.
impl Drop for Queue {
    fn drop(&mut self) {
        self.aside.iter().flatten().for_each(|(_, flight)| flight.account().waits_no_more(&self.lane_waker));
        self.lane_waker.wake();
    }
}

impl Queue {
    /// That of a connection which belongs to one client.
    pub(super) fn of_one_client() -> Self {
        let mut queue = Self::default();
        queue.is_own = true;
        queue
    }

    /// False when `flight` would make more than `most` bytes wait; one flight may always wait.
    pub(super) fn has_room(&self, flight: &Flight, most: usize) -> bool {
        self.bytes == 0 || self.bytes + flight.len() <= most
    }

    /// Takes a flight of the client whose last turn is `turn`, and wakes the lane's task.
    pub(super) fn push(&mut self, flight: Flight, turn: &Cell<u64>) {
        if self.closed {
            return flight.lose(0);
        }
        let its_turn = self.turn.max(turn.get()) + flight.requests() as u64 * TURN;
        turn.set(its_turn);
        if !self.aside.is_empty() && flight.account().is_waiting() {
            return self.set_aside(its_turn, flight);
        }
        self.insert(its_turn, flight);
        self.lane_waker.wake();
    }

    /// The next connection leads to one node of a cluster, or to the one server of the upstream.
    pub(super) const fn leads_to_node(&mut self, is_of_node: bool) {
        self.is_of_node = is_of_node;
    }

    fn insert(&mut self, its_turn: u64, flight: Flight) {
        self.bytes += flight.len();
        if self.last_turn <= its_turn {
            self.last_turn = its_turn;
            self.flights.push_back((its_turn, flight));
        } else {
            let at = self.flights.partition_point(|(turn, _)| *turn <= its_turn);
            self.flights.insert(at, (its_turn, flight));
        }
    }

    /// Where the flights of this client stand that are set aside.
    fn place(&self, account: &Rc<Account>) -> Option<usize> {
        let is_its = |flights: &VecDeque<(u64, Flight)>| {
            flights.front().is_some_and(|(_, flight)| Rc::ptr_eq(flight.account(), account))
        };
        if account.is_waiting() { self.aside.iter().position(is_its) } else { None }
    }

    fn set_aside(&mut self, its_turn: u64, flight: Flight) {
        let Some(at) = self.place(flight.account()) else {
            flight.account().waits(&self.lane_waker);
            return self.aside.push(VecDeque::from([(its_turn, flight)]));
        };
        let flights = &mut self.aside[at];
        let at = flights.partition_point(|(turn, _)| *turn < its_turn);
        flights.insert(at, (its_turn, flight));
    }

    /// The first of a client's flights that are set aside is in the queue again.
    fn take_back(&mut self, at: usize) {
        let Some((its_turn, flight)) = self.aside[at].pop_front() else { return };
        if self.aside[at].is_empty() {
            self.aside.swap_remove(at);
            flight.account().waits_no_more(&self.lane_waker);
        }
        self.insert(its_turn, flight);
    }

    /// Those who have room again come back.
    fn look_aside(&mut self) {
        if self.lane_waker.take_room() {
            for at in (0..self.aside.len()).rev() {
                if self.aside[at].front().is_some_and(|(_, flight)| flight.account().has_room()) {
                    self.take_back(at);
                }
            }
        }
    }

    /// True when the client has room for the replies, and nothing that it asked for before stands aside. What is sent
    /// again has no turn: there was room when it was sent.
    fn may_go(&self, its_turn: u64, flight: &Flight) -> bool {
        let is_first = || {
            self.place(flight.account())
                .is_none_or(|at| self.aside[at].front().is_some_and(|(turn, _)| *turn > its_turn))
        };
        self.is_own || its_turn == 0 || flight.account().has_room() && (self.aside.is_empty() || is_first())
    }

    /// Nothing waits, and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.flights.is_empty() && self.aside.is_empty() && !matches!(self.progress, Progress::Since(_))
    }

    /// Ready when at most `most` bytes wait.
    pub(crate) fn poll_drained(&mut self, most: usize, cx: &Context<'_>) -> Poll<()> {
        if self.bytes <= most || self.closed {
            return Poll::Ready(());
        }
        self.drained = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Loses what waits, and everything that will.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.flights.drain(..).chain(self.aside.drain(..).flatten()).for_each(|(_, flight)| {
            flight.account().waits_no_more(&self.lane_waker);
            flight.lose(0);
        });
        wake(&mut self.drained);
    }

    /// Takes back a flight that is to be sent again before all others.
    pub(super) fn push_front(&mut self, flight: Flight) {
        self.bytes += flight.len();
        self.flights.push_front((0, flight));
    }

    /// The flight whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Flight> {
        loop {
            let waiting = self.flights.len() as u64;
            let (its_turn, flight) = self.flights.pop_front()?;
            self.bytes -= flight.len();
            wake(&mut self.drained);
            if self.is_of_node && flight.is_for_one {
                flight.fail(errors::upstream::IS_CLUSTER);
                continue;
            }
            if !self.may_go(its_turn, &flight) {
                self.set_aside(its_turn, flight);
                continue;
            }
            self.turn =
                if waiting == 1 { self.last_turn } else { self.turn + flight.requests() as u64 * TURN / waiting };
            if !self.aside.is_empty()
                && let Some(at) = self.place(flight.account())
            {
                self.take_back(at);
            }
            return Some(flight);
        }
    }

    /// Takes out what `is_due`, wherever it stands.
    pub(super) fn take_due(&mut self, is_due: impl Fn(&Flight) -> bool) -> Vec<Flight> {
        let aside = self.take_due_aside(&is_due);
        if !self.flights.iter().any(|(_, flight)| is_due(flight)) {
            return aside;
        }
        let (due, others): (Vec<_>, _) = self.flights.drain(..).partition(|(_, flight)| is_due(flight));
        self.flights = others.into();
        self.bytes -= due.iter().map(|(_, flight)| flight.len()).sum::<usize>();
        wake(&mut self.drained);
        due.into_iter().map(|(_, flight)| flight).chain(aside).collect()
    }

    /// Without a connection no client gets room: what stands aside waits no longer than the rest. Of each client the
    /// oldest stand in front.
    fn take_due_aside(&mut self, is_due: impl Fn(&Flight) -> bool) -> Vec<Flight> {
        let mut due = Vec::new();
        self.aside.retain_mut(|flights| {
            while let Some((_, flight)) = flights.pop_front_if(|(_, flight)| is_due(flight)) {
                if flights.is_empty() {
                    flight.account().waits_no_more(&self.lane_waker);
                }
                due.push(flight);
            }
            !flights.is_empty()
        });
        due
    }

    /// True when nothing waits; the task of `cx` is woken when something does.
    pub(super) fn poll_empty(&mut self, cx: &Context<'_>) -> bool {
        self.lane_waker.register(cx);
        self.look_aside();
        self.flights.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use bytes::{Bytes, BytesMut};

    use super::Queue;
    use crate::upstream::pipeline::account::Account;
    use crate::upstream::pipeline::batch::{Asked, Batch, Expect, To};
    use crate::upstream::pipeline::flight::Flight;
    use crate::upstream::pipeline::lane_ticket::ticket;

    fn flight(name: u8, requests: usize) -> Flight {
        flight_of(&Rc::default(), name, requests)
    }

    fn flight_of(account: &Rc<Account>, name: u8, requests: usize) -> Flight {
        let asked = (1..=requests)
            .map(|end| Asked { end, resendable: true, expect: Expect::Replies(1), to: To::Home })
            .collect();
        Flight::new(
            Batch { bytes: Bytes::from(vec![name; requests]), asked, ..Batch::default() },
            ticket(account.clone()).1,
        )
    }

    fn flight_name(flight: &Flight) -> char {
        let mut bytes = BytesMut::new();
        flight.write_to(&mut bytes);
        char::from(bytes[0])
    }

    fn names(queue: &mut Queue, most: usize) -> String {
        std::iter::from_fn(|| queue.pop()).take(most).map(|flight| flight_name(&flight)).collect()
    }

    #[test]
    fn who_asks_for_little_does_not_wait_behind_who_asks_for_much() {
        let (mut queue, a, b, c) = (Queue::default(), Cell::new(0), Cell::new(0), Cell::new(0));
        (0..3).for_each(|_| queue.push(flight(b'a', 60), &a));
        queue.push(flight(b'b', 60), &b);
        assert_eq!(names(&mut queue, 1), "a");
        queue.push(flight(b'c', 1), &c);
        queue.push(flight(b'c', 2), &c);
        assert_eq!(names(&mut queue, 9), "ccbaa");
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let (mut queue, a, b) = (Queue::default(), Cell::new(0), Cell::new(0));
        queue.push(flight(b'a', 60), &a);
        queue.push(flight(b'b', 1), &b);
        let next = || {
            let next = names(&mut queue, 1);
            queue.push(flight(b'b', 1), &b);
            next
        };
        let turns = std::iter::repeat_with(next).position(|name| name == "a");
        assert_eq!(turns, Some(59));
    }

    #[test]
    fn what_is_sent_again_comes_first_and_in_order() {
        let (mut queue, a) = (Queue::default(), Cell::new(0));
        queue.push(flight(b'a', 1), &a);
        for name in [b'z', b'y', b'x'] {
            queue.push_front(flight(name, 9));
        }
        assert_eq!(names(&mut queue, 9), "xyza");
    }
}
