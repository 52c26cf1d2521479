//! HELLO and AUTH. The sidecar's own port has no users yet; it answers as a Redis whose default user has none.

use bytes::{Bytes, BytesMut};

use super::{Context, Session, client};
use crate::command::Request;
use crate::resp::number::parse_i64;
use crate::resp::{Proto, encode};
use crate::upstream::Group;

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

pub(super) fn auth(request: &Request<'_>, out: &mut BytesMut) {
    match request.len() {
        2 => encode::error(
            out,
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        ),
        3 if request.arg(1) == b"default" => encode::simple(out, "OK"),
        3 => encode::error(out, WRONG_PASSWORD),
        _ => encode::error(out, "ERR syntax error"),
    }
}

/// What HELLO asks for.
struct Wish {
    proto: Option<Proto>,
    name: Option<Bytes>,
}

pub(super) fn hello(context: &Context, session: &mut Session, request: &Request<'_>, out: &mut BytesMut) {
    match wish(request) {
        Err(text) => encode::error(out, &text),
        Ok(wish) => {
            if let Some(name) = wish.name {
                session.name = name;
            }
            if let Some(proto) = wish.proto {
                session.regroup(Group { proto, ..session.group });
            }
            greet(context, session, out);
        }
    }
}

fn wish(request: &Request<'_>) -> Result<Wish, String> {
    let mut wish = Wish { proto: None, name: None };
    if request.len() == 1 {
        return Ok(wish);
    }
    let version = parse_i64(request.arg(1)).ok_or("ERR Protocol version is not an integer or out of range")?;
    wish.proto = Some(match version {
        2 => Proto::Resp2,
        3 => Proto::Resp3,
        _ => return Err("NOPROTO unsupported protocol version".into()),
    });
    let mut at = 2;
    while at < request.len() {
        let more = request.len() - 1 - at;
        if request.is(at, "AUTH") && more >= 2 {
            if request.arg(at + 1) != b"default" {
                return Err(WRONG_PASSWORD.into());
            }
            at += 3;
        } else if request.is(at, "SETNAME") && more >= 1 {
            wish.name = Some(client::checked_name(request.arg(at + 1))?);
            at += 2;
        } else {
            return Err(format!("ERR Syntax error in HELLO option '{}'", String::from_utf8_lossy(request.arg(at))));
        }
    }
    Ok(wish)
}

fn greet(context: &Context, session: &Session, out: &mut BytesMut) {
    encode::map(out, session.proto(), 7);
    let mut text = |name: &str, value: &str| {
        encode::bulk(out, name.as_bytes());
        encode::bulk(out, value.as_bytes());
    };
    text("server", "redis");
    text("version", &context.version.get());
    encode::bulk(out, b"proto");
    encode::int(out, session.proto().number());
    encode::bulk(out, b"id");
    encode::int(out, session.id as i64);
    let mut text = |name: &str, value: &str| {
        encode::bulk(out, name.as_bytes());
        encode::bulk(out, value.as_bytes());
    };
    text("mode", "standalone");
    text("role", "master");
    encode::bulk(out, b"modules");
    encode::array(out, 0);
}
