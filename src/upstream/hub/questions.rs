//! What a subscriber's connection was asked and has not answered. Answers come in the order of the requests, so an
//! error is about the first of them; what the server says unasked is about none. Pure.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::table::Topic;
use crate::resp::encode;
use crate::resp::pubsub::{GAP, Kind};
use crate::upstream::endpoint::greeting::PING;

/// Topics subscribed in one request.
const AT_ONCE: usize = 512;

#[derive(Debug)]
struct Asked {
    /// What it is about; none of a PING.
    kind: Option<(Kind, bool)>,
    /// Those whose confirmation is still to come.
    names: VecDeque<Bytes>,
}

/// Requests that are to be sent, and those without answers.
#[derive(Debug, Default)]
pub(super) struct Questions {
    pub(super) out: BytesMut,
    asked: VecDeque<Asked>,
}

impl Questions {
    /// Subscribes to this, or ends that.
    pub(super) fn ask(&mut self, (kind, name): &Topic, on: bool) {
        tracing::trace!(?kind, on, "a subscription changes");
        self.put(*kind, on, std::slice::from_ref(name));
    }

    fn put(&mut self, kind: Kind, on: bool, names: &[Bytes]) {
        let words: Vec<&[u8]> =
            [kind.word(on).as_bytes()].into_iter().chain(names.iter().map(|name| &name[..])).collect();
        encode::request(&mut self.out, &words);
        self.asked.push_back(Asked { kind: Some((kind, on)), names: names.iter().cloned().collect() });
    }

    /// Asks whether anybody is there.
    pub(super) fn ping(&mut self) {
        encode::request(&mut self.out, &PING);
        self.asked.push_back(Asked { kind: None, names: VecDeque::new() });
    }

    /// Subscribes to all of this. Of shard channels each is asked for by itself: they are in different slots.
    pub(super) fn ask_all(&mut self, topics: &[Topic]) {
        for (kind, most) in [(Kind::Shard, 1), (Kind::Pattern, AT_ONCE), (Kind::Channel, AT_ONCE)] {
            let mut names: Vec<Bytes> =
                topics.iter().filter(|topic| topic.0 == kind).map(|topic| topic.1.clone()).collect();
            names.sort_by_key(|name| *name == GAP);
            names.chunks(most).for_each(|some| self.put(kind, true, some));
        }
    }

    /// A confirmation has come; false if nobody has asked for it.
    pub(super) fn confirmed(&mut self, kind: Kind, name: &[u8], on: bool) -> bool {
        let Some(front) = self.asked.front_mut() else { return false };
        let is_asked = front.kind == Some((kind, on)) && front.names.front().is_some_and(|asked| *asked == name);
        if is_asked {
            front.names.pop_front();
            if front.names.is_empty() {
                self.asked.pop_front();
            }
        }
        is_asked
    }

    /// An answer that is no confirmation has come; the topics that are not subscribed because of it, if it is an error.
    pub(super) fn answered(&mut self) -> Vec<Topic> {
        match self.asked.pop_front() {
            Some(Asked { kind: Some((kind, true)), names }) => names.into_iter().map(|name| (kind, name)).collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Questions;
    use crate::resp::pubsub::Kind;

    #[test]
    fn an_error_is_about_the_first_question_and_what_nobody_asked_about_none() {
        let topic = |kind, name: &'static str| (kind, Bytes::from_static(name.as_bytes()));
        let (a, b, s) = (topic(Kind::Channel, "a"), topic(Kind::Channel, "b"), topic(Kind::Shard, "s"));
        let mut questions = Questions::default();
        questions.ask_all(&[a.clone(), b.clone(), s.clone()]);
        questions.ping();
        questions.ask(&s, false);
        assert!(!questions.confirmed(Kind::Shard, b"s", false), "the server ends it by itself");
        assert!(questions.confirmed(Kind::Shard, b"s", true) && questions.confirmed(Kind::Channel, b"a", true));
        assert_eq!(questions.answered(), [b]);
        assert!(questions.answered().is_empty(), "that was the PING's");
        assert!(questions.confirmed(Kind::Shard, b"s", false));
        assert!(questions.answered().is_empty());
    }
}
