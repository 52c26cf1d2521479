//! The bytes of a record in one allocation: the encoded bulk strings, one behind the other, then the positions where
//! they begin, and for a record with many names an index of the names in the order of their texts.
//!
//! Where one begins and where the next does tells how long its text is: `$`, digits, CR LF, text, CR LF. Beginnings and
//! places take two bytes each, or four in a record of more than 64 KiB.

use std::cmp::Ordering;
use std::ops::Deref;
use std::sync::Arc;

use bytes::BytesMut;

use crate::resp::encode;

/// The elements of one record: names alone, names each with its value, or elements without names.
#[derive(Clone, Debug)]
pub(super) struct Body {
    bytes: Allocation,
    /// Bytes of the encoded elements; the beginnings follow them.
    encoded: u32,
    count: u32,
}

/// The bytes of one record, or of several that were made of one. That several may share them costs the others nothing:
/// this is as large as a box.
#[derive(Clone, Debug)]
enum Allocation {
    Own(Box<[u8]>),
    Shared(Arc<Box<[u8]>>),
}

impl Deref for Allocation {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// More names than this are searched by bisection.
const LINEAR: usize = 12;
/// A body up to this many bytes has beginnings of two bytes.
const SMALL: usize = u16::MAX as usize;

impl Body {
    /// These elements, of which every `stride`th is a name, if any is; `None` when they are larger than 4 GiB.
    pub(super) fn of<'e>(elements: impl Iterator<Item = &'e [u8]>, stride: Option<usize>) -> Option<Self> {
        let (mut bytes, mut begins) = (BytesMut::new(), Vec::new());
        for element in elements {
            begins.push(u32::try_from(bytes.len()).ok()?);
            encode::bulk(&mut bytes, element);
        }
        let (encoded, count) = (u32::try_from(bytes.len()).ok()?, begins.len() as u32);
        begins.iter().for_each(|at| bytes.extend_from_slice(&at.to_le_bytes()[..width(encoded as usize)]));
        let mut body = Self { bytes: Allocation::Own(bytes[..].into()), encoded, count };
        if let Some(stride) = stride.filter(|stride| body.len() / stride > LINEAR) {
            body.sort(stride);
        }
        Some(body)
    }

    fn sort(&mut self, stride: usize) {
        let mut places: Vec<u32> = (0..self.count / stride as u32).collect();
        places.sort_unstable_by_key(|place| self.text(*place as usize * stride));
        let places = places.iter().flat_map(|place| place.to_le_bytes().into_iter().take(width(self.encoded as usize)));
        self.bytes = Allocation::Own(self.bytes.iter().copied().chain(places).collect());
    }

    /// The same elements, which whatever is made of this one shares.
    pub(super) fn shared(&self) -> Self {
        let bytes = match &self.bytes {
            Allocation::Own(bytes) => Arc::new(bytes.clone()),
            Allocation::Shared(bytes) => bytes.clone(),
        };
        Self { bytes: Allocation::Shared(bytes), ..*self }
    }

    /// The place of a name among the names.
    pub(super) fn find(&self, name: &[u8], stride: usize) -> Option<usize> {
        let names = self.len() / stride;
        if names <= LINEAR {
            return (0..names).find(|place| self.is_text(place * stride, name));
        }
        let sorted = |i: usize| self.number(self.len() + i);
        let (mut from, mut to) = (0, names);
        while from < to {
            let middle = usize::midpoint(from, to);
            match self.text(sorted(middle) * stride).cmp(name) {
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
                Ordering::Equal => return Some(sorted(middle)),
            }
        }
        None
    }

    /// Elements.
    pub(super) const fn len(&self) -> usize {
        self.count as usize
    }

    /// Bytes in memory.
    pub(super) fn weight(&self) -> usize {
        self.bytes.len()
    }

    /// All elements as bulk strings.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.bytes[..self.encoded as usize]
    }

    /// Elements `from..to` as bulk strings.
    pub(super) fn range(&self, from: usize, to: usize) -> &[u8] {
        &self.bytes[self.begin(from)..self.begin(to)]
    }

    /// The text of one element.
    pub(super) fn text(&self, element: usize) -> &[u8] {
        let (from, to) = (self.begin(element), self.begin(element + 1));
        &self.bytes[from + 3 + digits(to - from)..to - 2]
    }

    /// True when one element's text is `text`; only where the lengths agree are texts compared.
    fn is_text(&self, element: usize, text: &[u8]) -> bool {
        let (from, to) = (self.begin(element), self.begin(element + 1));
        to - from == encode::bulk_length(text.len()) && self.bytes[to - 2 - text.len()..to - 2] == *text
    }

    /// Where an element begins; behind the last one is the end. The ends are known without a look at memory.
    fn begin(&self, element: usize) -> usize {
        match element {
            0 => 0,
            _ if element >= self.len() => self.encoded as usize,
            _ => self.number(element),
        }
    }

    /// One of the numbers behind the encoded elements.
    fn number(&self, i: usize) -> usize {
        let encoded = self.encoded as usize;
        if width(encoded) == 2 {
            let at = encoded + i * 2;
            return u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]]).into();
        }
        let at = encoded + i * 4;
        u32::from_le_bytes([0, 1, 2, 3].map(|byte| self.bytes[at + byte])) as usize
    }
}

const fn width(encoded: usize) -> usize {
    if encoded <= SMALL { 2 } else { 4 }
}

/// Digits of the length of a text whose bulk string has `total` bytes.
const fn digits(total: usize) -> usize {
    let (mut digits, mut ten) = (1, 10);
    // One more digit from a text of `ten` bytes on: `$`, the digits, two times CR LF, the text.
    while total >= ten + digits + 6 {
        digits += 1;
        ten *= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::{Allocation, Body};

    #[test]
    fn bytes_that_may_be_shared_take_the_room_of_those_that_are_not() {
        assert_eq!(size_of::<Allocation>(), size_of::<Box<[u8]>>());
        let body = Body::of([&b"name"[..], b"value"].into_iter(), Some(2)).expect("fits");
        let (first, copy) = (body.shared(), body.clone());
        let second = first.clone().shared();
        let at = |body: &Body| body.bytes.as_ptr();
        assert!(at(&first) == at(&second) && at(&copy) != at(&body) && at(&first) != at(&body));
        assert_eq!((first.encoded(), first.find(b"name", 2)), (body.encoded(), Some(0)));
    }

    #[test]
    fn every_length_is_told_from_where_the_texts_begin() {
        let lengths = (0..=120).chain([998, 999, 1000, 1001, 9_999, 10_000, 65_536, 99_999, 100_000, 3_000_000]);
        let texts: Vec<Vec<u8>> = lengths.map(|length| vec![b'x'; length]).collect();
        for some in [&texts[..], &texts[..121], &texts[..1], &[]] {
            let body = Body::of(some.iter().map(Vec::as_slice), None).expect("fits");
            assert_eq!(body.len(), some.len());
            for (i, text) in some.iter().enumerate() {
                assert_eq!(body.text(i), text);
                let encoded = [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat();
                assert_eq!(body.range(i, i + 1), encoded);
            }
            assert_eq!(body.range(0, some.len()), body.encoded());
        }
    }

    #[test]
    fn few_and_many_names_are_found_in_small_and_large_bodies() {
        for (names, length) in [(1, 1), (12, 3), (13, 3), (500, 3), (500, 300)] {
            let texts: Vec<String> = (0..names * 2).map(|i| format!("{:0length$}", (i * 7919) % 10_007)).collect();
            let body = Body::of(texts.iter().map(String::as_bytes), Some(2)).expect("fits");
            for place in 0..names {
                assert_eq!(body.find(texts[place * 2].as_bytes(), 2), Some(place));
                assert_eq!(body.find(texts[place * 2 + 1].as_bytes(), 2), None, "a value is no name");
            }
        }
    }
}
