//! The messages of Postgres's output plugin `pgoutput`, protocol version 1, which is all that is asked for: large and
//! prepared transactions come whole, at their commit. Pure.
//! Source: <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>

/// One message. Texts are as the session's settings have them.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'m> {
    /// A transaction begins; the low half of its number.
    Begin(u32),
    Commit,
    /// Comes before the first row of a table, and again when the table has changed.
    Relation(Relation),
    Insert {
        relation: u32,
        new: Tuple<'m>,
    },
    Update {
        relation: u32,
        old: Option<Tuple<'m>>,
        new: Tuple<'m>,
    },
    Delete {
        relation: u32,
        old: Tuple<'m>,
    },
    Truncate(Vec<u32>),
    /// A row that is too long to be read, of this table.
    TooLong(u32),
    /// What was written by `pg_logical_emit_message`.
    Emitted {
        prefix: &'m [u8],
        content: &'m [u8],
    },
    /// Where a replicated transaction came from, and types.
    Other,
}

/// A table, partition or child as its rows are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) id: u32,
    /// Whether old rows come with all their columns (REPLICA IDENTITY FULL).
    pub(super) is_full: bool,
    pub(super) columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// Whether it belongs to the replica identity.
    pub(super) is_identity: bool,
    pub(super) type_id: u32,
}

/// A row, column by column.
pub(super) type Tuple<'m> = Vec<Value<'m>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'m> {
    /// NULL, or in an old row: not part of the replica identity.
    Null,
    /// A large value that was not changed, and is not sent.
    Unchanged,
    Text(&'m [u8]),
}

/// A message that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) u8);

/// Reads one message.
///
/// # Errors
/// [`Malformed`], with the message's first byte.
pub(super) fn decode(message: &[u8]) -> Result<Message<'_>, Malformed> {
    let tag = message.first().copied().unwrap_or_default();
    read(tag, &mut Rest(message.get(1..).unwrap_or_default())).ok_or(Malformed(tag))
}

/// Reads the beginning of a message that is too long.
///
/// # Errors
/// As [`decode`].
pub(super) fn decode_beginning(message: &[u8]) -> Result<Message<'_>, Malformed> {
    let tag = message.first().copied().unwrap_or_default();
    let relation = || Rest(message.get(1..).unwrap_or_default()).u32();
    match tag {
        b'I' | b'U' | b'D' => relation().map(Message::TooLong).ok_or(Malformed(tag)),
        // What somebody has written into the log; ours are short.
        b'M' => Ok(Message::Other),
        _ => Err(Malformed(tag)),
    }
}

fn read<'m>(tag: u8, rest: &mut Rest<'m>) -> Option<Message<'m>> {
    Some(match tag {
        b'B' => {
            // The commit's position and time.
            rest.skip(16)?;
            Message::Begin(rest.u32()?)
        }
        b'C' => Message::Commit,
        b'R' => Message::Relation(relation(rest)?),
        b'I' => {
            let relation = rest.u32()?;
            (rest.u8()? == b'N').then_some(())?;
            Message::Insert { relation, new: tuple(rest)? }
        }
        b'U' => update(rest)?,
        b'D' => {
            let relation = rest.u32()?;
            matches!(rest.u8()?, b'K' | b'O').then_some(())?;
            Message::Delete { relation, old: tuple(rest)? }
        }
        b'T' => {
            let count = rest.u32()?;
            // CASCADE, RESTART IDENTITY.
            rest.skip(1)?;
            Message::Truncate((0..count).map(|_| rest.u32()).collect::<Option<_>>()?)
        }
        b'M' => {
            // Whether it belongs to a transaction, and its position.
            rest.skip(9)?;
            let prefix = rest.text()?;
            let length = rest.u32()?;
            Message::Emitted { prefix, content: rest.take(length as usize)? }
        }
        b'O' | b'Y' => Message::Other,
        _ => return None,
    })
}

fn update<'m>(rest: &mut Rest<'m>) -> Option<Message<'m>> {
    let relation = rest.u32()?;
    let (old, next) = match rest.u8()? {
        b'K' | b'O' => (Some(tuple(rest)?), rest.u8()?),
        next => (None, next),
    };
    (next == b'N').then_some(Message::Update { relation, old, new: tuple(rest)? })
}

fn relation(rest: &mut Rest<'_>) -> Option<Relation> {
    let id = rest.u32()?;
    let (_schema, _name) = (rest.text()?, rest.text()?);
    let is_full = rest.u8()? == b'f';
    let count = rest.u16()?;
    let column = |_| {
        let is_identity = rest.u8()? & 1 != 0;
        let name = String::from_utf8(rest.text()?.to_vec()).ok()?;
        let type_id = rest.u32()?;
        // What modifies the type.
        rest.skip(4)?;
        Some(Column { name, is_identity, type_id })
    };
    Some(Relation { id, is_full, columns: (0..count).map(column).collect::<Option<_>>()? })
}

fn tuple<'m>(rest: &mut Rest<'m>) -> Option<Tuple<'m>> {
    let count = rest.u16()?;
    let value = |_| {
        Some(match rest.u8()? {
            b'n' => Value::Null,
            b'u' => Value::Unchanged,
            b't' => {
                let length = rest.u32()?;
                Value::Text(rest.take(length as usize)?)
            }
            _ => return None,
        })
    };
    (0..count).map(value).collect()
}

/// What has not been read yet.
struct Rest<'m>(&'m [u8]);

impl<'m> Rest<'m> {
    fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, length: usize) -> Option<()> {
        self.take(length).map(|_| ())
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// A text that ends with a zero byte.
    fn text(&mut self) -> Option<&'m [u8]> {
        let length = memchr::memchr(0, self.0)?;
        let text = self.take(length)?;
        self.skip(1)?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Column, Malformed, Message, Relation, Value, decode};

    #[test]
    fn rows_are_read_with_their_old_keys() {
        let update = b"U\0\0\0\x07K\0\x02t\0\0\0\x011nN\0\x03t\0\0\0\x012un";
        let old = Some(vec![Value::Text(b"1"), Value::Null]);
        let new = vec![Value::Text(b"2"), Value::Unchanged, Value::Null];
        assert_eq!(decode(update), Ok(Message::Update { relation: 7, old, new: new.clone() }));
        let plain = b"U\0\0\0\x07N\0\x03t\0\0\0\x012un";
        assert_eq!(decode(plain), Ok(Message::Update { relation: 7, old: None, new: new.clone() }));
        assert_eq!(decode(b"I\0\0\0\x07N\0\x03t\0\0\0\x012un"), Ok(Message::Insert { relation: 7, new: new.clone() }));
        assert_eq!(decode(b"D\0\0\0\x07O\0\x03t\0\0\0\x012un"), Ok(Message::Delete { relation: 7, old: new }));
        assert_eq!(decode(b"T\0\0\0\x02\x01\0\0\0\x07\0\0\0\x08"), Ok(Message::Truncate(vec![7, 8])));
    }

    #[test]
    fn what_surrounds_rows_is_read() {
        assert_eq!(decode(b"B\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\x03\x04"), Ok(Message::Begin(0x304)));
        assert_eq!(decode(b"C\0more"), Ok(Message::Commit));
        let relation = b"R\0\0\0\x07public\0t\0f\0\x01\x01id\0\0\0\0\x17\xff\xff\xff\xff";
        let columns = vec![Column { name: "id".into(), is_identity: true, type_id: 23 }];
        assert_eq!(decode(relation), Ok(Message::Relation(Relation { id: 7, is_full: true, columns })));
        let emitted = b"M\x01\0\0\0\0\0\0\0\x01a\0\0\0\0\x02bc";
        assert_eq!(decode(emitted), Ok(Message::Emitted { prefix: b"a", content: b"bc" }));
        assert_eq!(decode(b"O\0"), Ok(Message::Other));
    }

    #[test]
    fn what_was_not_asked_for_is_not_taken_for_anything() {
        // A streamed transaction, and a prepared one.
        assert_eq!(decode(b"S\0\0\0\x01\x01"), Err(Malformed(b'S')));
        assert_eq!(decode(b"P\0"), Err(Malformed(b'P')));
        assert_eq!(decode(b""), Err(Malformed(0)));
        assert_eq!(decode(b"I\0\0\0\x07N\0\x01t\x7f\xff\xff\xff1"), Err(Malformed(b'I')));
        assert_eq!(decode(b"T\xff\xff\xff\xff\0\0\0\0\x07"), Err(Malformed(b'T')));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much_for_it(tag in prop::sample::select(b"BCRIUDTMOYx".to_vec()), rest: Vec<u8>) {
            let _ = decode(&[&[tag], &rest[..]].concat());
        }

        #[test]
        fn a_message_that_is_cut_short_is_malformed(cut in 1_usize..36) {
            let whole = b"U\0\0\0\x07O\0\x02t\0\0\0\x03abcnN\0\x02t\0\0\0\x03abdu";
            prop_assert_eq!(decode(whole).is_ok(), true);
            prop_assert_eq!(decode(&whole[..cut.min(whole.len() - 1)]).is_err(), true);
        }
    }
}
