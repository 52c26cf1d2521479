//! Who has read one key: numbers of clients, few bytes for each.

/// The number that stands for all who hear of keys by prefixes (BCAST): that they are told of a key is no matter of who
/// has read it, but that it ends must be known.
pub(super) const EVERYBODY: u32 = 0;

/// The place of none.
pub(super) const NOBODY: u32 = u32::MAX;

/// The numbers of the clients that have read a key. As large as a boxed slice.
#[derive(Debug)]
pub(super) enum Readers {
    One(u32),
    /// In order, and behind them free places.
    Several(Box<[u32]>),
}

impl Readers {
    /// The numbers, in order.
    pub(super) fn numbers(&self) -> &[u32] {
        match self {
            Self::One(number) => std::slice::from_ref(number),
            Self::Several(numbers) => &numbers[..numbers.partition_point(|number| *number != NOBODY)],
        }
    }

    /// Bytes beside the value itself.
    pub(super) fn bytes(&self) -> usize {
        if let Self::Several(numbers) = self { size_of_val(&**numbers) + ALLOCATION } else { 0 }
    }

    /// One more. Before more room is taken, those go that are not there any more.
    pub(super) fn add(&mut self, number: u32, is_alive: impl Fn(u32) -> bool) {
        let count = self.numbers().len();
        let Err(at) = self.numbers().binary_search(&number) else { return };
        if let Self::Several(numbers) = self
            && count < numbers.len()
        {
            numbers.copy_within(at..count, at + 1);
            numbers[at] = number;
            return;
        }
        let mut all: Vec<u32> = self.numbers().iter().copied().filter(|known| is_alive(*known)).collect();
        let at = all.partition_point(|known| *known < number);
        all.insert(at, number);
        *self = match all.len() {
            1 => Self::One(number),
            count => {
                all.resize(count.next_power_of_two(), NOBODY);
                Self::Several(all.into())
            }
        };
    }
}

/// What an allocation costs beside its bytes.
const ALLOCATION: usize = 8;

#[cfg(test)]
mod tests {
    use super::Readers;

    #[test]
    fn readers_are_in_order_and_once_each_and_those_that_are_gone_take_no_more_room() {
        let mut readers = Readers::One(7);
        for number in [7, 3, 9, 3, 5, 1, 9] {
            readers.add(number, |_| true);
        }
        assert_eq!(readers.numbers(), [1, 3, 5, 7, 9]);
        for number in 10..100_000 {
            readers.add(number, |known| known + 10 > number);
        }
        assert!(readers.numbers().len() <= 32 && readers.bytes() <= 256, "{}", readers.bytes());
        assert_eq!(size_of::<Readers>(), 16);
    }
}
