//! MGET, EXISTS and TOUCH of keys that may still be the upstream's: each is asked for by itself where the store has it
//! not.

use bytes::Bytes;

use super::reading::{BothSides, Side};
use crate::definitions::Snapshot;
use crate::dispatch::call::Call;
use crate::dispatch::owned::split::{Begun, Coming, Part};
use crate::keys::MappingId;
use crate::resp::decode;
use crate::resp::pieces::{Elements, Pieces};
use crate::route::{Holder, Split, SplitKey};
use crate::store::StoreError;

impl Call<'_> {
    /// One key of the request, of a mapping in the mode `fallback`.
    #[cold]
    pub(in crate::dispatch) fn look_up_on_both_sides(
        &mut self,
        snapshot: &Snapshot,
        key: &SplitKey,
        split: Split,
    ) -> Begun {
        let (owned, text) = (self.services.owned.clone(), self.request.arg(key.at));
        let mapping = match key.holder {
            Holder::Upstream => return Begun::Now(Part::Upstream),
            Holder::Definitions(mapping) if snapshot.get(mapping, text).is_some() => {
                return Begun::Now(self.defined(snapshot, mapping, text, split));
            }
            Holder::Definitions(mapping) => return self.ask_for_defined(mapping, text, split),
            Holder::Cache(mapping) => mapping,
        };
        let known = owned.cache.get(mapping, text, self.session.now);
        if known.is_some_and(|entry| entry.record.is_some()) {
            return self.look_up(mapping, text, split, &mut None);
        }
        self.count_miss(mapping, text);
        let (sides, text, name) = (BothSides::of(self), Bytes::copy_from_slice(text), self.name());
        let loading = owned.cache.load(mapping, &text, &mut self.session.asker());
        let part = Box::pin(async move {
            match sides.look_for_one(mapping, &text, loading.await?, &name).await? {
                Side::Store(entry) => Ok(Part::of(entry.record.as_ref(), split)),
                Side::Upstream(reply, _) => part(reply, split),
            }
        });
        Begun::Later(Coming { mapping, part })
    }

    /// A key of definitions that the store has not.
    fn ask_for_defined(&self, mapping: MappingId, key: &[u8], split: Split) -> Begun {
        let (sides, key, name) = (BothSides::of(self), Bytes::copy_from_slice(key), self.name());
        let part = Box::pin(async move { part(sides.ask_for_one(mapping, &key, &name).await?, split) });
        Begun::Later(Coming { mapping, part })
    }

    fn name(&self) -> Bytes {
        Bytes::copy_from_slice(self.request.arg(0))
    }
}

/// The part of one key in the upstream's answer to a request for it alone.
fn part(reply: Pieces, split: Split) -> Result<Part, StoreError> {
    let failed = |reply: &[u8]| StoreError::Limited(decode::error(reply).unwrap_or_default());
    if split != Split::Values {
        let reply = reply.whole();
        let count = decode::integer(&reply).ok_or_else(|| failed(&reply))?;
        return Ok(if count > 0 { Part::There(Bytes::new()) } else { Part::Absent });
    }
    let mut elements = Elements::of(reply).map_err(|reply| failed(&reply.whole()))?;
    let value = elements.next_whole();
    Ok(if decode::bulk(&value).is_some() { Part::There(value) } else { Part::Absent })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Part, Split, part};

    #[test]
    fn a_part_is_what_the_upstream_says_of_its_key() {
        for (reply, split, expected) in [
            ("*1\r\n$1\r\na\r\n", Split::Values, "$1\r\na\r\n"),
            ("*1\r\n$-1\r\n", Split::Values, "absent"),
            ("*1\r\n_\r\n", Split::Values, "absent"),
            (":1\r\n", Split::Exists, ""),
            (":0\r\n", Split::Touch, "absent"),
            ("-NOPERM no\r\n", Split::Exists, "error"),
            ("-NOPERM no\r\n", Split::Values, "error"),
        ] {
            let told = match part(Bytes::from_static(reply.as_bytes()).into(), split) {
                Ok(Part::There(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
                Ok(Part::Absent | Part::Upstream) => "absent".to_owned(),
                Err(error) => {
                    assert!(error.to_string().contains("NOPERM no"), "{error}");
                    "error".to_owned()
                }
            };
            assert_eq!(told, expected, "{reply}");
        }
    }
}
