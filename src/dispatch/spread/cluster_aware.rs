//! What is said to a client that asks for the nodes of a cluster: there is one server, and the sidecar follows the
//! nodes itself. The log says it once for each name that such clients have.

use bytes::BytesMut;

use crate::command::{Request, Spec, slot_of};
use crate::dispatch::Services;
use crate::errors;
use crate::resp::encode;
use crate::session::Session;

/// True for a command by which clients follow the nodes of a cluster.
pub(crate) fn asks_for_nodes(spec: &Spec) -> bool {
    let name = spec.name.split('|').next().unwrap_or_default();
    ["cluster", "clusterscan", "readonly", "readwrite", "asking"].contains(&name)
}

/// A server that is no cluster has one error for all of them. CLUSTER INFO, by which people ask whether it is one, is
/// answered.
pub(crate) fn answer(services: &Services, session: &Session, request: &Request<'_>, spec: &Spec, out: &mut BytesMut) {
    let name = session.peer.read(|state| {
        let name = if state.name.is_empty() { &state.lib_name } else { &state.name };
        String::from_utf8_lossy(&name[..name.len().min(64)]).into_owned()
    });
    if services.metrics.clients.logged.cluster_aware.is_new(&name) {
        let (client, command) = (&session.peer.addresses.0, spec.name.replace('|', " "));
        tracing::info!(
            %client,
            name,
            command,
            "a client asks for the nodes of a cluster: it needs a plain client and no cluster mode, because the \
             sidecar follows the cluster itself; this is said once for each client name"
        );
    }
    let is_valkey = services.upstream.endpoint().version.get().server == "valkey";
    match &*spec.name {
        "cluster" if request.len() > 1 => {
            encode::error(out, &errors::as_redis::unknown_subcommand("CLUSTER", request.arg(1)));
        }
        // A Valkey answers these without a cluster, too.
        "cluster|keyslot" if is_valkey => encode::int(out, i64::from(slot_of(request.arg(2)))),
        "readonly" | "readwrite" if is_valkey => encode::simple(out, "OK"),
        "cluster|info" => encode::verbatim(out, session.proto(), b"cluster_enabled:0\r\n"),
        _ => encode::error(out, errors::upstream::NO_CLUSTER_HERE),
    }
}
