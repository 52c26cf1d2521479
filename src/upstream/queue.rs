//! What waits for a lane's connection. While not everything may be sent at once, clients take turns: a flight's turn comes
//! when its client would have been served had all that wait been served one request at a time, each in its turn (virtual
//! time of fair queueing: Demers, Keshav and Shenker 1989). Flights of one client keep their order.

use std::cell::Cell;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use super::flight::Flight;
use super::ticket::wake;

/// One request, in virtual time.
const TURN: u64 = 1024;

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Each with its turn, in their order; most come last.
    flights: VecDeque<(u64, Flight)>,
    bytes: usize,
    /// The turn of who comes now, and the last that was given.
    turn: u64,
    last_turn: u64,
    /// The connection is gone and no other will take its place.
    closed: bool,
    waker: Option<Waker>,
    /// Waits until less waits.
    drained: Option<Waker>,
}

/// The lane's task ends when nobody can give it anything any more.
impl Drop for Queue {
    fn drop(&mut self) {
        wake(&mut self.waker);
    }
}

impl Queue {
    /// False when `flight` would make more than `most` bytes wait; one flight may always wait.
    pub(super) fn has_room(&self, flight: &Flight, most: usize) -> bool {
        self.bytes == 0 || self.bytes + flight.len() <= most
    }

    /// Takes a flight of the client whose last turn is `turn`, and wakes the lane's task.
    pub(super) fn push(&mut self, flight: Flight, turn: &Cell<u64>) {
        if self.closed {
            return flight.lose();
        }
        let its_turn = self.turn.max(turn.get()) + flight.requests() as u64 * TURN;
        turn.set(its_turn);
        self.bytes += flight.len();
        if self.last_turn <= its_turn {
            self.last_turn = its_turn;
            self.flights.push_back((its_turn, flight));
        } else {
            let at = self.flights.partition_point(|(turn, _)| *turn <= its_turn);
            self.flights.insert(at, (its_turn, flight));
        }
        wake(&mut self.waker);
    }

    /// Ready when at most `most` bytes wait.
    pub(super) fn poll_drained(&mut self, most: usize, cx: &Context<'_>) -> Poll<()> {
        if self.bytes <= most || self.closed {
            return Poll::Ready(());
        }
        self.drained = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Loses what waits, and everything that will.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.flights.drain(..).for_each(|(_, flight)| flight.lose());
        wake(&mut self.drained);
    }

    /// Takes back a flight that is to be sent again before all others.
    pub(super) fn push_front(&mut self, flight: Flight) {
        self.bytes += flight.len();
        self.flights.push_front((0, flight));
    }

    /// The flight whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Flight> {
        let waiting = self.flights.len() as u64;
        let (_, flight) = self.flights.pop_front()?;
        self.bytes -= flight.len();
        self.turn = if waiting == 1 { self.last_turn } else { self.turn + flight.requests() as u64 * TURN / waiting };
        wake(&mut self.drained);
        Some(flight)
    }

    /// Takes out what `is_due`, wherever it stands.
    pub(super) fn take_due(&mut self, is_due: impl Fn(&Flight) -> bool) -> Vec<Flight> {
        if !self.flights.iter().any(|(_, flight)| is_due(flight)) {
            return Vec::new();
        }
        let (due, others): (Vec<_>, _) = self.flights.drain(..).partition(|(_, flight)| is_due(flight));
        self.flights = others.into();
        self.bytes -= due.iter().map(|(_, flight)| flight.len()).sum::<usize>();
        wake(&mut self.drained);
        due.into_iter().map(|(_, flight)| flight).collect()
    }

    /// True when nothing waits; the task of `cx` is woken when something does.
    pub(super) fn poll_empty(&mut self, cx: &Context<'_>) -> bool {
        self.waker = Some(cx.waker().clone());
        self.flights.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bytes::{Bytes, BytesMut};

    use super::super::flight::Flight;
    use super::super::run::{Asked, Expect, Run};
    use super::super::ticket::ticket;
    use super::Queue;

    fn flight(name: u8, requests: usize) -> Flight {
        let asked = (1..=requests).map(|end| Asked { end, resendable: true, expect: Expect::Replies(1) }).collect();
        Flight::new(Run { bytes: Bytes::from(vec![name; requests]), asked }, ticket().1)
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
