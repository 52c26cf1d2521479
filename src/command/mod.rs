//! Requests as commands, and the table of commands as data.
//! Knows names, flags, arity and key positions; never what a key means or where it lives.

mod described;
mod keyspec;
mod learned;
mod movable_keys;
mod patience;
mod policy;
mod slot;
mod spec;
mod suggestion;
mod table;

use std::ops::Range;

use crate::resp::encode;

pub use described::{Described, read};
pub use keyspec::KeySpec;
pub use learned::Report;
pub use policy::{Policy, RequestPolicy, ResponsePolicy};
pub use slot::{SLOTS, Slots, slot_of};
pub use spec::{Conduct, Flags, Learned, Source, Spec};
pub use suggestion::suggestion;
pub use table::{Table, all, lookup, name_of, rows};

/// One complete request, borrowed from the client's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    raw: &'a [u8],
    spans: &'a [Range<usize>],
}

impl<'a> Request<'a> {
    /// A request of the bytes `raw`, with at least one argument span inside them.
    #[must_use]
    pub const fn new(raw: &'a [u8], spans: &'a [Range<usize>]) -> Self {
        Self { raw, spans }
    }

    /// The request as it came: a RESP array of bulk strings.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The number of arguments, the command's name included (Redis's `argc`).
    #[must_use]
    pub const fn len(&self) -> usize {
        self.spans.len()
    }

    /// True for a request without arguments, which no scanner gives.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Argument `i`; empty when there is none.
    #[must_use]
    pub fn arg(&self, i: usize) -> &'a [u8] {
        self.spans.get(i).map_or(&[], |span| &self.raw[span.clone()])
    }

    /// The arguments from `i` on.
    pub fn args_from(&self, i: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let Self { raw, spans } = *self;
        spans[i.min(spans.len())..].iter().map(move |span| &raw[span.clone()])
    }

    /// The command's name as the client wrote it, for error texts.
    #[must_use]
    pub fn name(&self) -> String {
        String::from_utf8_lossy(&self.arg(0)[..self.arg(0).len().min(128)]).into_owned()
    }

    /// True when argument `i` is `word`, whatever its case.
    #[must_use]
    pub fn is(&self, i: usize, word: &str) -> bool {
        self.arg(i).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Argument `i` as one number, so that short words of one length are compared in one step. `None` when it has more
    /// than eight bytes, or fewer than eight bytes of the request are left where it begins: those are compared byte by
    /// byte.
    #[inline]
    fn word(&self, i: usize) -> Option<u64> {
        let span = self.spans.get(i)?;
        let bytes: [u8; 8] = self.raw.get(span.start..span.start + 8)?.try_into().ok()?;
        let length = span.end - span.start;
        (1..=8).contains(&length).then(|| u64::from_le_bytes(bytes) & (u64::MAX >> (64 - 8 * length)))
    }

    /// Visits the positions of the keys, by `spec`, in its order.
    pub fn each_key(&self, spec: &Spec, mut visit: impl FnMut(usize)) {
        for keys in &spec.keys {
            keys.find(self, &mut visit);
        }
    }

    /// True when this XREAD or XREADGROUP may wait for entries: BLOCK is one of its options, and no name among them.
    #[must_use]
    pub fn reads_blocking(&self) -> bool {
        movable_keys::streams(self).0
    }

    /// The patterns by which this SORT looks other keys up (BY and GET).
    #[must_use]
    pub fn sorts_by(&self) -> Vec<&'a [u8]> {
        movable_keys::sorted_by(self)
    }

    /// The positions of the keys, by `spec`.
    #[must_use]
    pub fn key_positions(&self, spec: &Spec) -> Vec<usize> {
        let mut positions = Vec::new();
        self.each_key(spec, |at| positions.push(at));
        positions
    }
}

/// Bytes of a request that a key of it may keep in memory.
const MOST_BESIDE_KEY: usize = 64;

/// A request that owns its bytes, for work that outlives the client's buffer.
#[derive(Clone, Debug)]
pub struct OwnedRequest {
    raw: bytes::Bytes,
    spans: Vec<Range<usize>>,
}

impl OwnedRequest {
    /// Copies `request` (a slice of the read buffer would pin the whole buffer).
    #[must_use]
    pub fn copy(request: &Request<'_>) -> Self {
        Self { raw: bytes::Bytes::copy_from_slice(request.raw), spans: request.spans.to_vec() }
    }

    /// The array of bulk strings that an inline request stands for.
    #[must_use]
    pub fn from_words(words: &[Vec<u8>]) -> Self {
        let (mut raw, mut spans) = (bytes::BytesMut::new(), Vec::with_capacity(words.len()));
        encode::array(&mut raw, words.len());
        for word in words {
            encode::bulk(&mut raw, word);
            let end = raw.len() - 2;
            spans.push(end - word.len()..end);
        }
        Self { raw: raw.freeze(), spans }
    }

    /// The request, borrowed.
    #[must_use]
    pub fn view(&self) -> Request<'_> {
        Request::new(&self.raw, &self.spans)
    }

    /// Argument `i`, a key, to be kept for long: it shares the request's bytes unless they are much more than the key.
    #[must_use]
    pub fn key(&self, i: usize) -> bytes::Bytes {
        let span = self.spans.get(i).cloned().unwrap_or_default();
        if self.raw.len() - span.len() > MOST_BESIDE_KEY {
            return bytes::Bytes::copy_from_slice(&self.raw[span]);
        }
        self.raw.slice(span)
    }

    /// The request's bytes, shared.
    #[must_use]
    pub fn bytes(&self) -> bytes::Bytes {
        self.raw.clone()
    }
}
