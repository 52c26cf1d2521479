//! HEARTHSIDE: what an operator may ask of the sidecar over its Redis port.

use bytes::BytesMut;

use super::{Flow, Owned};
use crate::command::Request;
use crate::resp::encode;

const HELP: [&str; 5] = [
    "HEARTHSIDE <subcommand> [<arg> ...]. Subcommands are:",
    "INVALIDATE <key or glob>",
    "    Forget cached keys; load matching definitions anew. Answers how many.",
    "RELOAD",
    "    Load all definitions anew, in the background.",
];

pub(super) fn answer(owned: &Owned, request: &Request<'_>, out: &mut BytesMut) -> Flow {
    match request.len() {
        3 if request.is(1, "INVALIDATE") => {
            encode::int(out, owned.invalidate(request.arg(2), "command") as i64);
        }
        2 if request.is(1, "RELOAD") => {
            owned.reloader.request_all(true);
            encode::simple(out, "OK");
        }
        2 if request.is(1, "HELP") => {
            encode::array(out, HELP.len());
            HELP.iter().for_each(|line| encode::simple(out, line));
        }
        _ => encode::error(out, "ERR unknown HEARTHSIDE subcommand or wrong number of arguments. Try HEARTHSIDE HELP."),
    }
    Flow::Answered
}
