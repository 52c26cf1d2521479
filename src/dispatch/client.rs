//! CLIENT SETNAME, GETNAME, INFO and SETINFO.

use bytes::{Bytes, BytesMut};

use super::Session;
use crate::command::Request;
use crate::resp::encode;

/// A name as Redis accepts it: printable, without spaces.
pub(super) fn checked_name(name: &[u8]) -> Result<Bytes, String> {
    if name.iter().all(|b| (b'!'..=b'~').contains(b)) {
        Ok(Bytes::copy_from_slice(name))
    } else {
        Err("ERR Client names cannot contain spaces, newlines or special characters.".into())
    }
}

pub(super) fn set_name(session: &mut Session, request: &Request<'_>, out: &mut BytesMut) {
    match checked_name(request.arg(2)) {
        Ok(name) => {
            session.name = name;
            encode::simple(out, "OK");
        }
        Err(text) => encode::error(out, &text),
    }
}

pub(super) fn get_name(session: &Session, out: &mut BytesMut) {
    if session.name.is_empty() {
        encode::null(out, session.proto());
    } else {
        encode::bulk(out, &session.name);
    }
}

pub(super) fn set_info(session: &mut Session, request: &Request<'_>, out: &mut BytesMut) {
    let (option, value) = (request.arg(2), request.arg(3));
    let target = match () {
        () if request.is(2, "LIB-NAME") => &mut session.lib_name,
        () if request.is(2, "LIB-VER") => &mut session.lib_ver,
        () => return encode::error(out, &format!("ERR Unrecognized option '{}'", String::from_utf8_lossy(option))),
    };
    if value.iter().all(|b| (b'!'..=b'~').contains(b)) {
        *target = Bytes::copy_from_slice(value);
        encode::simple(out, "OK");
    } else {
        let text = format!(
            "ERR {} cannot contain spaces, newlines or special characters.",
            String::from_utf8_lossy(option).to_lowercase()
        );
        encode::error(out, &text);
    }
}

pub(super) fn info(session: &Session, out: &mut BytesMut) {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let line = format!(
        "id={} addr={} laddr={} name={} age={} db={} resp={} lib-name={} lib-ver={} cmd=client|info\n",
        session.id,
        session.addresses.0,
        session.addresses.1,
        text(&session.name),
        session.since.elapsed().as_secs(),
        session.group.db,
        session.proto().number(),
        text(&session.lib_name),
        text(&session.lib_ver),
    );
    encode::verbatim(out, session.proto(), line.as_bytes());
}
