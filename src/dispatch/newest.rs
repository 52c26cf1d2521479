//! Knows which of a worker's services are the newest: those of each reload replace the ones before. A client that is
//! busy for long with what old ones began keeps only those alive, and none of those between.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use super::Services;

/// The newest services of a worker. All of them share it; the worker keeps the services itself.
#[derive(Debug, Default)]
pub struct Newest {
    number: Cell<u64>,
    services: RefCell<Weak<Services>>,
}

/// One services's place among those of its worker.
#[derive(Debug)]
pub struct EditionPlace {
    number: u64,
    newest: Rc<Newest>,
}

impl Newest {
    /// Makes a services that takes the place of the newest.
    pub fn succeed(self: &Rc<Self>, make: impl FnOnce(EditionPlace) -> Services) -> Rc<Services> {
        let place = EditionPlace { number: self.number.get() + 1, newest: self.clone() };
        let next = Rc::new(make(place));
        self.number.set(self.number.get() + 1);
        *self.services.borrow_mut() = Rc::downgrade(&next);
        next
    }
}

impl EditionPlace {
    /// The newest services, if it is another.
    #[inline]
    pub(super) fn latest(&self) -> Option<Rc<Services>> {
        if self.newest.number.get() == self.number {
            return None;
        }
        self.newest.services.borrow().upgrade()
    }
}
