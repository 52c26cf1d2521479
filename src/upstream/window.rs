//! How much a shared lane asks for before it is answered. Replies come in the order of the requests: were everything sent
//! that clients ask for, everybody would wait behind whoever asks for the most (hazard 18). While replies are short, the
//! window is wider than anything that waits.

/// Bytes of replies that may be expected at once: what a fast network carries in a round trip of a millisecond.
const MOST: usize = 1 << 20;
/// What a reply is expected to be before any has come.
const UNKNOWN: usize = 4096;
/// Replies are expected to be of this length at least, and at most: a very long one is its client's own affair
/// ([`super::ticket::Ticket::is_bulky`]).
const SHORT: usize = 16;
const LONG: usize = 64 * 1024;

/// What one connection expects.
#[derive(Debug)]
pub(super) struct Window {
    expected: usize,
    /// Bytes of a reply, by the latest of them. Quick to rise and slow to fall.
    typical: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { expected: 0, typical: UNKNOWN }
    }
}

impl Window {
    /// Nothing more should be asked for now.
    pub(super) const fn is_full(&self) -> bool {
        self.expected >= MOST
    }

    /// So many requests are sent; the bytes that their replies count for until they have come.
    pub(super) const fn open(&mut self, requests: usize) -> usize {
        let bytes = requests * self.typical;
        self.expected += bytes;
        bytes
    }

    /// Everything has come that counted for so many bytes.
    pub(super) const fn close(&mut self, bytes: usize) {
        self.expected -= bytes;
    }

    /// A reply of `length` bytes has come.
    pub(super) fn saw(&mut self, length: usize) {
        let length = length.clamp(SHORT, LONG);
        self.typical = if length > self.typical {
            usize::midpoint(length, self.typical)
        } else {
            self.typical - (self.typical - length) / 64
        };
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, Window};

    /// Requests that are sent one by one until it is full.
    fn requests(window: &mut Window) -> usize {
        let opened: Vec<usize> = std::iter::from_fn(|| (!window.is_full()).then(|| window.open(1))).collect();
        opened.iter().for_each(|bytes| window.close(*bytes));
        opened.len()
    }

    #[test]
    fn short_replies_open_it_and_long_ones_close_it() {
        let mut window = Window::default();
        assert_eq!(requests(&mut window), 256);
        (0..1000).for_each(|_| window.saw(5));
        assert!(requests(&mut window) > 10_000);
        (0..10).for_each(|_| window.saw(100_000));
        assert_eq!(requests(&mut window), 17);
        let bytes = window.open(60);
        assert!(window.is_full() && bytes > MOST, "a run is never cut");
        window.close(bytes);
        assert!(!window.is_full());
    }
}
