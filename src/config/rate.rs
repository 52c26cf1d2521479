//! Rates, written as how many in which time: `5000/s`, `300/m`, `10/h`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// So many in a second, a minute or an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    unit: usize,
}

const UNITS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];
/// The most in any of these times.
const MOST: u32 = 10_000_000;

impl Rate {
    fn parse(text: &str) -> Option<Self> {
        let (count, name) = text.trim().split_once('/')?;
        let unit = UNITS.iter().position(|(unit, _)| *unit == name.trim())?;
        let count = count.trim().parse().ok().filter(|count| (1..=MOST).contains(count))?;
        Some(Self { count, unit })
    }

    /// The time from one to the next, if they come evenly.
    #[must_use]
    pub fn interval(self) -> Duration {
        Duration::from_secs(UNITS[self.unit].1) / self.count
    }

    /// What comes in a second, at least one.
    #[must_use]
    pub fn in_a_second(self) -> u32 {
        self.count.div_ceil(UNITS[self.unit].1 as u32).max(1)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, UNITS[self.unit].0)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || {
            serde::de::Error::custom(format!(
                "expected a rate from 1 to {MOST} such as \"5000/s\", \"300/m\" or \"10/h\""
            ))
        };
        let text = String::deserialize(deserializer).map_err(|_| wrong())?;
        Self::parse(&text).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Rate;

    #[test]
    fn reads_and_writes_rates() {
        for (text, micros, second) in [("5000/s", 200, 5000), (" 300 / m ", 200_000, 5), ("10/h", 360_000_000, 1)] {
            let rate = Rate::parse(text).expect(text);
            assert_eq!((rate.interval(), rate.in_a_second()), (Duration::from_micros(micros), second), "{text}");
            assert_eq!(rate.to_string(), text.replace(' ', ""));
        }
        for text in ["", "5000", "0/s", "1/d", "-1/s", "10000001/s", "5000/s/s", "1.5/s"] {
            assert_eq!(Rate::parse(text), None, "{text}");
        }
    }
}
