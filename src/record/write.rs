//! Write commands (HSET, INCR, SADD, RPUSH, LREM and others): how each is read, and how it is answered from the value
//! before and after. Pure; the forms and error texts are those of Redis 7.0 (`t_hash.c`, `t_string.c`, `t_set.c`,
//! `t_list.c`). `verbs.rs` says which function reads which command.

use bytes::{BufMut, Bytes, BytesMut};

use super::edit::{Change, Condition, Decimal, Edit, Values};
use super::events::DELETED;
use super::read::{ReadError, integer};
use super::{Record, Shape};
use crate::command::{Request, Spec};
use crate::errors::as_redis;
use crate::resp::number::parse_i64;
use crate::resp::{Proto, encode};

/// What a write does to a key's time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlChange {
    /// Nothing.
    Keep,
    /// It does not expire any more.
    Persist,
    /// It expires in so many milliseconds; at once if that is not positive.
    Left(i64),
}

/// One write command, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// What it asks of the value.
    pub edit: Edit,
    /// What it asks of the time to live.
    pub life: TtlChange,
    form: ReplyForm,
    /// Its fields are a hash's; otherwise the only one is a string's value, and has an empty name.
    pub(super) is_of_hash: bool,
    /// The event that is told of it.
    pub(super) event: &'static str,
}

/// What a store did.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// The record before; `None`: absent, or not asked for.
    pub old: Option<Record>,
    /// The record afterwards; `None`: absent, or not known.
    pub new: Option<Record>,
    /// `new` is what there is now.
    pub tells_new: bool,
    /// False if the edit's condition did not hold, so that nothing changed.
    pub applied: bool,
    /// Members or elements that came or went.
    pub count: u64,
}

impl Written {
    /// True when it counts as a change of the key for those who watch it. The same value written again does, as in
    /// Redis; removing fields that are not there does not.
    #[must_use]
    pub fn has_changed(&self, edit: &Edit) -> bool {
        let removes_fields = matches!(edit, Edit::Fields(_, Condition::RowExists));
        self.applied && !(removes_fields && self.tells_new && self.old == self.new)
    }
}

/// How a command answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReplyForm {
    Ok,
    /// How many of the edit's fields were not there before.
    Created,
    /// How many of the edit's fields were there before.
    Removed,
    /// Whether it was applied, as 1 or 0.
    Applied,
    /// The field's value afterwards, as an integer.
    Integer,
    /// The field's value afterwards.
    Text,
    /// The length of the string afterwards.
    Length,
    /// The string before.
    Old,
    /// OK, or null if it was not applied.
    OkOrNull,
    /// Members or elements that came or went.
    Count,
    /// The length of the list afterwards.
    Elements,
}

impl Write {
    fn new(edit: Edit, form: ReplyForm) -> Self {
        Self { edit, life: TtlChange::Keep, form, is_of_hash: false, event: DELETED }
    }

    /// The same of a value of this type, of which this event is told.
    pub(super) fn of(self, shape: Shape, event: &'static str) -> Self {
        Self { is_of_hash: shape == Shape::Hash, event, ..self }
    }

    /// A string that becomes `value`.
    pub(super) fn value(value: &[u8], condition: Condition, gives_old: bool, life: TtlChange) -> Self {
        let form = match (gives_old, condition) {
            (true, _) => ReplyForm::Old,
            (false, Condition::Always) => ReplyForm::Ok,
            (false, _) => ReplyForm::OkOrNull,
        };
        let edit = one(&[], Change::Put(Bytes::copy_from_slice(value)), condition);
        Self { life, ..Self::new(edit, form) }
    }

    /// True if it can only take something away, so that an absent key stays absent.
    #[must_use]
    pub const fn only_removes(&self) -> bool {
        matches!(
            self.edit,
            Edit::Fields(_, Condition::RowExists) | Edit::Members(_, false) | Edit::Pull(..) | Edit::Delete
        )
    }

    /// True if it replaces a value of any type (SET and related commands).
    #[must_use]
    pub fn overwrites(&self) -> bool {
        let is_value = |(field, change): &(Bytes, Change)| field.is_empty() && matches!(change, Change::Put(_));
        let is_string = matches!(&self.edit, Edit::Fields(fields, _) if fields.iter().all(is_value));
        is_string && !self.is_of_hash && self.form != ReplyForm::Old && self.form != ReplyForm::Applied
    }

    /// True if nothing of the value before matters to it, whatever its type: neither to what there is afterwards, nor
    /// to the answer.
    #[must_use]
    pub fn replaces(&self) -> bool {
        self.overwrites() && self.form == ReplyForm::Ok && self.life != TtlChange::Keep
    }

    /// The DEL of one key.
    #[must_use]
    pub fn delete() -> Self {
        Self::new(Edit::Delete, ReplyForm::Removed)
    }

    /// What Redis would do to `old`, which is not changed: for writes that no store carries out.
    ///
    /// # Errors
    /// What Redis says of a value that is no number.
    pub fn fill(&self, old: Option<&Record>) -> Result<Written, &'static str> {
        let mut applied = true;
        let (new, count) = match &self.edit {
            Edit::Fields(..) => {
                let values = self.edit.changed(old)?;
                applied = values.is_some();
                let set: Values = values.unwrap_or_default().into_iter().filter(|(_, value)| value.is_some()).collect();
                let pairs: Vec<(&[u8], &[u8])> =
                    set.iter().map(|(field, value)| (&**field, value.as_deref().unwrap_or_default())).collect();
                let new = match pairs.first() {
                    Some((_, value)) if !self.is_of_hash => Record::string(value),
                    _ => Record::hash(&pairs),
                };
                (new.ok(), 0)
            }
            Edit::Members(members, add) => {
                let known = members.iter().filter(|member| old.is_some_and(|old| old.find(member).is_some())).count();
                (None, if *add { members.len() - known } else { known })
            }
            Edit::Push(elements) => {
                let before = (0..old.map_or(0, Record::len)).map(|i| old.map_or(&[][..], |old| old.name(i)));
                let all: Vec<&[u8]> = before.chain(elements.iter().map(|element| &**element)).collect();
                (Record::list(&all).ok(), elements.len())
            }
            Edit::Pull(most, element) => {
                let equal = (0..old.map_or(0, Record::len)).filter(|i| old.is_some_and(|old| old.name(*i) == element));
                let most =
                    if *most == 0 { usize::MAX } else { usize::try_from(most.unsigned_abs()).unwrap_or(usize::MAX) };
                (None, equal.take(most).count())
            }
            Edit::Delete => (None, 0),
        };
        Ok(Written { old: old.cloned(), new, tells_new: false, applied, count: count as u64 })
    }

    /// Appends the answer to a write with the result `written`.
    pub fn answer(&self, written: &Written, proto: Proto, out: &mut BytesMut) {
        let fields = || match &self.edit {
            Edit::Fields(fields, _) => fields.as_slice(),
            _ => &[],
        };
        let known = || {
            let is_there = |field: &Bytes| written.old.as_ref().is_some_and(|old| old.find(field).is_some());
            fields().iter().filter(|(field, _)| is_there(field)).count()
        };
        let after = || written.new.as_ref().and_then(|new| new.field_text(fields().first().map_or(&[], |(f, _)| f)));
        match self.form {
            ReplyForm::Ok => encode::simple(out, "OK"),
            ReplyForm::Created => encode::int(out, (fields().len() - known()) as i64),
            ReplyForm::Removed => encode::int(out, known() as i64),
            ReplyForm::Applied => encode::int(out, i64::from(written.applied)),
            ReplyForm::Integer => encode::int(out, whole(after().unwrap_or_default())),
            ReplyForm::Text => encode::bulk(out, after().unwrap_or_default()),
            ReplyForm::Length => encode::int(out, after().map_or(0, |text| text.len() as i64)),
            ReplyForm::Old => match written.old.as_ref().and_then(Record::encoded_string) {
                Some(encoded) => out.put_slice(encoded),
                None => encode::null(out, proto),
            },
            ReplyForm::OkOrNull if written.applied => encode::simple(out, "OK"),
            ReplyForm::OkOrNull => encode::null(out, proto),
            ReplyForm::Count => encode::int(out, written.count as i64),
            ReplyForm::Elements => encode::int(out, written.new.as_ref().map_or(0, |new| new.len() as i64)),
        }
    }
}

/// An integer as a column may show it: `7`, or `7.00`.
fn whole(text: &[u8]) -> i64 {
    let integral = text.split(|b| *b == b'.').next().unwrap_or_default();
    parse_i64(integral).unwrap_or_default()
}

fn rest<'a>(request: &Request<'a>, from: usize) -> impl Iterator<Item = Bytes> + use<'a> {
    request.args_from(from).map(Bytes::copy_from_slice)
}

fn one(field: &[u8], change: Change, condition: Condition) -> Edit {
    Edit::Fields(vec![(Bytes::copy_from_slice(field), change)], condition)
}

/// Each field once; the last change of one counts.
fn each_once(changes: impl Iterator<Item = (Bytes, Change)>) -> Vec<(Bytes, Change)> {
    let mut fields: Vec<(Bytes, Change)> = Vec::new();
    for (field, change) in changes {
        match fields.iter_mut().find(|(known, _)| *known == field) {
            Some((_, known)) => *known = change,
            None => fields.push((field, change)),
        }
    }
    fields
}

pub(super) fn put_fields(request: &Request<'_>, spec: &'static Spec, form: ReplyForm) -> Result<Write, ReadError> {
    if !request.len().is_multiple_of(2) {
        return Err(ReadError::Arity(&spec.name));
    }
    let mut words = rest(request, 2);
    let pairs = std::iter::from_fn(|| Some((words.next()?, Change::Put(words.next()?))));
    Ok(Write::new(Edit::Fields(each_once(pairs), Condition::Always), form))
}

pub(super) fn hsetnx(request: &Request<'_>, _: &'static Spec) -> Result<Write, ReadError> {
    let value = Change::Put(Bytes::copy_from_slice(request.arg(3)));
    Ok(Write::new(one(request.arg(2), value, Condition::FieldAbsent), ReplyForm::Applied))
}

pub(super) fn hdel(request: &Request<'_>, _: &'static Spec) -> Result<Write, ReadError> {
    let fields = each_once(rest(request, 2).map(|field| (field, Change::Clear)));
    Ok(Write::new(Edit::Fields(fields, Condition::RowExists), ReplyForm::Removed))
}

pub(super) fn hincrby(request: &Request<'_>, _: &'static Spec) -> Result<Write, ReadError> {
    let change = Change::Add(integer(request.arg(3))?);
    Ok(Write::new(one(request.arg(2), change, Condition::Always), ReplyForm::Integer))
}

fn decimal(text: &[u8]) -> Result<Change, ReadError> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.strip_prefix(b"-").or_else(|| lower.strip_prefix(b"+")).unwrap_or(&lower);
    if digits == b"inf" || digits == b"infinity" {
        return Err(ReadError::Other(as_redis::NAN_OR_INFINITY));
    }
    Decimal::parse(text).map(Change::AddFloat).ok_or(ReadError::Other(as_redis::NOT_FLOAT))
}

pub(super) fn hincrbyfloat(request: &Request<'_>, _: &'static Spec) -> Result<Write, ReadError> {
    Ok(Write::new(one(request.arg(2), decimal(request.arg(3))?, Condition::Always), ReplyForm::Text))
}

pub(super) fn incrbyfloat(request: &Request<'_>, _: &'static Spec) -> Result<Write, ReadError> {
    let change = decimal(request.arg(2)).map_err(|error| match error {
        ReadError::Other(as_redis::NAN_OR_INFINITY) => ReadError::Other(as_redis::SUM_NOT_FINITE),
        other => other,
    })?;
    Ok(Write::new(one(&[], change, Condition::Always), ReplyForm::Text))
}

pub(super) fn count_value(by: i64) -> Write {
    Write::new(one(&[], Change::Add(by), Condition::Always), ReplyForm::Integer)
}

pub(super) fn incrby(request: &Request<'_>, _: &'static Spec) -> Result<Write, ReadError> {
    Ok(count_value(integer(request.arg(2))?))
}

pub(super) fn decrby(request: &Request<'_>, _: &'static Spec) -> Result<Write, ReadError> {
    let by = integer(request.arg(2))?.checked_neg().ok_or(ReadError::Other(as_redis::DECREMENT_OVERFLOWS))?;
    Ok(count_value(by))
}

pub(super) fn append(request: &Request<'_>, _: &'static Spec) -> Result<Write, ReadError> {
    let change = Change::Append(Bytes::copy_from_slice(request.arg(2)));
    Ok(Write::new(one(&[], change, Condition::Always), ReplyForm::Length))
}

pub(super) fn setnx(request: &Request<'_>, _: &'static Spec) -> Result<Write, ReadError> {
    let value = Change::Put(Bytes::copy_from_slice(request.arg(2)));
    let edit = one(&[], value, Condition::FieldAbsent);
    Ok(Write { life: TtlChange::Persist, ..Write::new(edit, ReplyForm::Applied) })
}

pub(super) fn getset(request: &Request<'_>, _: &'static Spec) -> Result<Write, ReadError> {
    Ok(Write::value(request.arg(2), Condition::Always, true, TtlChange::Persist))
}

pub(super) fn getdel(_: &Request<'_>, _: &'static Spec) -> Result<Write, ReadError> {
    Ok(Write::new(Edit::Delete, ReplyForm::Old))
}

pub(super) fn members(request: &Request<'_>, add: bool) -> Write {
    let mut seen = std::collections::HashSet::new();
    let members = rest(request, 2).filter(|member| seen.insert(member.clone())).collect();
    Write::new(Edit::Members(members, add), ReplyForm::Count)
}

pub(super) fn rpush(request: &Request<'_>, _: &'static Spec) -> Result<Write, ReadError> {
    Ok(Write::new(Edit::Push(rest(request, 2).collect()), ReplyForm::Elements))
}

pub(super) fn lrem(request: &Request<'_>, _: &'static Spec) -> Result<Write, ReadError> {
    let edit = Edit::Pull(integer(request.arg(2))?, Bytes::copy_from_slice(request.arg(3)));
    Ok(Write::new(edit, ReplyForm::Count))
}
