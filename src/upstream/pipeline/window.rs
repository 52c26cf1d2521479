//! How much a shared lane requests before it is answered. Replies come in the order of the requests: if everything were
//! sent that clients ask for, everybody would wait behind whoever asks for the most (hazard 18). While replies are
//! short, the window is wider than anything that waits. The account of a client knows how long its replies are expected
//! to be.

/// Bytes of replies that may be expected at once: what a fast network carries in a round trip of a millisecond.
const MOST: usize = 1 << 20;

/// What one connection expects.
#[derive(Debug, Default)]
pub(super) struct Window {
    expected: usize,
}

impl Window {
    /// Nothing more should be requested now.
    pub(super) const fn is_full(&self) -> bool {
        self.expected >= MOST
    }

    /// Requests are sent whose replies are expected to be so many bytes, which count until they have come.
    pub(crate) const fn open(&mut self, bytes: usize) {
        self.expected += bytes;
    }

    /// Everything has come that counted for so many bytes.
    pub(super) const fn close(&mut self, bytes: usize) {
        self.expected -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Window};

    #[test]
    fn what_is_sent_once_may_be_more_and_everything_else_waits() {
        let mut window = Window::default();
        window.open(MOST - 1);
        assert!(!window.is_full());
        window.open(5 * MOST);
        assert!(window.is_full(), "a batch is never cut here");
        window.close(MOST - 1);
        assert!(window.is_full());
        window.close(5 * MOST);
        assert!(!window.is_full());
    }
}
