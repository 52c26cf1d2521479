//! Requests that more than one node of a cluster must answer: each node gets its part, and the client one reply.

pub(super) mod by_node;
pub(super) mod by_slot;
pub(crate) mod cluster_aware;
pub(crate) mod joint;
mod random_key;

use super::Flow;
use super::call::Call;
use crate::command::Spec;
use crate::route::Spread;
use crate::telemetry::metrics::{Outcome, RouteLabel};
use by_slot::BySlot;

impl Call<'_> {
    /// A request for several nodes.
    pub(super) fn spread(&mut self, spread: Spread, spec: &'static Spec) -> Flow {
        self.session.tally.add(RouteLabel::Passthrough, Outcome::Ok, 1);
        match spread {
            Spread::Slots(step, joint) => {
                let words: Vec<&[u8]> = self.request.args_from(0).collect();
                let lane = self.services.lane(self.session);
                let parts = BySlot::send(lane, &words, step, joint, spec.flags.readonly);
                Flow::Later(Box::pin(async move {
                    let (reply, pushes) = parts.joined().await?;
                    // What has changed since one part was read is told behind the whole.
                    let mut all = reply;
                    all.append(pushes);
                    Ok(all)
                }))
            }
            Spread::Nodes(reach, joint) => by_node::answer(self, reach, joint, spec),
            Spread::Random => random_key::answer(self),
        }
    }
}
