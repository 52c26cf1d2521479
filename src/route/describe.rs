//! How a command is handled, in words for docs/COMPATIBILITY.md and `hearthside commands`.

use super::classes::{Class, Local, Pin, Transaction, class_of};
use crate::command::Spec;

/// How a command over pass-through keys, or none, is handled.
#[must_use]
pub fn handling(spec: &Spec) -> &'static str {
    match class_of(spec) {
        Class::Plain | Class::LooksUp if spec.flags.readonly => "forwarded; sent again if a connection dies",
        Class::Plain | Class::LooksUp | Class::Guarded => "forwarded",
        Class::Debug => "forwarded; over a pinned connection if it may end the server",
        Class::Container => "forwarded; a subcommand that the table does not know as an unknown command",
        Class::Split(_) => "forwarded; split when owned keys are among its keys",
        Class::Hearthside => "answered by the sidecar",
        Class::Local(local) => locally(local),
        Class::Transaction(Transaction::Multi) => {
            "forwarded with everything up to EXEC if that is here; else over a pinned connection"
        }
        Class::Transaction(_) => "over the transaction's pinned connection",
        Class::Pinned(pin) => pinned(pin),
        Class::Unknown(_) => "over a connection of the client's own",
        Class::Notifies | Class::Renamed => "refused",
    }
}

const fn locally(local: Local) -> &'static str {
    match local {
        Local::Ping => "answered by the sidecar; with `server.ping = \"upstream\"` forwarded",
        Local::Echo | Local::Quit => "answered by the sidecar",
        Local::Reset => "answered by the sidecar; closes the client's own connection",
        Local::Hello => "answered by the sidecar, with the client's id here and the upstream's version and modules",
        Local::Auth => "as `auth.mode` says: by the sidecar, or by the upstream",
        Local::Select => "proven by the upstream; then the client uses that database's lanes",
        Local::ClientSetName
        | Local::ClientGetName
        | Local::ClientId
        | Local::ClientInfo
        | Local::ClientSetInfo
        | Local::ClientCapa => "answered by the sidecar, of this client",
        Local::ClientList | Local::ClientKill => "answered by the sidecar, of its own clients",
        Local::ClientUnblock => "the sidecar's client by its id here; the upstream says whether it waited",
        Local::ClientReply => "obeyed by the sidecar",
        Local::WhoAmI => "the upstream's user; with `auth.mode = \"users\"` the sidecar's",
        Local::Keys => "the upstream's keys and the owned ones",
        Local::Scan => "definitions, cached keys in pages of the store, then the upstream's",
        Local::Cluster => "answered by the sidecar as by a server that is no cluster",
        Local::Info => "the upstream's, with the sidecar's own clients, and a section of the sidecar's",
    }
}

const fn pinned(pin: Pin) -> &'static str {
    match pin {
        Pin::Blocking => "over a pinned connection if it may wait; a client that leaves ends its wait",
        Pin::Wait => "over a pinned connection, counting everything written before it",
        Pin::Subscribe(_) | Pin::Unsubscribe(_) => {
            "over the client's own connection; with `pubsub.mode = \"shared\"` over the process's"
        }
        Pin::State => "over a connection of the client's own while the state lasts",
        Pin::Aside => "over a pinned connection, on which it waits behind nothing",
        Pin::Replica => "over a connection of the client's own, until it leaves",
        Pin::Follow => "over a connection of the client's own, whose bytes pass as they are until it ends",
        Pin::Debug | Pin::Monitor => "over a connection of the client's own, read raw",
    }
}
