//! What is told of a write by keyspace notifications, as Redis tells it: nothing where nothing has changed, and that
//! the key is gone where nothing is left of it.

use bytes::Bytes;

use super::edit::{Condition, Edit};
use super::write::{TtlChange, Write, Written};

/// The event of a key that is gone.
pub(super) const DELETED: &str = "del";
const EXPIRY_SET: &str = "expire";
const EXPIRY_REMOVED: &str = "persist";

/// Something that has happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    /// As Redis calls it.
    pub name: &'static str,
    /// Of a hash, the fields that it is about.
    pub fields: Vec<Bytes>,
}

impl KeyEvent {
    const fn of(name: &'static str) -> Self {
        Self { name, fields: Vec::new() }
    }

    /// The key is not there any more.
    #[must_use]
    pub const fn deleted() -> Self {
        Self::of(DELETED)
    }
}

impl TtlChange {
    /// What is told of a command that has changed only when a key expires: one that expires at once is gone.
    #[must_use]
    pub fn event(self) -> Option<KeyEvent> {
        match self {
            Self::Keep => None,
            Self::Persist => Some(KeyEvent::of(EXPIRY_REMOVED)),
            Self::Left(left) if left <= 0 => Some(KeyEvent::deleted()),
            Self::Left(_) => Some(KeyEvent::of(EXPIRY_SET)),
        }
    }
}

impl Write {
    /// What is told of it when it has done this.
    #[must_use]
    pub fn events(&self, written: &Written) -> Vec<KeyEvent> {
        let Some(first) = self.first_event(written) else { return Vec::new() };
        let is_gone = self.only_removes() && first.name != DELETED && written.tells_new && written.new.is_none();
        let expires = matches!(self.life, TtlChange::Left(_)).then_some(EXPIRY_SET);
        let next = if is_gone { Some(DELETED) } else { expires };
        std::iter::once(first).chain(next.map(KeyEvent::of)).collect()
    }

    /// What is told of the value.
    fn first_event(&self, written: &Written) -> Option<KeyEvent> {
        let is_done = match &self.edit {
            Edit::Fields(..) => written.applied,
            Edit::Delete => written.old.is_some(),
            Edit::Members(..) | Edit::Push(_) | Edit::Pull(..) => written.count > 0,
        };
        let fields = self.changed_fields(written);
        let removes_nothing = matches!(self.edit, Edit::Fields(_, Condition::RowExists)) && fields.is_empty();
        (is_done && !removes_nothing).then_some(KeyEvent { name: self.event, fields })
    }

    /// The fields of a hash that it has written, or removed.
    fn changed_fields(&self, written: &Written) -> Vec<Bytes> {
        let Edit::Fields(changes, condition) = &self.edit else { return Vec::new() };
        let was_there = |field: &Bytes| written.old.as_ref().is_some_and(|old| old.find(field).is_some());
        let is_meant = |field: &&Bytes| self.is_of_hash && (*condition != Condition::RowExists || was_there(field));
        changes.iter().map(|(field, _)| field).filter(is_meant).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Record, Verb, verb_of};
    use super::{KeyEvent, TtlChange, Write, Written};
    use crate::command::{OwnedRequest, lookup};

    fn write(line: &str) -> Write {
        let request =
            OwnedRequest::from_words(&line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>());
        let spec = lookup(request.view().arg(0), b"").expect("a command");
        let Some(Verb::Write(verb)) = verb_of(spec) else { unreachable!("{line} writes") };
        verb.read(&request.view(), spec).expect("read")
    }

    fn told(events: &[KeyEvent]) -> String {
        let shown = |event: &KeyEvent| {
            let fields: Vec<_> = event.fields.iter().map(|field| String::from_utf8_lossy(field)).collect();
            [event.name.to_owned(), fields.join(",")].join(" ").trim_end().to_owned()
        };
        events.iter().map(shown).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_write_is_told_by_what_it_has_changed() {
        let hash = |pairs: &[(&str, &str)]| Record::hash(pairs).ok();
        let (both, one) = (hash(&[("a", "1"), ("b", "2")]), hash(&[("a", "1")]));
        let done = |old: &Option<Record>, new: &Option<Record>, count| Written {
            old: old.clone(),
            new: new.clone(),
            tells_new: true,
            applied: true,
            count,
        };
        let nothing = Written { applied: false, ..done(&one, &one, 0) };
        for (line, written, expected) in [
            ("HSET k a 1 b 2", done(&None, &both, 0), "hset a,b"),
            ("HDEL k b c", done(&both, &one, 0), "hdel b"),
            ("HDEL k c", done(&one, &one, 0), ""),
            ("HSET k  1 b 2", done(&None, &both, 0), "hset ,b"),
            ("HDEL k  c", done(&hash(&[("", "1"), ("b", "2")]), &hash(&[("b", "2")]), 0), "hdel"),
            ("HDEL k ", done(&hash(&[("", "1")]), &None, 0), "hdel; del"),
            ("HDEL k ", done(&one, &one, 0), ""),
            ("HDEL k a", done(&one, &None, 0), "hdel a; del"),
            ("HSETNX k a 2", nothing.clone(), ""),
            ("HINCRBY k a 2", done(&one, &one, 0), "hincrby a"),
            ("SET k v", done(&None, &None, 0), "set"),
            ("SET k v EX 9", done(&None, &None, 0), "set; expire"),
            ("SET k v NX EX 9", nothing.clone(), ""),
            ("SETEX k 9 v", done(&None, &None, 0), "set; expire"),
            ("DECR k", done(&None, &None, 0), "incrby"),
            ("GETDEL k", done(&one, &None, 1), "del"),
            ("GETDEL k", done(&None, &None, 0), ""),
            ("SADD k a", done(&None, &None, 1), "sadd"),
            ("SADD k a", done(&None, &None, 0), ""),
            ("SREM k a", done(&None, &one, 1), "srem"),
            ("SREM k a", done(&None, &None, 1), "srem; del"),
            ("SREM k a", Written { tells_new: false, ..done(&None, &None, 1) }, "srem"),
            ("RPUSH k a", done(&None, &None, 1), "rpush"),
            ("LREM k 0 a", done(&None, &None, 2), "lrem; del"),
        ] {
            assert_eq!(told(&write(line).events(&written)), expected, "{line}");
        }
        assert!(write("SET k v").events(&done(&None, &None, 0)).iter().all(|event| event.fields.is_empty()));
        let empty = write("HINCRBY k  1").events(&done(&None, &hash(&[("", "1")]), 0));
        assert_eq!(empty[0].fields, [""]);
        assert_eq!(told(&Write::delete().events(&done(&one, &None, 1))), "del");
    }

    #[test]
    fn a_change_of_when_a_key_expires_is_told_as_redis_calls_it() {
        for (life, expected) in [
            (TtlChange::Keep, None),
            (TtlChange::Persist, Some("persist")),
            (TtlChange::Left(1), Some("expire")),
            (TtlChange::Left(0), Some("del")),
        ] {
            assert_eq!(life.event().map(|event| event.name), expected);
        }
    }
}
