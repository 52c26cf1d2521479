//! Which of a worker's contexts is the newest: what each reload brings takes the place of the one before, and a client that is
//! busy for long with what an old one began keeps that one alone, and none of those between.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use super::Context;

/// The newest context of a worker. All of them share it; the worker keeps the context itself.
#[derive(Debug, Default)]
pub struct Newest {
    number: Cell<u64>,
    context: RefCell<Weak<Context>>,
}

/// One context's place among those of its worker.
#[derive(Debug)]
pub struct Place {
    number: u64,
    newest: Rc<Newest>,
}

impl Newest {
    /// Makes a context that takes the place of the newest.
    pub fn succeed(self: &Rc<Self>, make: impl FnOnce(Place) -> Context) -> Rc<Context> {
        let place = Place { number: self.number.get() + 1, newest: self.clone() };
        let next = Rc::new(make(place));
        self.number.set(self.number.get() + 1);
        *self.context.borrow_mut() = Rc::downgrade(&next);
        next
    }
}

impl Place {
    /// The newest context, if it is another.
    #[inline]
    pub(super) fn latest(&self) -> Option<Rc<Context>> {
        if self.newest.number.get() == self.number {
            return None;
        }
        self.newest.context.borrow().upgrade()
    }
}
