//! What waits for a lane's connection.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use super::flight::Flight;

#[derive(Debug, Default)]
pub(super) struct Queue {
    flights: VecDeque<Flight>,
    bytes: usize,
    /// The connection is gone and no other will take its place.
    closed: bool,
    waker: Option<Waker>,
    /// Waits until less waits.
    drained: Option<Waker>,
}

/// The lane's task ends when nobody can give it anything any more.
impl Drop for Queue {
    fn drop(&mut self) {
        self.wake();
    }
}

impl Queue {
    /// False when `flight` would make more than `most` bytes wait; one flight may always wait.
    pub(super) fn has_room(&self, flight: &Flight, most: usize) -> bool {
        self.bytes == 0 || self.bytes + flight.len() <= most
    }

    /// Takes a flight and wakes the lane's task.
    pub(super) fn push(&mut self, flight: Flight) {
        if self.closed {
            return flight.lose();
        }
        self.bytes += flight.len();
        self.flights.push_back(flight);
        self.wake();
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
        self.flights.drain(..).for_each(Flight::lose);
        if let Some(waker) = self.drained.take() {
            waker.wake();
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Takes back a flight that is to be sent again before all others.
    pub(super) fn push_front(&mut self, flight: Flight) {
        self.bytes += flight.len();
        self.flights.push_front(flight);
    }

    pub(super) fn pop(&mut self) -> Option<Flight> {
        let flight = self.flights.pop_front()?;
        self.bytes -= flight.len();
        if let Some(waker) = self.drained.take() {
            waker.wake();
        }
        Some(flight)
    }

    pub(super) fn front(&self) -> Option<&Flight> {
        self.flights.front()
    }

    /// True when nothing waits; the task of `cx` is woken when something does.
    pub(super) fn poll_empty(&mut self, cx: &Context<'_>) -> bool {
        self.waker = Some(cx.waker().clone());
        self.flights.is_empty()
    }
}
