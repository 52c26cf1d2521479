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
    stops: Vec<Stop>,
}

impl ByNode {
    /// Sends a request to them.
    pub(crate) fn send(lane: &Lane, reach: Reach, request: &Bytes, resendable: bool) -> Self {
        let stops = lane.everywhere(reach == Reach::All);
        let requests = stops.iter().map(|stop| (stop.to, request.clone()));
        let ticket = lane.submit(Batch::each(requests, resendable));
        Self { ticket, stops }
    }

    /// The replies that make the whole, the home's first, and the push messages that came with them. Of a node that
    /// owns no slots only what it refuses is told: it may have been a master until a moment ago, and have the keys of
    /// the one that took its place.
    ///
    /// # Errors
    /// [`Broken`].
    pub(crate) async fn replies(self) -> Result<(Vec<Bytes>, Bytes), Broken> {
        let (replies, pushes) = self.ticket.parts().await?;
        let replies = reply::each(&replies.whole());
        let all_count = self.stops.iter().all(|stop| !stop.counts);
        let told = self.stops.into_iter().zip(replies);
        let told = told.filter(|(stop, reply)| all_count || stop.counts || refuses(reply));
        Ok((told.map(|(_, reply)| reply).collect(), pushes))
    }
}

/// True for an error that is neither the sidecar's own word instead of a reply nor that of a replica.
fn refuses(reply: &Bytes) -> bool {
    decode::error(reply)
        .is_some_and(|error| !errors::upstream::is_instead(&error) && error != errors::as_redis::READ_ONLY)
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
