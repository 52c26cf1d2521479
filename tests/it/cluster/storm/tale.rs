//! What may be in a key that one client alone writes.

use super::weather::Weather;

/// Its values carry its name and a number that grows.
pub struct Tale {
    pub key: String,
    sent: u64,
    /// The number of the last one that was acknowledged or read, and when.
    kept: u64,
    age: u64,
}

impl Tale {
    pub fn new(key: String) -> Self {
        Self { key, sent: 0, kept: 0, age: 0 }
    }

    /// The number of the last value that was sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    pub fn value(&self, number: u64) -> String {
        format!("{}#{number}.", self.key)
    }

    /// The number in a value of this key.
    pub fn number(&self, value: &str) -> Option<u64> {
        value.strip_prefix(&self.key)?.strip_prefix('#')?.strip_suffix('.')?.parse().ok()
    }

    pub fn is_kept(&mut self, number: u64, weather: &Weather) {
        self.kept = self.kept.max(number);
        self.age = weather.age();
        weather.is_written();
    }

    /// What was read after all of these were sent.
    pub fn is_read(&mut self, value: Option<&str>, upto: u64, weather: &Weather) {
        let number = value.map_or(Some(0), |value| self.number(value));
        let (key, kept) = (&self.key, self.kept);
        match number {
            None => weather.wrong(format!("{key} is answered {value:?}")),
            Some(number) if number > upto => weather.wrong(format!("{key} is answered {number}, {upto} was sent")),
            Some(number) if number < kept => {
                if weather.may_have_lost(self.age) {
                    weather.has_lost(kept - number);
                } else {
                    weather.wrong(format!("{key} goes back from {kept} to {number}"));
                }
            }
            Some(_) => {}
        }
        if let Some(number) = number.filter(|number| *number <= upto) {
            (self.kept, self.age) = (number, weather.age());
        }
    }
}

/// A counter that one client alone increments.
pub struct Count {
    pub key: String,
    /// What it was, and what it may have become by increments of which nobody knows whether they were applied.
    low: i64,
    high: i64,
    age: u64,
}

impl Count {
    pub fn new(key: String) -> Self {
        Self { key, low: 0, high: 0, age: 0 }
    }

    pub fn is_unclear(&mut self) {
        self.high += 1;
    }

    /// What it is after one more.
    pub fn is_now(&mut self, number: i64, weather: &Weather) {
        let (key, low, high) = (&self.key, self.low, self.high);
        if number > high + 1 {
            weather.wrong(format!("{key} was incremented twice: it was at most {high}, and is {number}"));
        } else if number <= low {
            if weather.may_have_lost(self.age) {
                weather.has_lost((low + 1 - number) as u64);
            } else {
                weather.wrong(format!("{key} goes back from {low} to {number}"));
            }
        }
        weather.is_written();
        (self.low, self.high, self.age) = (number, number, weather.age());
    }
}
