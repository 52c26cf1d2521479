//! A command that every master, or every node, of a cluster gets.

use bytes::{Bytes, BytesMut};

use super::joint::join;
use crate::command::Spec;
use crate::dispatch::Flow;
use crate::dispatch::call::Call;
use crate::errors;
use crate::resp::pieces::Pieces;
use crate::resp::{decode, reply};
use crate::route::{Joint, Reach};
use crate::upstream::{Batch, Broken, Lane, Stop, Ticket};

/// The same request on its way to many nodes.
pub(crate) struct ByNode {
    ticket: Ticket,
    reach: Reach,
    stops: Vec<Stop>,
}

impl ByNode {
    /// Sends a request to them.
    pub(crate) fn send(lane: &Lane, reach: Reach, request: &Bytes, resendable: bool) -> Self {
        let stops = lane.everywhere(reach == Reach::All);
        let requests = stops.iter().map(|stop| (stop.to, request.clone()));
        let ticket = lane.submit(Batch::each(requests, resendable));
        Self { ticket, reach, stops }
    }

    /// The replies that make the whole, the home's first, and the push messages that came with them. What the sidecar
    /// says instead of a node without slots is left out. So is what such a node says of masters' affairs, unless it
    /// refuses: it may have been a master until a moment ago, and have the keys of the one that took its place.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn replies(self) -> Result<(Vec<Bytes>, Bytes), Broken> {
        let (replies, pushes) = self.ticket.parts().await?;
        let replies = reply::each(&replies.whole());
        let counts = self.stops.iter().any(|stop| stop.counts) && self.reach == Reach::Masters;
        let told = self.stops.into_iter().zip(replies);
        let told = told.filter(|(stop, reply)| stop.counts || if counts { refuses(reply) } else { !is_none(reply) });
        Ok((told.map(|(_, reply)| reply).collect(), pushes))
    }
}

/// True for the sidecar's own word instead of a reply, and for that of a replica which was taken for a master.
fn is_none(reply: &Bytes) -> bool {
    decode::error(reply)
        .is_some_and(|error| errors::upstream::is_instead(&error) || error == errors::as_redis::READ_ONLY)
}

fn refuses(reply: &Bytes) -> bool {
    decode::error(reply).is_some() && !is_none(reply)
}

pub(super) fn answer(call: &mut Call<'_>, reach: Reach, joint: Joint, spec: &Spec) -> Flow {
    let request = Bytes::copy_from_slice(call.request.raw());
    let sent = ByNode::send(call.services.lane(call.session), reach, &request, spec.flags.readonly);
    Flow::Later(Box::pin(async move {
        let (replies, pushes) = sent.replies().await?;
        let mut all = Pieces::from(BytesMut::from(&pushes[..]));
        all.append(join(joint, &replies));
        Ok(all)
    }))
}
