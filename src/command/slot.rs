//! The hash slot of a key, by which a cluster says which of its nodes has the key.
//!
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model>

use super::{Request, Spec};

/// The slots of a cluster.
pub const SLOTS: u16 = 16_384;

/// The slots that the keys of one request are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// It names no keys.
    None,
    /// All of its keys are in this slot.
    One(u16),
    /// Its keys are in different slots.
    Several,
}

impl Slots {
    /// Those of these keys.
    #[must_use]
    pub fn of(keys: &[&[u8]]) -> Self {
        keys.iter().fold(Self::None, |slots, key| slots.and(key))
    }

    /// These, and the slot of one key more.
    fn and(self, key: &[u8]) -> Self {
        match self {
            Self::None => Self::One(slot_of(key)),
            Self::One(slot) if slot == slot_of(key) => self,
            Self::One(_) | Self::Several => Self::Several,
        }
    }
}

impl Request<'_> {
    /// The slots that its keys are in, by `spec`, or that of the channel of a sharded message. A key that no
    /// specification finds is not seen ([`Spec::has_hidden_keys`]).
    #[must_use]
    pub fn slots(&self, spec: &Spec) -> Slots {
        if let Some(at) = spec.key_of(self.len()) {
            return Slots::One(slot_of(self.arg(at)));
        }
        if spec.name == "spublish" && self.len() > 1 {
            return Slots::One(slot_of(self.arg(1)));
        }
        let mut slots = Slots::None;
        self.each_key(spec, |at| slots = slots.and(self.arg(at)));
        slots
    }
}

/// The slot of a key, or of a sharded channel.
#[must_use]
pub fn slot_of(key: &[u8]) -> u16 {
    let whole = by_eights(key);
    let tag = if has_brace(whole) { tag(key) } else { None };
    crc16(tag.map_or(whole, by_eights)) % SLOTS
}

/// What stands between the first `{` of a key and the first `}` behind that, if anything does. It decides the slot, so
/// that keys which share it are in one.
fn tag(key: &[u8]) -> Option<&[u8]> {
    let behind = &key[memchr::memchr(b'{', key)? + 1..];
    behind.get(..memchr::memchr(b'}', behind)?).filter(|tag| !tag.is_empty())
}

/// Bytes as eights, behind what is left over in front of them, behind zeros.
type Eights<'k> = (u64, &'k [[u8; 8]]);

fn by_eights(bytes: &[u8]) -> Eights<'_> {
    let (front, eights) = bytes.as_rchunks::<8>();
    let first = match bytes.first_chunk::<8>() {
        Some(first) => (u64::from_be_bytes(*first) >> 8) >> (56 - 8 * front.len()),
        None => front.iter().fold(0, |first, byte| first << 8 | u64::from(*byte)),
    };
    (first, eights)
}

/// True if one of the bytes is `{`, by eight of them at once: the first byte from the right that is zero becomes
/// negative when one is subtracted from each, and was not negative before.
///
/// Source: Warren, Hacker's Delight, 2nd edition, section 6-1.
fn has_brace((first, eights): Eights<'_>) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let negative = |eight: u64| {
        let zero_if_brace = eight ^ (u64::from(b'{') * ONES);
        zero_if_brace.wrapping_sub(ONES) & !zero_if_brace & (ONES << 7)
    };
    eights.iter().fold(negative(first), |some, eight| some | negative(u64::from_be_bytes(*eight))) != 0
}

/// CRC-16/XMODEM, eight bytes at a time: what each of them does to the sum depends on how many come behind it. Zeros in
/// front change nothing, because the sum begins as zero.
fn crc16((first, eights): Eights<'_>) -> u16 {
    let with = |crc: u16, eight: u64| {
        let [a, b, c, d, e, f, g, h] = (eight ^ u64::from(crc) << 48).to_be_bytes();
        let of = |behind: usize, byte: u8| TABLES[behind][usize::from(byte)];
        of(7, a) ^ of(6, b) ^ of(5, c) ^ of(4, d) ^ of(3, e) ^ of(2, f) ^ of(1, g) ^ of(0, h)
    };
    eights.iter().fold(with(0, first), |crc, eight| with(crc, u64::from_be_bytes(*eight)))
}

/// What each byte does to the sum with none to seven bytes behind it, by the polynomial 0x1021.
static TABLES: [[u16; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut at = 0;
    while at < 256 {
        let mut crc = (at as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        tables[0][at] = crc;
        at += 1;
    }
    let mut behind = 1;
    while behind < 8 {
        let mut at = 0;
        while at < 256 {
            let before = tables[behind - 1][at];
            tables[behind][at] = (before << 8) ^ tables[0][(before >> 8) as usize];
            at += 1;
        }
        behind += 1;
    }
    tables
};

#[cfg(test)]
mod tests {
    use super::{Slots, by_eights, slot_of};
    use crate::command::{OwnedRequest, lookup};

    fn crc16(bytes: &[u8]) -> u16 {
        super::crc16(by_eights(bytes))
    }

    fn by_bits(bytes: &[u8]) -> u16 {
        let shifted = |crc: u16| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        bytes.iter().fold(0, |crc, byte| (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| shifted(crc)))
    }

    #[test]
    fn the_sum_is_that_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        let text: Vec<u8> = (0..=255).collect();
        for length in 0..40 {
            assert_eq!(crc16(&text[length..3 * length]), by_bits(&text[length..3 * length]), "{length}");
        }
        assert_eq!((slot_of(b"foo"), slot_of(b"bar"), slot_of(b"")), (12_182, 5061, 0));
    }

    #[test]
    fn a_tag_decides_the_slot_if_there_is_something_in_it() {
        for (key, hashed) in [
            (&b"{user1000}.following"[..], &b"user1000"[..]),
            (b"a{b}", b"b"),
            (b"foo{{bar}}zap", b"{bar"),
            (b"foo{bar}{zap}", b"bar"),
            (b"a}b{c}d", b"c"),
            (b"a key whose tag is {far} behind", b"far"),
            (b"{a tag that is longer than the rest}", b"a tag that is longer than the rest"),
        ] {
            assert_eq!(slot_of(key), crc16(hashed) % 16_384, "{}", String::from_utf8_lossy(key));
        }
        for whole in [&b"foo{}{bar}"[..], b"{}", b"{", b"}", b"a{b", b"a}b", b"}{", b"a{}", b"{}a"] {
            assert_eq!(slot_of(whole), crc16(whole) % 16_384, "{}", String::from_utf8_lossy(whole));
        }
    }

    fn slots(line: &str) -> Slots {
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let request = OwnedRequest::from_words(&words);
        let spec = lookup(&words[0], words.get(1).map_or(b"", |word| &word[..])).expect("a known command");
        request.view().slots(spec)
    }

    #[test]
    fn a_request_is_in_the_slots_of_its_keys() {
        for (line, expected) in [
            ("ping", Slots::None),
            ("eval script 0 foo", Slots::None),
            ("get foo", Slots::One(12_182)),
            ("get", Slots::None),
            ("object encoding foo", Slots::One(12_182)),
            ("mget foo foo {foo}1 2{foo}", Slots::One(12_182)),
            ("mset foo bar {foo}1 bar", Slots::One(12_182)),
            ("mget foo", Slots::One(12_182)),
            ("mset foo bar", Slots::One(12_182)),
            ("mset foo bar bar", Slots::Several),
            ("exists", Slots::None),
            ("blpop foo 0", Slots::One(12_182)),
            ("mget foo bar", Slots::Several),
            ("mget foo bar foo", Slots::Several),
            ("eval script 2 foo bar", Slots::Several),
            ("xread STREAMS foo {foo}2 0 0", Slots::One(12_182)),
            ("spublish foo bar", Slots::One(12_182)),
            ("spublish", Slots::None),
        ] {
            assert_eq!(slots(line), expected, "{line}");
        }
    }
}
