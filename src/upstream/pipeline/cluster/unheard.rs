//! What a client that tracks its keys was answered by a node that will not tell it when they change.

use std::fmt;
use std::rc::Rc;

use bytes::Bytes;

/// Tells whoever hears of a client's keys that any of them may have changed. What the client itself is sent for that is
/// returned.
#[derive(Clone)]
pub struct Unheard(Rc<dyn Fn() -> Bytes>);

impl fmt::Debug for Unheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unheard")
    }
}

impl Unheard {
    /// Calls this after a reply that nothing will be heard about.
    #[must_use]
    pub fn new(tell: impl Fn() -> Bytes + 'static) -> Self {
        Self(Rc::new(tell))
    }

    /// Such a reply has been given to the client.
    pub(super) fn tell(&self) -> Bytes {
        (self.0)()
    }
}
