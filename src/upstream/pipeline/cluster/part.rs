//! What one server was given of a batch, and what has come of it.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};

use crate::resp::reply::short_reply;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::cluster::redirect::Redirect;
use crate::upstream::endpoint::replicas::readers::Reader;
use crate::upstream::pipeline::account::Kept;
use crate::upstream::pipeline::batch::{Asked, Expect};
use crate::upstream::pipeline::lane_ticket::{Broken, Chunk, LaneTicket};

/// What one node was given of the batch, and what has come of it.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) ticket: LaneTicket,
    pub(super) server: Arc<Endpoint>,
    /// It is a replica.
    reader: Option<Arc<Reader>>,
    /// Its requests.
    pub(super) bytes: Bytes,
    asked: Vec<Asked>,
    /// How many have been answered, and where the front one begins.
    answered: usize,
    pub(super) start: usize,
    /// Replies that have come and were not taken.
    pub(super) come: Bytes,
    /// What has come ends within a line: nothing can be told of it before more comes.
    pub(super) lacks: bool,
    kept: Kept,
}

impl Part {
    pub(super) fn new(ticket: LaneTicket, server: Arc<Endpoint>, bytes: Bytes, asked: Vec<Asked>) -> Self {
        let kept = Kept::new(ticket.account());
        let (reader, come) = (None, Bytes::new());
        Self { ticket, server, reader, bytes, asked, answered: 0, start: 0, come, lacks: false, kept }
    }

    /// The same, of a replica if there is one.
    pub(super) fn at(self, reader: Option<Arc<Reader>>) -> Self {
        Self { reader, ..self }
    }

    /// The primary may be asked instead.
    pub(super) const fn is_of_replica(&self) -> bool {
        self.reader.is_some()
    }

    /// The reply that begins now may send its request elsewhere: an error, and anything of a replica of a cluster.
    pub(super) fn may_redirect(&self) -> bool {
        self.come.first() == Some(&b'-') || self.reader.as_ref().is_some_and(|reader| reader.is_of_cluster)
    }

    /// Where this whole reply sends its request. Whatever error a replica answers with, the primary is asked; and in a
    /// cluster what a replica does not find may be on its way to another node, which only the primary knows.
    pub(super) fn redirect(&self, reply: &[u8]) -> Option<Redirect> {
        let Some(reader) = &self.reader else { return Redirect::read(reply, &self.server.host()) };
        let is_error = reply.first() == Some(&b'-');
        if is_error && !is_about_the_request(reply) {
            reader.leave();
        }
        (is_error || reader.is_of_cluster && finds_nothing(reply)).then_some(Redirect::Primary)
    }

    /// What the front request expects.
    pub(super) fn front(&self) -> Option<&Asked> {
        self.asked.get(self.answered)
    }

    /// The front request has been answered.
    pub(super) fn pass(&mut self) {
        if let Some(asked) = self.asked.get(self.answered) {
            (self.start, self.answered) = (asked.end, self.answered + 1);
        }
    }

    /// Ready when some of its replies have come; with a push message if one came before them.
    pub(super) fn poll_come(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        if self.come.is_empty() || self.lacks {
            match ready!(self.ticket.poll_chunk(cx))? {
                None => return Poll::Ready(Err(Broken)),
                Some(Chunk::Push(push)) => return Poll::Ready(Ok(Some(push))),
                Some(Chunk::Reply(bytes)) if self.come.is_empty() => self.come = bytes,
                Some(Chunk::Reply(bytes)) => self.come = [&self.come[..], &bytes].concat().into(),
            }
            self.kept.are(self.come.len());
            self.lacks = false;
        }
        Poll::Ready(Ok(None))
    }

    /// The length of the reply in front, if it is a short one to one request.
    #[inline]
    pub(super) fn short_reply(&self) -> Option<usize> {
        let length = short_reply(&self.come).filter(|_| !self.may_redirect())?;
        self.front().is_some_and(|asked| asked.expect == Expect::Replies(1)).then_some(length)
    }

    /// Takes what has come in front.
    pub(super) fn take(&mut self, length: usize) -> Bytes {
        let taken = self.come.split_to(length);
        self.settle();
        taken
    }

    /// Copies what has come in front behind `out`.
    #[inline]
    pub(super) fn move_to(&mut self, out: &mut BytesMut, length: usize) {
        out.extend_from_slice(&self.come[..length]);
        self.come.advance(length);
        self.settle();
    }

    fn settle(&mut self) {
        if self.come.is_empty() {
            self.come = Bytes::new();
            self.kept.are(0);
        }
    }
}

/// True for errors that any server would answer with.
fn is_about_the_request(reply: &[u8]) -> bool {
    let is_ours = reply.strip_prefix(b"-ERR ").is_some_and(|text| text.starts_with(b"hearthside: "));
    !is_ours && [&b"-ERR "[..], b"-WRONGTYPE ", b"-NOPERM "].iter().any(|code| reply.starts_with(code))
}

/// True for a reply that says that nothing was found: nil, zero or an empty list, or a list of these.
fn finds_nothing(reply: &[u8]) -> bool {
    let is_list = matches!(reply.first(), Some(b'*' | b'~' | b'%'));
    let lines = reply.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end).filter(|line| !line.is_empty());
    lines
        .skip(usize::from(is_list))
        .all(|line| matches!(line, b"_" | b"$-1" | b"*-1" | b":0" | b":-1" | b":-2" | b"$0" | b"+none" | b",0"))
}

#[cfg(test)]
mod tests {
    use super::finds_nothing;

    #[test]
    fn what_finds_nothing_is_told_from_what_finds_something() {
        for reply in
            ["$-1", "_", "*0", "*-1", "~0", "%0", ":0", ":-2", "$0\r\n", "+none", "*2\r\n$-1\r\n$-1", "*1\r\n:0"]
        {
            assert!(finds_nothing(format!("{reply}\r\n").as_bytes()), "{reply}");
        }
        for reply in ["$1\r\na", ":1", "+string", "*2\r\n$-1\r\n$1\r\na", "%1\r\n$1\r\na\r\n$-1", ",1"] {
            assert!(!finds_nothing(format!("{reply}\r\n").as_bytes()), "{reply}");
        }
    }
}
