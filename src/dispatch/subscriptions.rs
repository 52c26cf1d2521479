//! Where a client is subscribed: in a hub, of everybody or of its own, or over the connection of its other requests;
//! and to the events of owned keys beside that.

use std::sync::Arc;

use super::Services;
use crate::key_events::Listening;
use crate::session::Session;
use crate::upstream::{Group, Membership, Owner};

impl Services {
    /// True for a client whose subscriptions do not go over a connection with its other requests.
    pub fn has_hub(&self, session: &Session) -> bool {
        self.hub.is_some()
            || session.subscriber().is_some()
            || self.upstream.is_cluster() && session.subscribed() == [0; 3]
    }

    /// The client's place in the hub: of everybody, or of its own.
    pub fn membership<'a>(&self, session: &'a mut Session) -> &'a Membership {
        session.member(|session| match &self.hub {
            Some(hub) => hub.member(session.peer.id, session.peer.holding.clone()),
            None => {
                let owner = Owner {
                    client: session.peer.id,
                    address: session.peer.addresses.0.clone(),
                    group: Group { login: session.group.login.clone(), ..Group::default() },
                    is_closed_on_loss: !self.policy.resubscribes,
                    metrics: self.metrics.clients.clone(),
                };
                self.upstream.own_hub(owner, self.policy.subscriber_output, session.peer.holding.clone())
            }
        })
    }

    /// What a client hears of the events of owned keys, which is subscribed or about to be.
    pub fn listening(&self, session: &mut Session) -> Arc<Listening> {
        session.hears_of(&self.owned.events, self.policy.subscriber_output)
    }
}
