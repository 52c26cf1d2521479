//! HEARTHSIDE: commands for an operator over the Redis port.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Flow, Services, Which, error_reply, mode_named};
use crate::command::Request;
use crate::errors;
use crate::inspect::{Fact, Sight, Top};
use crate::resp::number::parse_i64;
use crate::resp::{Proto, encode};
use crate::upstream::LONGEST_PAUSE;

const HELP: [&str; 25] = [
    "HEARTHSIDE <subcommand> [<arg> ...]. Subcommands are:",
    "EXPLAIN <key> [PLAN]",
    "    Who owns a key, what is known of it and why it was last forgotten; PLAN: how the store would load it.",
    "INVALIDATE <key or glob>",
    "    Forget cached keys; load matching definitions again. Answers how many.",
    "MAPPINGS",
    "    What is in memory of each mapping, and what has happened to it.",
    "MODE [<mapping>|ALL <off|shadow|fallback|on> [<percent>]]",
    "    Who answers for the keys of a mapping, until a restart or SIGHUP; alone: the modes in force.",
    "PAUSE [<milliseconds>]",
    "    Hold commands for the upstream back, for at most so long (default 30000, an hour at most).",
    "    Answers when none is under way.",
    "RELOAD",
    "    Look at the schema again, and load all definitions again, in the background.",
    "RESUME",
    "    Let commands go on.",
    "SHADOW [<mapping>]",
    "    The last 200 differences between the upstream and the store, of mappings in the mode shadow.",
    "SLOWLOG [<count>|RESET]",
    "    The last commands, loads and writes that were slow (slowlog.commands, slowlog.store).",
    "STATUS",
    "    The store, the upstream, the change feed, memory and clients.",
    "TOP [READS|MISSES|INVALIDATIONS|BYTES|CLIENTS]",
    "    The first twenty of the last minute.",
    "Source: docs/OPERATIONS.md.",
];

/// So many slow ones are shown.
const SLOW: i64 = 20;

/// How long PAUSE holds unless it says so.
const PAUSE: i64 = 30_000;

pub(super) fn answer(services: &Services, proto: Proto, request: &Request<'_>, out: &mut BytesMut) -> Flow {
    let owned = &services.owned;
    match request.len() {
        3 if request.is(1, "INVALIDATE") => {
            encode::int(out, owned.invalidate_everywhere(request.arg(2), "command") as i64);
        }
        3 if request.is(1, "EXPLAIN") && services.subject().asks_both_sides(request.arg(2)) => {
            return sides(services, proto, request);
        }
        3 if request.is(1, "EXPLAIN") => Fact::of(&services.subject().explain(request.arg(2))).reply(proto, out),
        4 if request.is(1, "EXPLAIN") && request.is(3, "PLAN") => return plan(services, proto, request),
        2 if request.is(1, "RELOAD") => {
            owned.request_reload();
            encode::simple(out, "OK");
        }
        2 | 3 if request.is(1, "PAUSE") => return pause(services, request, out),
        2 if request.is(1, "RESUME") => {
            services.upstream.endpoint().resume();
            encode::simple(out, "OK");
        }
        2 if request.is(1, "MAPPINGS") => Fact::of(&services.subject().mapping_facts()).reply(proto, out),
        2 if request.is(1, "MODE") => Fact::of(&services.subject().modes()).reply(proto, out),
        4 | 5 if request.is(1, "MODE") => return mode(services, proto, request, out),
        2 if request.is(1, "STATUS") => Fact::of(&services.subject().status()).reply(proto, out),
        2 | 3 if request.is(1, "SHADOW") => {
            let mapping = (request.len() == 3).then(|| String::from_utf8_lossy(request.arg(2)));
            Fact::of(&services.subject().mismatches(mapping.as_deref())).reply(proto, out);
        }
        2 | 3 if request.is(1, "SLOWLOG") => slowlog(services, proto, request, out),
        2 if request.is(1, "TOP") => top(services, proto, b"reads", out),
        3 if request.is(1, "TOP") => top(services, proto, request.arg(2), out),
        2 if request.is(1, "HELP") => {
            encode::array(out, HELP.len());
            HELP.iter().for_each(|line| encode::simple(out, line));
        }
        _ => encode::error(out, errors::hearthside::UNKNOWN_SUBCOMMAND),
    }
    Flow::Answered
}

/// What was slow lately.
fn slowlog(services: &Services, proto: Proto, request: &Request<'_>, out: &mut BytesMut) {
    if request.len() == 3 && request.is(2, "RESET") {
        services.owned.slow.reset();
        return encode::simple(out, "OK");
    }
    let most = if request.len() == 3 { parse_i64(request.arg(2)) } else { Some(SLOW) };
    match most.and_then(|most| usize::try_from(most).ok()) {
        Some(most) => Fact::of(&services.subject().slow(most, Sight::Keys)).reply(proto, out),
        None => encode::error(out, errors::as_redis::NOT_INTEGER),
    }
}

/// The first of the last minute.
fn top(services: &Services, proto: Proto, name: &[u8], out: &mut BytesMut) {
    match Top::named(name) {
        Some(top) => Fact::of(&services.subject().top(top, Sight::Keys)).reply(proto, out),
        None => encode::error(out, errors::hearthside::UNKNOWN_SUBCOMMAND),
    }
}

/// Other modes are asked for; answers when they are in force.
fn mode(services: &Services, proto: Proto, request: &Request<'_>, out: &mut BytesMut) -> Flow {
    let percent = (request.len() == 5).then(|| request.arg(4));
    let Some((mode, percent)) = mode_named(request.arg(3), percent) else {
        encode::error(out, errors::hearthside::NO_MODE);
        return Flow::Answered;
    };
    let which = match request.is(2, "ALL") {
        true => Which::All,
        false => Which::One(String::from_utf8_lossy(request.arg(2)).into_owned()),
    };
    let orders = services.modes.clone();
    Flow::Later(Box::pin(async move {
        let mut out = BytesMut::new();
        match orders.give(which, mode, percent).await {
            Ok(facts) => Fact::of(&facts).reply(proto, &mut out),
            Err(why) => encode::error(&mut out, why.as_deref().unwrap_or(errors::hearthside::ENDING)),
        }
        Ok(out.into())
    }))
}

/// The store and the upstream are asked who has a key.
fn sides(services: &Services, proto: Proto, request: &Request<'_>) -> Flow {
    let (subject, key) = (services.subject(), Bytes::copy_from_slice(request.arg(2)));
    Flow::Later(Box::pin(async move {
        let mut out = BytesMut::new();
        Fact::of(&subject.explain_sides(&key).await).reply(proto, &mut out);
        Ok(out.into())
    }))
}

/// The store is asked how it would load a key.
fn plan(services: &Services, proto: Proto, request: &Request<'_>) -> Flow {
    let (subject, key) = (services.subject(), Bytes::copy_from_slice(request.arg(2)));
    Flow::Later(Box::pin(async move {
        let mut out = BytesMut::new();
        match subject.explain_with_plan(&key).await {
            Ok(explanation) => Fact::of(&explanation).reply(proto, &mut out),
            Err(why) => encode::error(&mut out, &errors::hearthside::no_plan(&why)),
        }
        Ok(out.into())
    }))
}

/// Answers when nothing is under way on a lane any more, or says that something still is.
fn pause(services: &Services, request: &Request<'_>, out: &mut BytesMut) -> Flow {
    let asked = if request.len() == 3 { parse_i64(request.arg(2)) } else { Some(PAUSE) };
    let most = asked.and_then(|asked| u64::try_from(asked).ok()).map(Duration::from_millis);
    let Some(most) = most.filter(|most| !most.is_zero() && *most <= LONGEST_PAUSE) else {
        encode::error(out, errors::as_redis::TIMEOUT);
        return Flow::Answered;
    };
    let endpoint = services.upstream.endpoint();
    let quiet = endpoint.clone().pause(most);
    let patience = endpoint.settings.queue_timeout;
    Flow::Later(Box::pin(async move {
        match tokio::time::timeout(patience, quiet).await {
            Ok(()) => Ok(Bytes::from_static(b"+OK\r\n").into()),
            Err(_) => Ok(error_reply(errors::hearthside::NOT_QUIET)),
        }
    }))
}
