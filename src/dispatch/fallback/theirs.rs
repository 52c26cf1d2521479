//! What the upstream has of a key: it is asked over lanes, as clients are served.

use std::rc::Rc;

use bytes::Bytes;

use crate::command::slot_of;
use crate::dispatch::Services;
use crate::errors::upstream::LOST_IN_REPLY;
use crate::record::{Record, Shape};
use crate::resp::pieces::Pieces;
use crate::resp::reply::{each, elements};
use crate::resp::{Proto, decode, encode};
use crate::session::Session;
use crate::upstream::{Account, Batch, Broken, Group, Lane, To};

/// The upstream, as a client's requests for keys that the store has not are asked there.
#[derive(Clone)]
pub(in crate::dispatch) struct Theirs {
    lane: Lane,
    is_cluster: bool,
}

/// What it has under a key.
pub(super) enum Value {
    Nothing,
    /// A value of the type that the mapping has, and the milliseconds that it has to live.
    Whole(Record, Option<i64>),
    OtherType,
}

/// What it answered to a command, and whether it had the key when that had run.
pub(super) struct Told {
    pub(super) reply: Pieces,
    pub(super) pushes: Bytes,
    pub(super) may_have_key: bool,
}

impl Theirs {
    /// With the client's protocol, database and login.
    pub(in crate::dispatch) fn of_client(services: &Services, session: &Session) -> Self {
        Self::of(services, session, session.group.clone(), &session.account)
    }

    /// The same with a protocol of which the replies are read here.
    pub(super) fn of_sidecar(services: &Services, session: &Session) -> Self {
        let group = Group { proto: Proto::Resp2, ..session.group.clone() };
        Self::of(services, session, group, &Rc::new(Account::default()))
    }

    fn of(services: &Services, session: &Session, group: Group, account: &Rc<Account>) -> Self {
        let lane = services.upstream.lane(&group, session.peer.id, account);
        Self { lane, is_cluster: services.upstream.is_cluster() }
    }

    fn to(&self, key: &[u8]) -> To {
        if self.is_cluster { To::Slot(slot_of(key)) } else { To::Home }
    }

    /// Asks a command about one key, and then whether the key is there.
    pub(super) async fn tell(&self, command: Bytes, key: &[u8]) -> Result<Told, Broken> {
        let to = self.to(key);
        let told = self.lane.submit(Batch::one(command, true).to(to));
        let exists = self.lane.submit(Batch::one(encode::request_of(&[b"EXISTS", key]), true).to(to));
        let (reply, pushes) = told.parts().await?;
        // Whoever does not answer may have it.
        let may_have_key = decode::integer(&exists.whole().await?) != Some(0);
        Ok(Told { reply, pushes, may_have_key })
    }

    /// Asks one command of one key.
    ///
    /// # Errors
    /// The error that came instead of an answer.
    pub(super) async fn ask(&self, words: &[&[u8]], key: &[u8], resendable: bool) -> Result<Bytes, String> {
        let asked = self.lane.submit(Batch::one(encode::request_of(words), resendable).to(self.to(key)));
        let reply = asked.whole().await.map_err(|Broken| LOST_IN_REPLY.to_owned())?;
        decode::error(&reply).map_or(Ok(reply), Err)
    }

    /// All that it has under a key of this type.
    ///
    /// # Errors
    /// The error that came instead.
    pub(super) async fn value(&self, shape: Shape, key: &[u8]) -> Result<Value, String> {
        let to = self.to(key);
        let questions = [encode::request_of(&whole_value(shape, key)), encode::request_of(&[b"PTTL", key])]
            .map(|question| (to, question));
        let replies = self.lane.submit(Batch::each(questions, true)).whole().await;
        let replies = each(&replies.map_err(|Broken| LOST_IN_REPLY.to_owned())?);
        let [value, left] = &replies[..] else {
            return Err(LOST_IN_REPLY.to_owned());
        };
        match decode::error(value) {
            Some(text) if text.starts_with("WRONGTYPE") => return Ok(Value::OtherType),
            Some(text) => return Err(text),
            None => {}
        }
        let left = match (decode::integer(left), decode::error(left)) {
            (Some(left), _) => left,
            (None, text) => return Err(text.unwrap_or_else(|| LOST_IN_REPLY.to_owned())),
        };
        let record = read_value(shape, value).ok_or_else(|| LOST_IN_REPLY.to_owned())?;
        Ok(match record {
            // It may have ended between the two answers.
            Some(record) if left != -2 => Value::Whole(record, (left >= 0).then_some(left)),
            _ => Value::Nothing,
        })
    }
}

/// The command that reads a value of this type whole.
pub(in crate::dispatch) fn whole_value(shape: Shape, key: &[u8]) -> Vec<&[u8]> {
    let (command, behind) = Record::asked_whole(shape);
    [command.as_bytes(), key].into_iter().chain(behind.iter().map(|word| word.as_bytes())).collect()
}

/// The value in the answer to that; the inner `None`: there is no such key.
pub(in crate::dispatch) fn read_value(shape: Shape, reply: &[u8]) -> Option<Option<Record>> {
    let parts: Vec<&[u8]> = match shape {
        Shape::String if reply.starts_with(b"$-1") => Vec::new(),
        Shape::String => vec![decode::bulk(reply)?],
        _ => elements(reply)?.into_iter().filter_map(decode::bulk).collect(),
    };
    Record::of_parts(shape, &parts).ok()
}

#[cfg(test)]
mod tests {
    use super::{Record, Shape, read_value};

    #[test]
    fn what_the_upstream_answers_is_read_by_the_mappings_type() {
        let hash = Record::hash(&[("a", "1")]).ok();
        assert_eq!(read_value(Shape::Hash, b"*2\r\n$1\r\na\r\n$1\r\n1\r\n"), Some(hash));
        assert_eq!(read_value(Shape::Hash, b"*0\r\n"), Some(None));
        assert_eq!(read_value(Shape::String, b"$-1\r\n"), Some(None));
        assert_eq!(read_value(Shape::String, b"$0\r\n\r\n"), Some(Record::string(b"").ok()));
        assert_eq!(read_value(Shape::Set, b"+OK\r\n"), None);
    }
}
