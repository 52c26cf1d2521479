//! Where a request goes. Pure: a command, its keys and the keyspace in, a route out.
//!
//! An owned key is never looked up upstream, a pass-through key never in the store: what would do either is refused.

mod classes;
mod denied;
mod describe;
mod modes;
mod owned;
mod private;
mod refusal;
mod spread;

pub use classes::{Local, Pin, Split, Transaction, Unknown, may_end_server};
pub use denied::Denied;
pub use describe::handling;
pub use modes::OWN_CURSOR;
pub use owned::{Holder, OwnedKey, SplitKey, SplitKeys};
pub use refusal::Refusal;
pub use spread::{Joint, Reach, Spread};

use std::sync::Arc;

use crate::command::{self, Request, Source, Spec};
use crate::errors;
use crate::keys::{Keyspace, MappingId};
use crate::mapping::{Kind, Modes};
use crate::near::Found;
use crate::record::{Answer, Verb, verb_of};
use crate::telemetry::metrics::RouteLabel;
use classes::{Class, class_of, learned_class};
use modes::goes_on_here;

/// What a request waits for before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// A mapping of its keys changes over to another mode.
    Mode,
    /// It is for all nodes of the upstream's cluster, and these are not known yet.
    Nodes,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub enum Route {
    /// Answered from the client's state.
    Local(Local, &'static Spec),
    /// `HEARTHSIDE`, the sidecar's own command.
    Hearthside,
    /// Forwarded verbatim; `true` when it only reads and may be sent again.
    PassThrough(bool),
    /// A read of pass-through keys that may be answered from memory: where the reply is that was found there.
    Near(Option<Found>),
    /// Reads a definition.
    Definition(OwnedKey, Answer),
    /// Reads or writes a cached key.
    Cached(OwnedKey, Verb),
    /// One owned key, and a command that is not answered on it.
    NotAnswered(OwnedKey),
    /// Several keys, some of them owned, of a command that can be split.
    Split(SplitKeys),
    /// For more than one node of a cluster.
    Spread(Spread, &'static Spec),
    /// Through the client's transaction.
    Transaction(Transaction, &'static Spec),
    /// Over a pinned connection.
    Pinned(Pin, &'static Spec),
    /// Over a connection of the client's own, because the table does not know what it does.
    Unknown(Unknown),
    /// Forwarded over the client's own connection, where replies cannot be distinguished from other messages.
    Unanswered,
    /// Must wait until the upstream has said whether the client may come in without AUTH.
    Unproven,
    /// An HTTP request: the client is closed, as Redis does, before it closes a connection that others share.
    Attack,
    /// Looked at again when what it waits for has come.
    Held(Held),
    /// As this route says, once it is known which of its keys the store has not (`mode = "fallback"`).
    Fallback(Box<Self>),
    /// Answered with this error.
    Refused(Refusal),
}

impl Route {
    /// As which way it is counted.
    #[must_use]
    #[inline]
    pub fn label(&self) -> RouteLabel {
        match self {
            Self::Fallback(route) => route.label(),
            Self::Local(..) | Self::Hearthside | Self::Transaction(..) | Self::Unproven | Self::Held(_) => {
                RouteLabel::Local
            }
            Self::PassThrough(_) | Self::Unanswered | Self::Spread(..) => RouteLabel::Passthrough,
            Self::Definition(..) => RouteLabel::Definition,
            Self::Cached(_, Verb::Read(_) | Verb::Inspect(_)) => RouteLabel::Cache,
            Self::Cached(..) => RouteLabel::Write,
            Self::Split(_) => RouteLabel::Split,
            Self::Near(_) => RouteLabel::Near,
            Self::Pinned(..) | Self::Unknown(_) => RouteLabel::Pinned,
            Self::NotAnswered(_) | Self::Attack | Self::Refused(_) => RouteLabel::Refused,
        }
    }

    /// The owned key of a request that has one key.
    #[must_use]
    pub fn owned_key(&self) -> Option<&OwnedKey> {
        match self {
            Self::Definition(key, _) | Self::Cached(key, _) | Self::NotAnswered(key) => Some(key),
            Self::Fallback(route) => route.owned_key(),
            _ => None,
        }
    }

    /// True when all of the request's keys are owned, so that nothing of it is asked at the upstream.
    #[must_use]
    pub fn is_owned_whole(&self) -> bool {
        match self {
            Self::Split(keys) => keys.keys.iter().all(|key| key.holder != Holder::Upstream),
            Self::Fallback(_) => false,
            other => other.owned_key().is_some(),
        }
    }

    /// True when one of the request's keys is owned.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        match self {
            Self::Split(_) => true,
            Self::Fallback(route) => route.is_owned(),
            other => other.owned_key().is_some(),
        }
    }
}

/// True for an HTTP request's first words, which a browser can be made to send to any port.
/// Source: `securityWarningCommand` of Redis.
#[must_use]
pub fn is_attack(request: &Request<'_>) -> bool {
    request.is(0, "POST") || request.is(0, "HOST:")
}

/// Decides for one configuration.
#[derive(Debug)]
pub struct Router {
    keyspace: Keyspace,
    /// How each mapping's keys are kept, by its number.
    kinds: Vec<Kind>,
    /// Which of their keys are owned.
    pub modes: Arc<Modes>,
    /// By a command's number.
    classes: Vec<Class>,
    /// What is refused to everybody, before anything is routed.
    pub denied: Denied,
    /// PING is the upstream's to answer (`server.ping`).
    pub passes_pings_on: bool,
}

impl Router {
    /// A router for these patterns, whose mappings are of these kinds, that refuses the commands in `deny`.
    #[must_use]
    pub fn new(keyspace: Keyspace, kinds: Vec<Kind>, deny: &[String]) -> Self {
        let mut classes = vec![Class::Plain; command::rows()];
        for spec in command::all() {
            classes[spec.id] = class_of(spec);
        }
        let (modes, denied) = (Arc::default(), Denied::new(deny));
        Self { keyspace, kinds, modes, classes, denied, passes_pings_on: false }
    }

    /// The same, whose mappings are in these modes.
    #[must_use]
    pub fn in_modes(mut self, modes: Arc<Modes>) -> Self {
        self.modes = modes;
        self
    }

    /// The same, which leaves PING to the upstream.
    #[must_use]
    pub const fn passing_pings_on(mut self) -> Self {
        self.passes_pings_on = true;
        self
    }

    /// The same, in front of the private server: what would let others in there, or the sidecar out, is refused.
    #[must_use]
    pub fn in_front_of_private(mut self) -> Self {
        for spec in command::all().filter(|spec| private::may_open_up(spec)) {
            if self.classes[spec.id] == Class::Plain {
                self.classes[spec.id] = Class::Guarded;
            }
        }
        self
    }

    /// The pattern of the mapping that owns a key, for error texts.
    #[must_use]
    pub fn pattern(&self, mapping: MappingId) -> &str {
        self.keyspace.pattern(mapping).text()
    }

    /// The mapping that owns `key` in the mode that it is in.
    #[inline]
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> Option<MappingId> {
        self.keyspace.owner(key).filter(|mapping| self.modes.owns(*mapping, key))
    }

    /// True when no key is owned.
    fn owns_nothing(&self) -> bool {
        self.keyspace.is_empty() || self.modes.is_partial() && self.mappings().all(|id| !self.modes.owns_some(id))
    }

    fn mappings(&self) -> impl Iterator<Item = MappingId> {
        (0..self.kinds.len()).map(MappingId::new)
    }

    /// Adds the mappings whose patterns match keys of the request, whoever answers for these.
    pub fn matched(&self, request: &Request<'_>, spec: &Spec, mappings: &mut Vec<MappingId>) {
        request.each_key(spec, |at| {
            let matching = self.keyspace.owner(request.arg(at));
            mappings.extend(matching.filter(|mapping| !mappings.contains(mapping)));
        });
    }

    /// Who holds `key`.
    #[must_use]
    pub fn holder(&self, key: &[u8]) -> Holder {
        match self.owner(key) {
            None => Holder::Upstream,
            Some(mapping) => match self.kinds[mapping.index()] {
                Kind::Definition => Holder::Definitions(mapping),
                Kind::Cache => Holder::Cache(mapping),
            },
        }
    }

    /// Where `request` goes, whose row of the command table is `spec`, and which nobody refuses.
    #[must_use]
    pub fn route(&self, request: &Request<'_>, spec: Option<&'static Spec>) -> Route {
        let Some(spec) = spec else { return Route::Unknown(Unknown::Name) };
        match self.class(spec) {
            Class::Local(Local::Keys | Local::Scan) if self.owns_nothing() && !goes_on_here(request, spec) => {
                Route::PassThrough(true)
            }
            Class::Local(Local::Ping) if self.passes_pings_on => Route::PassThrough(true),
            Class::Local(local) => Route::Local(local, spec),
            Class::Transaction(command) => Route::Transaction(command, spec),
            Class::Pinned(Pin::Blocking) if !blocks(request, spec) => self.by_keys(request, spec),
            Class::Pinned(Pin::Blocking) => self.unless_owned(request, spec, Route::Pinned(Pin::Blocking, spec)),
            Class::Pinned(pin) => Route::Pinned(pin, spec),
            Class::Debug if may_end_server(request) => Route::Pinned(Pin::Aside, spec),
            Class::Container if request.len() > 1 => unknown_subcommand(request, spec),
            Class::Hearthside => Route::Hearthside,
            Class::Guarded if private::opens_up(request) => Route::Refused(private::refusal()),
            Class::Split(split) => self.split(request, spec, split),
            Class::LooksUp => self.looks_up_owned(request).unwrap_or_else(|| self.by_keys(request, spec)),
            Class::Unknown(unknown) => self.alone(request, spec, unknown),
            Class::Notifies => Route::Refused(errors::as_redis::unknown_of_client(request.arg(1)).into()),
            Class::Renamed => Route::Refused(renamed(request, spec).into()),
            Class::Plain if spec.source == Source::Completed && spec.has_hidden_keys => {
                self.alone(request, spec, Unknown::Conduct)
            }
            Class::Plain | Class::Container | Class::Debug | Class::Guarded => self.by_keys(request, spec),
        }
    }

    #[inline]
    fn class(&self, spec: &Spec) -> Class {
        match spec.source {
            Source::BuiltIn => self.classes[spec.id],
            _ => self.learned_class(spec),
        }
    }

    #[cold]
    fn learned_class(&self, spec: &Spec) -> Class {
        match spec.source {
            Source::Learned(learned) => learned_class(spec, learned),
            _ if self.classes[spec.id] == Class::Guarded => Class::Guarded,
            _ => class_of(spec),
        }
    }

    /// What no lane carries, unless one of the keys is owned. Where the table does not know all keys the upstream does.
    fn alone(&self, request: &Request<'_>, spec: &'static Spec, unknown: Unknown) -> Route {
        let route = match spec.has_hidden_keys && !self.owns_nothing() {
            true => Unknown::Keys,
            false => unknown,
        };
        self.unless_owned(request, spec, Route::Unknown(route))
    }

    /// The way of a command whose keys have been found to be the upstream's.
    #[must_use]
    pub fn with_foreign_keys(&self, spec: &Spec) -> Unknown {
        match self.class(spec) {
            Class::Unknown(unknown) => unknown,
            _ => Unknown::Conduct,
        }
    }

    fn by_keys(&self, request: &Request<'_>, spec: &'static Spec) -> Route {
        match self.owned(request, spec) {
            (_, None) => Route::PassThrough(spec.flags.readonly),
            (1, Some((at, mapping))) => self.one_owned(OwnedKey { mapping, at, spec }),
            (_, Some((at, mapping))) => Route::Refused(self.unanswered(request, at, mapping).into()),
        }
    }

    fn one_owned(&self, key: OwnedKey) -> Route {
        match (self.kinds[key.mapping.index()], verb_of(key.spec)) {
            (Kind::Cache, Some(verb)) => Route::Cached(key, verb),
            (Kind::Definition, Some(Verb::Read(answer) | Verb::Inspect(answer))) => Route::Definition(key, answer),
            _ => Route::NotAnswered(key),
        }
    }

    fn split(&self, request: &Request<'_>, spec: &'static Spec, split: Split) -> Route {
        if self.owned(request, spec).1.is_none() {
            return Route::PassThrough(spec.flags.readonly);
        }
        let mut keys = Vec::new();
        request.each_key(spec, |at| keys.push(SplitKey { at, holder: self.holder(request.arg(at)) }));
        Route::Split(SplitKeys { split, keys, spec, removed: 0 })
    }

    /// The number of keys, and the first owned one's place and mapping. Inlined where every request passes.
    #[inline(always)]
    fn owned(&self, request: &Request<'_>, spec: &Spec) -> (usize, Option<(usize, MappingId)>) {
        match spec.key_of(request.len()) {
            Some(at) => (1, self.owner(request.arg(at)).map(|mapping| (at, mapping))),
            None => self.first_owned(request, spec),
        }
    }

    fn first_owned(&self, request: &Request<'_>, spec: &Spec) -> (usize, Option<(usize, MappingId)>) {
        let (mut keys, mut found) = (0, None);
        request.each_key(spec, |at| {
            keys += 1;
            if found.is_none() {
                found = self.owner(request.arg(at)).map(|mapping| (at, mapping));
            }
        });
        (keys, found)
    }

    /// `route`, unless one of the keys is owned.
    fn unless_owned(&self, request: &Request<'_>, spec: &Spec, route: Route) -> Route {
        match self.owned(request, spec).1 {
            Some((at, mapping)) => Route::Refused(self.unanswered(request, at, mapping).into()),
            None => route,
        }
    }

    /// The refusal of a SORT that may look up owned keys, which the upstream does not hold: it would find nothing, in
    /// silence.
    fn looks_up_owned(&self, request: &Request<'_>) -> Option<Route> {
        let is_owned = |mapping| self.modes.owns_some(mapping);
        let looked_up = |pattern| Some((pattern, self.keyspace.looked_up(pattern, is_owned)?));
        let (pattern, mapping) = request.sorts_by().into_iter().find_map(looked_up)?;
        let command = request.name();
        let text = errors::owned::cannot_look_up(&command, pattern, self.pattern(mapping));
        Some(Route::Refused(text.into()))
    }

    /// The error for a command that the sidecar does not answer on an owned key.
    #[must_use]
    pub fn unanswered(&self, request: &Request<'_>, at: usize, mapping: MappingId) -> String {
        errors::owned::not_answered(&request.name(), request.arg(at), self.pattern(mapping))
    }
}

/// XREAD and XREADGROUP wait only with BLOCK.
fn blocks(request: &Request<'_>, spec: &Spec) -> bool {
    !spec.name.starts_with("xread") || request.reads_blocking()
}

fn unknown_subcommand(request: &Request<'_>, spec: &Spec) -> Route {
    match spec.name.as_str() {
        // Clients ask for it when they connect. A server that has it would push addresses of its own, past the sidecar.
        "client" if request.is(1, "MAINT_NOTIFICATIONS") => {
            Route::Refused(errors::as_redis::unknown_of_client(request.arg(1)).into())
        }
        "client" => Route::Unknown(Unknown::State),
        _ => Route::Unknown(Unknown::Name),
    }
}

/// The refusal of a command under a name that only the upstream knows, where the sidecar would have to follow it.
fn renamed(request: &Request<'_>, spec: &Spec) -> String {
    let original = spec.learned().and_then(|learned| learned.original).map_or("", |original| &original.name);
    errors::connection::renamed(&request.name(), original)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{Local, Pin, Route, Router};
    use crate::command::{Request, lookup};
    use crate::keys::{Keyspace, Pattern};
    use crate::mapping::Kind;
    use crate::resp::encode;
    use crate::resp::request::RequestScanner;

    fn route(line: &str) -> String {
        let patterns =
            ["player:{id:int}:session", "location:{id}:cache"].map(|p| Pattern::parse(p).expect("a pattern"));
        let router = Router::new(Keyspace::new(patterns.into()), vec![Kind::Cache, Kind::Definition], &[]);
        let mut raw = BytesMut::new();
        encode::request(&mut raw, &line.split(' ').collect::<Vec<_>>());
        let mut scanner = RequestScanner::default();
        scanner.scan(&raw).expect("a request");
        let request = Request::new(&raw, scanner.spans());
        match router.route(&request, lookup(request.arg(0), request.arg(1))) {
            Route::PassThrough(readonly) => format!("pass {readonly}"),
            Route::Definition(key, _) => format!("definition {} {} {}", key.mapping.index(), key.at, key.spec.name),
            Route::Cached(key, verb) => {
                let verb = format!("{verb:?}").split('(').next().unwrap_or_default().to_lowercase();
                format!("cached {} {} {verb} {}", key.mapping.index(), key.at, key.spec.name)
            }
            Route::NotAnswered(key) => format!("not answered {} {}", key.mapping.index(), key.at),
            Route::Split(split) => {
                let keys: Vec<String> = split.keys.iter().map(|key| format!("{} {:?}", key.at, key.holder)).collect();
                format!("{:?}: {}", split.split, keys.join(", "))
            }
            Route::Local(Local::Ping, _) => "ping".into(),
            Route::Local(local, _) => format!("{local:?}"),
            Route::Pinned(Pin::Blocking, _) => "blocking".into(),
            Route::Refused(refusal) => refusal.text,
            other => format!("{other:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn every_kind_of_request_has_its_route() {
        for (line, expected) in [
            ("GET a", "pass true"),
            ("SET a b", "pass false"),
            ("FLUSHALL", "pass false"),
            ("JSON.GET player:1:session", "Unknown"),
            ("CLIENT", "pass false"),
            ("CLIENT NOSUCH ON", "Unknown"),
            ("OBJECT NOSUCH a", "Unknown"),
            ("OBJECT ENCODING a", "pass true"),
            ("client Maint_Notifications ON", "ERR unknown subcommand 'Maint_Notifications'. Try CLIENT HELP."),
            ("script kill", "Pinned"),
            ("function kill", "Pinned"),
            ("debug sleep 1", "pass false"),
            ("debug Restart 100", "Pinned"),
            ("hgetall player:1:session", "cached 0 1 read hgetall"),
            ("HGETALL player:01:session", "pass true"),
            ("TTL player:1:session", "cached 0 1 inspect ttl"),
            ("HSET player:1:session a b", "cached 0 1 write hset"),
            ("GETEX player:1:session", "cached 0 1 expire getex"),
            ("HGET location:x:cache name", "definition 1 1 hget"),
            ("TTL location:x:cache", "definition 1 1 ttl"),
            ("HSET location:x:cache a b", "not answered 1 1"),
            ("EXPIRE location:x:cache 1", "not answered 1 1"),
            ("EVAL script 1 player:1:session", "not answered 0 3"),
            ("XREADGROUP COUNT 1 GROUP g streams STREAMS player:1:session >", "not answered 0 7"),
            ("DEL a", "pass false"),
            (
                "DEL a player:1:session location:x:cache",
                "Remove: 1 Upstream, 2 Cache(MappingId(0)), 3 Definitions(MappingId(1))",
            ),
            ("TOUCH player:1:session", "Touch: 1 Cache(MappingId(0))"),
            ("EXISTS location:x:cache", "Exists: 1 Definitions(MappingId(1))"),
            ("MGET a player:1:session", "Values: 1 Upstream, 2 Cache(MappingId(0))"),
            ("MGET a b", "pass true"),
            ("BLPOP a 0", "blocking"),
            ("XREAD STREAMS a 0", "pass true"),
            ("XREAD BLOCK 0 STREAMS a 0", "blocking"),
            ("XREAD STREAMS block 0", "pass true"),
            ("ping", "ping"),
            ("client setname x", "ClientSetName"),
            ("multi", "Transaction"),
            ("subscribe a", "Pinned"),
            ("HEARTHSIDE help", "Hearthside"),
            ("XREADGROUP GROUP g streams BLOCK 0 STREAMS a >", "blocking"),
            ("XREADGROUP BLOCK 0 GROUP block streams STREAMS a >", "blocking"),
            ("XREADGROUP GROUP block block STREAMS a >", "pass false"),
            ("SPUBLISH player:1:session hi", "pass false"),
            ("HEARTHSIDE invalidate player:1:session", "Hearthside"),
            ("client list", "ClientList"),
            ("client tracking on", "Pinned"),
            ("psync ? -1", "Pinned"),
            ("config get a", "pass false"),
            ("ft.search x", "Unknown"),
            ("SORT a BY weight_* GET # GET obj_*->name LIMIT 0 5 DESC", "pass false"),
            ("SORT_RO a BY player:*:score GET player:1:session", "pass true"),
        ] {
            assert_eq!(route(line), expected, "{line}");
        }
    }

    #[test]
    fn a_sort_finds_owned_keys_or_is_refused() {
        for line in [
            "SORT a BY player:*:session->hp",
            "SORT a LIMIT 0 5 GET # GET player:*:session->hp STORE b",
            "sort_ro a BY nosort GET x* GET location:*:cache",
        ] {
            let told = route(line);
            assert!(
                told.contains("SORT") && told.contains("cannot look up '") && told.contains("mapping '"),
                "{line}: {told}"
            );
        }
    }

    #[test]
    fn an_owned_key_never_goes_upstream() {
        for line in [
            "RENAME a player:1:session",
            "EVAL script 2 a player:1:session",
            "BLPOP a player:1:session 0",
            "XREAD BLOCK 1 STREAMS player:1:session 0",
            "SUNIONSTORE a player:1:session b",
            "ZUNIONSTORE d 2 a player:1:session",
            "SORT a STORE player:1:session",
            "SORT a STORE b STORE player:1:session",
            "GEORADIUS a 1 1 10 km STORE b STORE player:1:session",
            "GEORADIUSBYMEMBER a m 10 km STOREDIST player:1:session STORE b",
        ] {
            let told = route(line);
            assert!(told.contains("'player:1:session' (mapping 'player:{id:int}:session')"), "{line}: {told}");
        }
    }
}
