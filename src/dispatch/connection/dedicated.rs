//! Answers the commands of a client that has a dedicated upstream connection.

use crate::command::Request;
use crate::errors;
use crate::route::{Local, Pin, Route, Unknown};
use crate::session::Session;

/// What decides where a request of such a client goes.
#[derive(Clone, Copy, Debug, Default)]
struct Dedicated {
    /// Replies cannot be distinguished from other messages: MONITOR or SCRIPT DEBUG.
    is_raw: bool,
    monitors: bool,
    /// It follows the upstream.
    follows: bool,
    /// It may only do what a subscriber may.
    is_subscriber: bool,
    /// It is subscribed over the shared connection, not over this one.
    is_shared_subscriber: bool,
    /// It authenticated as one of our users.
    has_user: bool,
    /// The upstream keeps something for it until it leaves.
    has_unknown_state: bool,
    /// Its own connection leads to one node of several: what may wait goes alone, to its own node.
    is_one_of_several: bool,
}

/// Whether a request may take any time on the client's own connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum May {
    Answer,
    Wait,
    /// The table does not know the command.
    DoAnything,
}

/// The route of a request of such a client.
pub(crate) fn route(session: &mut Session, request: &Request<'_>, route: Route, is_cluster: bool) -> Route {
    let client = Dedicated { is_one_of_several: is_cluster, ..Dedicated::of(session) };
    if let Route::Pinned(Pin::Blocking, _) | Route::Unknown(Unknown::Conduct) = route
        && !is_cluster
    {
        session.way.note_wait(request);
    }
    let (route, may) = client.route(route);
    match may {
        May::Answer => {}
        May::Wait => session.way.may_wait_now(),
        May::DoAnything => session.way.asks_unknown(session.now),
    }
    route
}

impl Dedicated {
    fn of(session: &Session) -> Self {
        let state = session.way.state();
        Self {
            is_raw: state.is_raw(),
            monitors: state.monitor,
            follows: state.follows_by().is_some(),
            is_subscriber: session.is_resp2_subscriber(),
            is_shared_subscriber: session.subscriber().is_some(),
            has_user: session.user.is_some(),
            has_unknown_state: state.unknown_state,
            is_one_of_several: false,
        }
    }

    fn route(self, route: Route) -> (Route, May) {
        let route = match route {
            Route::Attack => route,
            // An answer would stand in the middle of what it follows: the upstream ends a replica that it must answer.
            _ if self.follows && !matches!(route, Route::Refused(_)) => Route::Unanswered,
            // No state takes a refusal back.
            Route::Refused(_) | Route::Local(Local::Quit | Local::Reset, _) => route,
            _ if self.is_raw => self.raw(route),
            Route::Pinned(Pin::Subscribe(_) | Pin::Unsubscribe(_), _) => route,
            // Who is subscribed over the shared connection is no subscriber on this one.
            _ if self.is_subscriber && self.is_shared_subscriber => route,
            // What CLIENT CACHING says is about the next command that the upstream sees.
            Route::Local(Local::Ping | Local::Echo, _) => Route::PassThrough(true),
            _ if self.is_subscriber => Route::PassThrough(false),
            Route::Pinned(Pin::Blocking | Pin::Wait, _) | Route::Unknown(_) if self.is_one_of_several => route,
            Route::Pinned(Pin::Blocking | Pin::Wait, _) => return (Route::PassThrough(false), May::Wait),
            Route::Unknown(Unknown::Conduct) => return (Route::PassThrough(false), May::DoAnything),
            // What it sets lasts as long as what was set before.
            Route::Unknown(Unknown::State) if self.has_unknown_state => return (Route::PassThrough(false), May::Wait),
            _ => route,
        };
        (route, May::Answer)
    }

    /// The route where replies cannot be distinguished from other messages. The upstream itself says what a monitor may
    /// do, but for what it cannot judge: owned keys, our clients, our users.
    fn raw(self, route: Route) -> Route {
        match route {
            _ if route.is_owned() && self.monitors => Route::Refused(errors::as_redis::MONITOR_WITH_KEYS.into()),
            _ if route.is_owned() => route,
            Route::Hearthside => route,
            Route::Local(Local::ClientList | Local::ClientKill, _) => route,
            Route::Local(Local::ClientUnblock, _) => Route::Refused(errors::connection::MONITORS_OR_DEBUGS.into()),
            // The upstream knows the credentials of upstream.url; ours are not for it.
            Route::Local(Local::Auth | Local::Hello, _) if self.has_user => {
                Route::Refused(errors::connection::MONITORS_OR_DEBUGS.into())
            }
            _ => Route::Unanswered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Dedicated, May};
    use crate::command::{OwnedRequest, lookup};
    use crate::keys::{Keyspace, Pattern};
    use crate::mapping::Kind;
    use crate::route::Router;

    /// The name of the route of a request of such a client.
    fn routed(client: Dedicated, line: &str) -> (String, May) {
        let pattern = Pattern::parse("cached:{x}").expect("a pattern");
        let router = Router::new(Keyspace::new(vec![pattern]), vec![Kind::Cache], &[]);
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let request = OwnedRequest::from_words(&words);
        let view = request.view();
        let (route, may) = client.route(router.route(&view, lookup(view.arg(0), view.arg(1))));
        let text = format!("{route:?}");
        (text.split(['(', ' ']).next().unwrap_or_default().to_owned(), may)
    }

    #[test]
    fn a_client_that_tracks_goes_everywhere_but_does_not_wait_elsewhere() {
        for (line, expected, may) in [
            ("GET cached:1", "Cached", May::Answer),
            ("GET other", "PassThrough", May::Answer),
            ("PING", "PassThrough", May::Answer),
            ("BLPOP other 0", "PassThrough", May::Wait),
            ("JSON.GET other", "Unknown", May::Answer),
            ("CLIENT LIST", "Local", May::Answer),
            ("SUBSCRIBE a", "Pinned", May::Answer),
            ("MULTI", "Transaction", May::Answer),
            ("PSYNC a 0", "Pinned", May::Answer),
        ] {
            assert_eq!(routed(Dedicated::default(), line), (expected.to_owned(), may), "{line}");
        }
    }

    #[test]
    fn a_subscriber_with_resp2_sends_on_what_the_upstream_will_refuse() {
        let client = Dedicated { is_subscriber: true, ..Dedicated::default() };
        for line in ["GET cached:1", "GET other", "BLPOP other 0", "PING"] {
            assert_eq!(routed(client, line), ("PassThrough".to_owned(), May::Answer), "{line}");
        }
        let shared = Dedicated { is_shared_subscriber: true, ..client };
        assert_eq!(routed(shared, "GET cached:1").0, "Cached", "the shared connection's rules have refused it already");
    }

    #[test]
    fn a_replica_is_answered_nothing_here_once_it_follows() {
        let client = Dedicated { is_raw: true, follows: true, ..Dedicated::default() };
        for line in
            ["GET cached:1", "GET other", "REPLCONF ACK 0", "PSYNC a 0", "CLIENT LIST", "RESET", "HEARTHSIDE HELP"]
        {
            assert_eq!(routed(client, line), ("Unanswered".to_owned(), May::Answer), "{line}");
        }
    }

    #[test]
    fn a_monitor_sends_on_whatever_the_upstream_can_judge() {
        let client = Dedicated { is_raw: true, monitors: true, ..Dedicated::default() };
        for (line, expected) in [
            ("GET cached:1", "Refused"),
            ("GET other", "Unanswered"),
            ("PING", "Unanswered"),
            ("BLPOP other 0", "Unanswered"),
            ("CLIENT LIST", "Local"),
            ("CLIENT UNBLOCK 1", "Refused"),
            ("QUIT", "Local"),
            ("HEARTHSIDE HELP", "Hearthside"),
        ] {
            assert_eq!(routed(client, line), (expected.to_owned(), May::Answer), "{line}");
        }
    }
}
