//! INFO: the upstream's text, in which the sidecar's own clients are counted, followed by a section of the sidecar.

use std::fmt::Write;

use bytes::{Bytes, BytesMut};

use super::info_clients::{Numbers, SECTIONS};
use super::spread::by_node::ByNode;
use super::{Flow, Services, info_nodes};
use crate::command::Request;
use crate::resp::{decode, encode};
use crate::route::Reach;
use crate::session::Session;
use crate::store::Taken;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{ConsistencyMetrics, MINUTES, Outcome, RouteLabel};
use crate::upstream::{Batch, Broken, Ticket};

pub(super) fn answer(services: &Services, session: &mut Session, request: &Request<'_>, out: &mut BytesMut) -> Flow {
    let wants = |section: &str| (1..request.len()).any(|i| request.is(i, section));
    let everything = request.len() == 1 || ["default", "all", "everything"].iter().any(|s| wants(s));
    let (has_section, has_clients) = (everything || wants("hearthside"), everything || SECTIONS.into_iter().any(wants));
    let is_cluster = services.upstream.is_cluster();
    if !has_section && !has_clients && !is_cluster {
        return services.forward(session, request, true);
    }
    session.tally.flush(&services.metrics.commands);
    let ours = has_section.then(|| section(&services.metrics, services.owned.store.taken_feed()));
    let proto = session.proto();
    if let (Some(ours), 2, false) = (&ours, request.len(), everything) {
        encode::verbatim(out, proto, ours.as_bytes());
        return Flow::Answered;
    }
    let numbers = Numbers::of(services.clients.census(), &services.policy.limits, &services.metrics.clients);
    let asked = Asked::send(services, session, request);
    Flow::Later(Box::pin(async move {
        let (replies, pushes) = asked.replies().await?;
        let mut out = BytesMut::from(&pushes[..]);
        let texts = replies.iter().map(|reply| decode::text(reply, proto).ok_or(reply)).collect::<Result<Vec<_>, _>>();
        let mut text = match (texts, &ours) {
            (Ok(texts), _) if is_cluster => numbers.put_into(&info_nodes::joined(&texts)),
            (Ok(texts), _) => numbers.put_into(&texts.concat()),
            // Without an upstream there is still the sidecar to ask about.
            (Err(_), Some(_)) => Vec::new(),
            (Err(reply), None) => {
                out.extend_from_slice(reply);
                return Ok(out.into());
            }
        };
        if let Some(ours) = ours {
            if !text.is_empty() {
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(ours.as_bytes());
        }
        encode::verbatim(&mut out, proto, &text);
        Ok(out.into())
    }))
}

/// The upstream's answer on its way, or those of all masters of a cluster.
enum Asked {
    Server(Ticket),
    Cluster(ByNode),
}

impl Asked {
    fn send(services: &Services, session: &mut Session, request: &Request<'_>) -> Self {
        let (request, lane) = (Bytes::copy_from_slice(request.raw()), services.lane(session));
        match services.upstream.is_cluster() {
            true => Self::Cluster(ByNode::send(lane, Reach::Masters, &request, true)),
            false => Self::Server(lane.submit(Batch::one(request, true))),
        }
    }

    async fn replies(self) -> Result<(Vec<Bytes>, Bytes), Broken> {
        match self {
            Self::Server(ticket) => ticket.parts().await.map(|(reply, pushes)| (vec![reply.whole()], pushes)),
            Self::Cluster(asked) => asked.replies().await,
        }
    }
}

fn section(metrics: &Metrics, feed: Option<Taken>) -> String {
    let count = |route, outcome| metrics.commands.get(route, outcome) as i64;
    let mut text = String::from("# Hearthside\r\n");
    for (name, value) in [
        ("clients", metrics.clients.connected.get()),
        ("upstream_up", metrics.upstream.up.get()),
        ("lanes_connected", metrics.upstream.lanes.connected.get()),
        ("pinned", metrics.upstream.pinned.open.get()),
        ("store_up", metrics.app.store_up.get()),
        ("store_writable", metrics.app.store_writable.get()),
        ("change_feed_up", metrics.cache.change_feed_up.get()),
        ("gaps", metrics.owned.gaps.get() as i64),
        ("definitions", metrics.definitions.definitions.get()),
        ("definition_hits", count(RouteLabel::Definition, Outcome::Hit)),
        ("cache_entries", metrics.cache.entries.get()),
        ("cache_bytes", metrics.cache.bytes.get()),
        ("cache_hits", count(RouteLabel::Cache, Outcome::Hit)),
        ("cache_absent_hits", count(RouteLabel::Cache, Outcome::Absent)),
        ("cache_misses", count(RouteLabel::Cache, Outcome::Miss)),
        ("coalesced_waiters", metrics.cache.coalesced_waiters.get() as i64),
        ("passthrough_commands", count(RouteLabel::Passthrough, Outcome::Ok)),
    ] {
        // Writing to a String cannot fail.
        let _ = write!(text, "hearthside_{name}:{value}\r\n");
    }
    if let Some(Taken { kind, why, .. }) = feed {
        let why = why.replace(['\r', '\n'], " ");
        let _ = write!(text, "hearthside_change_feed:{}\r\nhearthside_change_feed_why:{why}\r\n", kind.name());
    }
    consistency(&metrics.cache.consistency, &mut text);
    text
}

/// How consistent the hits were that the verifier has compared with the store.
fn consistency(metrics: &ConsistencyMetrics, text: &mut String) {
    let _ = write!(text, "hearthside_verified:{}\r\n", metrics.hits());
    for minutes in MINUTES {
        let (stale, nines) = (metrics.stale_hits(minutes), metrics.nines(minutes));
        let _ = write!(text, "hearthside_stale_hits_{minutes}m:{stale}\r\n");
        let _ = write!(text, "hearthside_consistency_nines_{minutes}m:{nines:.2}\r\n");
    }
}
