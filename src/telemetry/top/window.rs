//! What was there most often in the last minute: a sketch for each quarter of it, of which the oldest is emptied when
//! its turn comes again.

use std::collections::HashMap;

use bytes::Bytes;

use super::sketch::Sketch;
use crate::telemetry::clock::Tick;

/// How long a sketch is added to, in milliseconds.
const QUARTER: u64 = 15_000;

const QUARTERS: usize = 4;

/// A sketch and the quarter that it is of, counted from the beginning of the process.
#[derive(Clone, Debug, Default)]
struct Part {
    quarter: u64,
    sketch: Sketch,
}

/// The last three quarters of a minute, and the one that has begun.
#[derive(Clone, Debug, Default)]
pub(super) struct Window([Part; QUARTERS]);

impl Window {
    /// Counts a key with this hash.
    pub(super) fn add(&mut self, hash: u64, key: &[u8], weight: u64, now: Tick) {
        let quarter = now.as_ms() / QUARTER;
        let part = &mut self.0[quarter as usize % QUARTERS];
        if part.quarter != quarter {
            part.quarter = quarter;
            part.sketch.clear();
        }
        part.sketch.add(hash, key, weight);
    }

    /// Adds its counts to `sum`.
    pub(super) fn add_to(&self, sum: &mut HashMap<Bytes, u64>, now: Tick) {
        let oldest = (now.as_ms() / QUARTER).saturating_sub(QUARTERS as u64 - 1);
        for part in self.0.iter().filter(|part| part.quarter >= oldest) {
            part.sketch.all().for_each(|(key, count)| *sum.entry(key.clone()).or_default() += count);
        }
    }

    /// True when nothing in it is of the last minute.
    pub(super) fn is_over(&self, now: Tick) -> bool {
        let oldest = (now.as_ms() / QUARTER).saturating_sub(QUARTERS as u64 - 1);
        self.0.iter().all(|part| part.quarter < oldest)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::Window;
    use crate::telemetry::clock::Tick;

    #[test]
    fn only_the_last_minute_counts() {
        let mut window = Window::default();
        let sum = |window: &Window, ms| {
            let mut sum = HashMap::new();
            window.add_to(&mut sum, Tick::from_ms(ms));
            sum.get(&b"k"[..]).copied().unwrap_or(0)
        };
        for second in 0..120 {
            window.add(1, b"k", 1, Tick::from_ms(second * 1000));
        }
        assert_eq!(sum(&window, 119_999), 60);
        assert_eq!(sum(&window, 134_999), 45);
        assert!(!window.is_over(Tick::from_ms(164_999)) && window.is_over(Tick::from_ms(165_000)));
        assert_eq!(sum(&window, 165_000), 0);
    }
}
