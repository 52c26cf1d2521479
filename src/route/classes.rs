//! What a command's name alone says about its route: a table beside the command table.

use crate::command::{Conduct, Learned, Request, Spec};
use crate::errors;
use crate::resp::pubsub::Kind;

/// Commands that the sidecar answers from what it remembers of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// `PING [message]`.
    Ping,
    /// `ECHO message`.
    Echo,
    /// `HELLO [version [AUTH user password] [SETNAME name]]`.
    Hello,
    /// `AUTH [user] password`.
    Auth,
    /// `QUIT`.
    Quit,
    /// `RESET`.
    Reset,
    /// `SELECT db`.
    Select,
    /// `CLIENT SETNAME name`.
    ClientSetName,
    /// `CLIENT GETNAME`.
    ClientGetName,
    /// `CLIENT ID`.
    ClientId,
    /// `CLIENT INFO`.
    ClientInfo,
    /// `CLIENT SETINFO LIB-NAME|LIB-VER text`.
    ClientSetInfo,
    /// `CLIENT CAPA capability ...`.
    ClientCapa,
    /// `CLIENT LIST [TYPE type] [ID id ...]`.
    ClientList,
    /// `CLIENT KILL address` or with filters.
    ClientKill,
    /// `CLIENT UNBLOCK id [TIMEOUT|ERROR]`.
    ClientUnblock,
    /// `CLIENT REPLY ON|OFF|SKIP`.
    ClientReply,
    /// `ACL WHOAMI`.
    WhoAmI,
    /// `KEYS pattern`: the upstream's and the owned.
    Keys,
    /// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`: the same.
    Scan,
    /// `INFO [section ...]`: the upstream's and the sidecar's.
    Info,
    /// CLUSTER, READONLY, READWRITE and ASKING in front of a cluster, which no client sees.
    Cluster,
}

/// Commands over several keys that are split: a part for the upstream, and each owned key by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// DEL and UNLINK.
    Remove,
    /// EXISTS, which counts keys and leaves their TTL alone.
    Exists,
    /// TOUCH, which counts keys and starts their TTL again.
    Touch,
    /// MGET: the values, as if each was read.
    Values,
}

/// Commands of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the commands")]
pub enum Transaction {
    Multi,
    Exec,
    Discard,
    Watch,
    Unwatch,
}

/// Commands that need a connection for the client alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// May wait for other clients: one request, one reply.
    Blocking,
    /// WAIT and WAITAOF: may wait for replicas to have what this client wrote.
    Wait,
    /// SUBSCRIBE and related commands, until nothing is subscribed any more.
    Subscribe(Kind),
    /// UNSUBSCRIBE and related commands, after which that may be so.
    Unsubscribe(Kind),
    /// Sets or tells a state that the upstream keeps for the connection.
    State,
    /// SCRIPT DEBUG, until it is switched off.
    Debug,
    /// MONITOR, until the client leaves.
    Monitor,
    /// Must not wait behind anything: it ends, or reports, what keeps the upstream from answering others.
    Aside,
    /// REPLCONF: what a replica says of itself before it follows, which the upstream keeps for the connection.
    Replica,
    /// SYNC and PSYNC: the client follows the upstream, as a replica does, until it leaves: what comes is bytes.
    Follow,
}

/// Something that the command table does not know of a command, so that no lane may carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The name, or the subcommand: the upstream is asked what it is, before anything else.
    Name,
    /// Which keys it touches: the upstream is asked, for each request.
    Keys,
    /// Whether the client's user may run it: the upstream is asked, because it would not see the request
    /// (`auth.mode = "upstream"`).
    Right,
    /// What it does to its connection: it may wait there, and may leave something.
    Conduct,
    /// What the upstream keeps for the connection because of it: that must last until the client leaves. So with
    /// subcommands of CLIENT.
    State,
}

impl Unknown {
    /// True when the upstream must be asked about it first.
    #[must_use]
    pub const fn is_asked_first(self) -> bool {
        matches!(self, Self::Name | Self::Keys | Self::Right)
    }

    /// True when `reply` says that the upstream did nothing.
    #[must_use]
    pub fn left_nothing(self, reply: &[u8]) -> bool {
        let Some(error) = reply.strip_prefix(b"-") else { return false };
        // A module's command may have begun before it failed.
        self == Self::State
            || [errors::as_redis::UNKNOWN, "NOPERM ", "NOAUTH "].iter().any(|w| error.starts_with(w.as_bytes()))
    }
}

/// What a command's name alone tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Plain,
    Local(Local),
    Split(Split),
    Transaction(Transaction),
    Pinned(Pin),
    /// Has subcommands, and this row is none of them.
    Container,
    /// The sidecar's own command.
    Hearthside,
    /// Looks up keys that it does not name (SORT's BY and GET).
    LooksUp,
    /// CONFIG SET and ACL SETUSER, where the upstream is the private server.
    Guarded,
    /// DEBUG, some of whose subcommands end the server.
    Debug,
    /// Known from the upstream's own words, which do not say enough for a lane.
    Unknown(Unknown),
    /// Makes the upstream push messages about itself, and addresses of its own.
    Notifies,
    /// Changes what the sidecar must follow, under a name that only the upstream knows.
    Renamed,
}

/// Names that are more than plain.
const CLASSES: &[(&str, Class)] = &[
    ("ping", Class::Local(Local::Ping)),
    ("echo", Class::Local(Local::Echo)),
    ("hello", Class::Local(Local::Hello)),
    ("auth", Class::Local(Local::Auth)),
    ("quit", Class::Local(Local::Quit)),
    ("reset", Class::Local(Local::Reset)),
    ("select", Class::Local(Local::Select)),
    ("client|setname", Class::Local(Local::ClientSetName)),
    ("client|getname", Class::Local(Local::ClientGetName)),
    ("client|id", Class::Local(Local::ClientId)),
    ("client|info", Class::Local(Local::ClientInfo)),
    ("client|setinfo", Class::Local(Local::ClientSetInfo)),
    ("client|capa", Class::Local(Local::ClientCapa)),
    ("client|list", Class::Local(Local::ClientList)),
    ("client|kill", Class::Local(Local::ClientKill)),
    ("client|unblock", Class::Local(Local::ClientUnblock)),
    ("client|reply", Class::Local(Local::ClientReply)),
    ("acl|whoami", Class::Local(Local::WhoAmI)),
    ("info", Class::Local(Local::Info)),
    ("keys", Class::Local(Local::Keys)),
    ("scan", Class::Local(Local::Scan)),
    ("del", Class::Split(Split::Remove)),
    ("unlink", Class::Split(Split::Remove)),
    ("exists", Class::Split(Split::Exists)),
    ("touch", Class::Split(Split::Touch)),
    ("mget", Class::Split(Split::Values)),
    ("sort", Class::LooksUp),
    ("sort_ro", Class::LooksUp),
    ("multi", Class::Transaction(Transaction::Multi)),
    ("exec", Class::Transaction(Transaction::Exec)),
    ("discard", Class::Transaction(Transaction::Discard)),
    ("watch", Class::Transaction(Transaction::Watch)),
    ("unwatch", Class::Transaction(Transaction::Unwatch)),
    ("subscribe", Class::Pinned(Pin::Subscribe(Kind::Channel))),
    ("unsubscribe", Class::Pinned(Pin::Unsubscribe(Kind::Channel))),
    ("psubscribe", Class::Pinned(Pin::Subscribe(Kind::Pattern))),
    ("punsubscribe", Class::Pinned(Pin::Unsubscribe(Kind::Pattern))),
    ("ssubscribe", Class::Pinned(Pin::Subscribe(Kind::Shard))),
    ("sunsubscribe", Class::Pinned(Pin::Unsubscribe(Kind::Shard))),
    ("client|tracking", Class::Pinned(Pin::State)),
    ("client|trackinginfo", Class::Pinned(Pin::State)),
    ("client|caching", Class::Pinned(Pin::State)),
    ("client|getredir", Class::Pinned(Pin::State)),
    ("client|no-evict", Class::Pinned(Pin::State)),
    ("client|no-touch", Class::Pinned(Pin::State)),
    ("client|import-source", Class::Pinned(Pin::State)),
    ("readonly", Class::Pinned(Pin::State)),
    ("readwrite", Class::Pinned(Pin::State)),
    ("asking", Class::Pinned(Pin::State)),
    ("script|debug", Class::Pinned(Pin::Debug)),
    ("monitor", Class::Pinned(Pin::Monitor)),
    ("script|kill", Class::Pinned(Pin::Aside)),
    ("function|kill", Class::Pinned(Pin::Aside)),
    ("function|stats", Class::Pinned(Pin::Aside)),
    ("shutdown", Class::Pinned(Pin::Aside)),
    ("debug", Class::Debug),
    ("wait", Class::Pinned(Pin::Wait)),
    ("waitaof", Class::Pinned(Pin::Wait)),
    ("sync", Class::Pinned(Pin::Follow)),
    ("psync", Class::Pinned(Pin::Follow)),
    ("replconf", Class::Pinned(Pin::Replica)),
    ("hearthside", Class::Hearthside),
    ("hearthside|explain", Class::Hearthside),
    ("hearthside|help", Class::Hearthside),
    ("hearthside|invalidate", Class::Hearthside),
    ("hearthside|mappings", Class::Hearthside),
    ("hearthside|mode", Class::Hearthside),
    ("hearthside|pause", Class::Hearthside),
    ("hearthside|reload", Class::Hearthside),
    ("hearthside|resume", Class::Hearthside),
    ("hearthside|shadow", Class::Hearthside),
    ("hearthside|slowlog", Class::Hearthside),
    ("hearthside|status", Class::Hearthside),
    ("hearthside|top", Class::Hearthside),
    ("client|maint_notifications", Class::Notifies),
];

/// The subcommands of DEBUG after which there may be no server to reply.
const ENDINGS: &[&str] = &["ASSERT", "CRASH-AND-RECOVER", "LOADAOF", "OOM", "PANIC", "RELOAD", "RESTART", "SEGFAULT"];

/// True for a request after which there may be no server to reply: its client sees the end of the connection then.
#[must_use]
pub fn may_end_server(request: &Request<'_>) -> bool {
    request.is(0, "SHUTDOWN") || request.is(0, "DEBUG") && ENDINGS.iter().any(|ending| request.is(1, ending))
}

/// The class of a command, whatever the configuration says.
pub(super) fn class_of(spec: &Spec) -> Class {
    let known = CLASSES.iter().find(|(name, _)| *name == spec.name).map(|(_, class)| *class);
    known.unwrap_or(match () {
        () if spec.flags.blocking => Class::Pinned(Pin::Blocking),
        () if spec.is_container => Class::Container,
        () => Class::Plain,
    })
}

/// The class of a command that `commands.tsv` does not have.
pub(super) fn learned_class(spec: &Spec, learned: Learned) -> Class {
    match (learned.original.map(class_of), class_of(spec)) {
        (_, Class::Notifies) => Class::Notifies,
        // It is carried by its keys alone, and answered by the upstream.
        (
            Some(
                Class::Plain
                | Class::Debug
                | Class::Split(_)
                | Class::Guarded
                | Class::Local(Local::Keys | Local::Info),
            ),
            _,
        ) => Class::Plain,
        (Some(pinned @ Class::Pinned(Pin::Blocking | Pin::Wait | Pin::Aside)), _) => pinned,
        (Some(Class::Container) | None, Class::Container) => Class::Container,
        // What it sets is kept with the client's own connection.
        (Some(Class::Pinned(Pin::State) | Class::Local(Local::Select)), _) => Class::Unknown(Unknown::State),
        (Some(_), _) => Class::Renamed,
        (None, class) => match learned.conduct {
            Conduct::Clean => class,
            Conduct::Unclear => Class::Unknown(Unknown::Conduct),
            Conduct::Stateful => Class::Unknown(Unknown::State),
        },
    }
}
