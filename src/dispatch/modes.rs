//! Modes of mappings: what routing does while one changes over, and the orders by which somebody changes them. Who
//! obeys stands in `app/modes.rs`.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::Services;
use crate::command::Request;
use crate::config::Mode;
use crate::inspect::ModeFacts;
use crate::keys::MappingId;
use crate::resp::number::parse_i64;
use crate::route::{Held, Route};
use crate::session::Session;
use crate::store::Place;

/// What of the mappings an order is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// The one with this key pattern.
    One(String),
}

/// Somebody wants other modes.
#[derive(Debug)]
pub struct ModeOrder {
    /// Of which mappings.
    pub which: Which,
    /// The mode.
    pub mode: Mode,
    /// For so many of a hundred keys; none: as many as before.
    pub percent: Option<u8>,
    /// Who gives it.
    pub by: By,
}

/// Who gives an order.
#[derive(Debug)]
pub enum By {
    /// A client, which is told what is in force then, or why nothing was changed.
    Client(oneshot::Sender<Result<Vec<ModeFacts>, String>>),
    /// Another sidecar of the store, by a word with this place that was heard at this moment.
    Other(Place, Instant),
    /// Nobody who waits: what a client asked for during a reload is done once more behind it.
    Again,
}

/// A mode and its percentage, as somebody writes them; nothing where one of them is none.
#[must_use]
pub fn mode_named(mode: &[u8], percent: Option<&[u8]>) -> Option<(Mode, Option<u8>)> {
    let share = |text| parse_i64(text).and_then(|share| u8::try_from(share).ok()).filter(|share| *share <= 100);
    let percent = match percent {
        Some(text) => Some(share(text)?),
        None => None,
    };
    Some((Mode::named(mode)?, percent))
}

impl ModeOrder {
    /// The same once more, for nobody.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { which: self.which.clone(), mode: self.mode, percent: self.percent, by: By::Again }
    }
}

/// Where orders are given.
#[derive(Clone, Debug)]
pub struct ModeOrders(mpsc::UnboundedSender<ModeOrder>);

impl ModeOrders {
    /// Where orders are given, and where they come.
    #[must_use]
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<ModeOrder>) {
        let (orders, given) = mpsc::unbounded_channel();
        (Self(orders), given)
    }

    /// Gives an order; what comes of it.
    ///
    /// # Errors
    /// Why nothing was changed; nothing where the sidecar is ending.
    pub async fn give(&self, which: Which, mode: Mode, percent: Option<u8>) -> Result<Vec<ModeFacts>, Option<String>> {
        let (reply, told) = oneshot::channel();
        self.0.send(ModeOrder { which, mode, percent, by: By::Client(reply) }).map_err(|_| None)?;
        told.await.map_err(|_| None)?.map_err(Some)
    }

    /// Gives an order that another sidecar of the store has got.
    pub fn pass_on(&self, which: Which, mode: Mode, percent: Option<u8>, place: Place) {
        // A sidecar that is ending does nothing any more.
        let _ending = self.0.send(ModeOrder { which, mode, percent, by: By::Other(place, Instant::now()) });
    }
}

impl Services {
    /// `route`, unless a mapping of the request's keys is changing over to another mode.
    #[cold]
    pub(super) fn unless_held(&self, session: &Session, request: &Request<'_>, route: Route) -> Route {
        let Some(spec) = session.spec.filter(|_| self.router.modes.is_changing()) else { return route };
        let is_refused = matches!(route, Route::Refused(_) | Route::Attack | Route::Unproven | Route::Hearthside);
        if !is_refused && self.router.is_held(request, spec) { Route::Held(Held::Mode) } else { route }
    }

    /// True when mappings may be in other modes than by `other`.
    #[must_use]
    pub fn has_other_modes(&self, other: &Self) -> bool {
        let [own, others] = [self, other].map(|services| &services.router.modes);
        !Arc::ptr_eq(own, others) && !own.is_as(others)
    }

    /// True when this mapping is in another mode by `other`, or changing over to one.
    #[must_use]
    pub fn has_other_mode(&self, other: &Self, mapping: MappingId) -> bool {
        let [own, others] = [self, other].map(|services| &services.router.modes);
        own.setting(mapping) != others.setting(mapping) || others.is_held(mapping)
    }
}
