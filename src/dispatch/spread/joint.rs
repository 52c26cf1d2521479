//! One reply of many: what each policy of the command table makes of the replies of several nodes.

use std::collections::HashSet;

use bytes::{BufMut, Bytes, BytesMut};

use crate::errors;
use crate::resp::{decode, encode, reply};
use crate::route::Joint;

/// The first of these replies; if there is none, the error of a node without slots.
pub fn first(replies: &[Bytes]) -> Bytes {
    replies.first().cloned().unwrap_or_else(|| {
        let mut out = BytesMut::new();
        encode::error(&mut out, errors::as_redis::NO_SLOTS);
        out.freeze()
    })
}

/// What a client gets for these replies.
pub fn join(joint: Joint, replies: &[Bytes]) -> Bytes {
    let first = first(replies);
    if replies.is_empty() {
        return first;
    }
    let is_error = |reply: &&Bytes| reply.starts_with(b"-");
    if joint == Joint::OneSucceeded {
        return replies.iter().find(|reply| !is_error(reply)).cloned().unwrap_or(first);
    }
    if let Some(error) = replies.iter().find(is_error) {
        return error.clone();
    }
    match joint {
        Joint::OneSucceeded | Joint::AllSucceeded => first,
        Joint::Listed => listed(replies, false).unwrap_or(first),
        Joint::Distinct => listed(replies, true).unwrap_or(first),
        Joint::Counted => counted(replies).unwrap_or(first),
        Joint::And | Joint::Or | Joint::Min | Joint::Max | Joint::Sum => numbers(joint, replies).unwrap_or(first),
    }
}

/// All elements in one array, or set, or map; perhaps each only once.
fn listed(replies: &[Bytes], is_once: bool) -> Option<Bytes> {
    let kind = *replies.first()?.first()?;
    let parts: Vec<Vec<&[u8]>> = replies.iter().map(|reply| reply::parts(reply)).collect::<Option<_>>()?;
    let (mut parts, mut seen) = (parts.concat(), HashSet::new());
    parts.retain(|part| !is_once || seen.insert(*part));
    let mut out = BytesMut::new();
    out.put_u8(kind);
    out.put_slice((if kind == b'%' { parts.len() / 2 } else { parts.len() }).to_string().as_bytes());
    out.put_slice(b"\r\n");
    parts.iter().for_each(|part| out.put_slice(part));
    Some(out.freeze())
}

/// The same names from each node, with a number behind each: how many are subscribed to a channel. What tells of a
/// node's own keys is subscribed at every node, by the same clients.
fn counted(replies: &[Bytes]) -> Option<Bytes> {
    let lists: Vec<Vec<&[u8]>> = replies.iter().map(|reply| reply::parts(reply)).collect::<Option<_>>()?;
    let (names, mut out) = (lists.first()?, BytesMut::new());
    encode::array(&mut out, names.len());
    for at in (0..names.len()).step_by(2) {
        let numbers = lists.iter().map(|list| decode::integer(list.get(at + 1)?)).collect::<Option<Vec<_>>>()?;
        let heads = [&b"__keyspace@"[..], b"__keyevent@"];
        let is_of_each = decode::bulk(names[at]).is_some_and(|name| heads.iter().any(|head| name.starts_with(head)));
        out.put_slice(names[at]);
        encode::int(&mut out, one(if is_of_each { Joint::Max } else { Joint::Sum }, &numbers));
    }
    Some(out.freeze())
}

/// One number, or one for each element of lists.
fn numbers(joint: Joint, replies: &[Bytes]) -> Option<Bytes> {
    let mut out = BytesMut::new();
    if let Some(numbers) = replies.iter().map(|reply| decode::integer(reply)).collect::<Option<Vec<_>>>() {
        encode::int(&mut out, one(joint, &numbers));
        return Some(out.freeze());
    }
    let lists: Vec<Vec<&[u8]>> = replies.iter().map(|reply| reply::elements(reply)).collect::<Option<_>>()?;
    let length = lists.first()?.len();
    encode::array(&mut out, length);
    for at in 0..length {
        let column = lists.iter().map(|list| decode::integer(list.get(at)?)).collect::<Option<Vec<_>>>()?;
        encode::int(&mut out, one(joint, &column));
    }
    Some(out.freeze())
}

fn one(joint: Joint, numbers: &[i64]) -> i64 {
    let numbers = numbers.iter().copied();
    match joint {
        Joint::And => i64::from(numbers.into_iter().all(|number| number == 1)),
        Joint::Or => i64::from(numbers.into_iter().any(|number| number == 1)),
        Joint::Min => numbers.min().unwrap_or_default(),
        Joint::Max => numbers.max().unwrap_or_default(),
        _ => numbers.fold(0, i64::saturating_add),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::join;
    use crate::route::Joint;

    #[test]
    fn replies_become_one() {
        let (yes, no, error) = ("*2\r\n:1\r\n:1\r\n", "*2\r\n:1\r\n:0\r\n", "-ERR no\r\n");
        for (joint, replies, expected) in [
            (Joint::Sum, &[":1\r\n", ":2\r\n"][..], ":3\r\n"),
            (Joint::Min, &[":1\r\n", ":2\r\n"], ":1\r\n"),
            (Joint::Max, &[":1\r\n", ":2\r\n"], ":2\r\n"),
            (Joint::And, &[yes, no], no),
            (Joint::Or, &[no, yes], yes),
            (Joint::And, &[":1\r\n", ":0\r\n"], ":0\r\n"),
            (Joint::Sum, &[":1\r\n", error, "-ERR 2\r\n"], error),
            (Joint::AllSucceeded, &["+OK\r\n", error], error),
            (Joint::AllSucceeded, &["+OK\r\n", "+OK\r\n"], "+OK\r\n"),
            (Joint::OneSucceeded, &[error, "+OK\r\n"], "+OK\r\n"),
            (Joint::OneSucceeded, &[error, "-ERR 2\r\n"], error),
            (Joint::Listed, &["*1\r\n+a\r\n", "*0\r\n", "*1\r\n+b\r\n"], "*2\r\n+a\r\n+b\r\n"),
            (Joint::Listed, &["%1\r\n+a\r\n:1\r\n", "%1\r\n+b\r\n:2\r\n"], "%2\r\n+a\r\n:1\r\n+b\r\n:2\r\n"),
            (Joint::Listed, &["*-1\r\n", "*0\r\n"], "*-1\r\n"),
            (Joint::Distinct, &["*2\r\n+a\r\n+b\r\n", "*0\r\n", "*1\r\n+a\r\n"], "*2\r\n+a\r\n+b\r\n"),
            (Joint::Counted, &["*2\r\n$1\r\na\r\n:2\r\n", "*2\r\n$1\r\na\r\n:1\r\n"], "*2\r\n$1\r\na\r\n:3\r\n"),
            (Joint::Counted, &["*0\r\n", "*0\r\n"], "*0\r\n"),
            (Joint::Listed, &[], "-CLUSTERDOWN Hash slot not served\r\n"),
            (Joint::Sum, &[], "-CLUSTERDOWN Hash slot not served\r\n"),
        ] {
            let replies: Vec<Bytes> = replies.iter().map(|reply| Bytes::from_static(reply.as_bytes())).collect();
            assert_eq!(join(joint, &replies), expected, "{joint:?}");
        }
    }
}
