//! WATCH: of keys of the upstream's, of owned ones, or of both.

use bytes::Bytes;

use super::{Desk, QUEUE_LOSS, Road, Taken, Transaction, Wait};
use crate::command::{OwnedRequest, Request};
use crate::resp::encode;
use crate::route::{Holder, Route};
use crate::upstream::Batch;

impl Transaction {
    pub(super) fn watch(&mut self, desk: &mut Desk<'_>, request: &Request<'_>, route: Route) -> Taken {
        let is_ours = |key| desk.services.router.owner(key).is_some();
        let (ours, theirs) = (request.args_from(1).any(is_ours), request.args_from(1).any(|key| !is_ours(key)));
        if let Some(text) = self.is_elsewhere(desk, request) {
            encode::error(desk.out, &text);
            return Taken::Answered;
        }
        match self.road(desk) {
            Road::Wanted if theirs => return Taken::Waits(Wait::Connection, route),
            Road::Closed(text) if theirs => {
                // The next one may find it open.
                self.unreachable = None;
                encode::error(desk.out, &text);
                return Taken::Answered;
            }
            _ if ours => return Taken::Waits(Wait::Records, route),
            _ => {}
        }
        self.watches_upstream(desk);
        self.watching_keys += request.len() - 1;
        Taken::Passes
    }

    /// The upstream is asked to watch. One server is believed to do so; what a node of a cluster answers is waited for.
    fn watches_upstream(&mut self, desk: &Desk<'_>) {
        self.watching = true;
        self.node.watches |= !desk.services.upstream.is_cluster();
    }

    /// WATCH of owned keys, perhaps among others.
    pub async fn watch_records(&mut self, desk: &mut Desk<'_>, request: &OwnedRequest) -> Taken {
        let (request, mut asker) = (request.view(), desk.session.asker());
        let mut words = vec![request.arg(0)];
        for key in request.args_from(1) {
            let holder = desk.services.router.holder(key);
            if let Some(mapping) = holder.mapping()
                && desk.services.owned.is_loading(mapping)
            {
                encode::error(desk.out, &desk.services.owned.loading_error(mapping));
                return Taken::Answered;
            }
            match holder {
                // Definitions change as a whole set, and no transaction writes them.
                Holder::Definitions(_) => {}
                Holder::Cache(mapping) => {
                    let key = Bytes::copy_from_slice(key);
                    match desk.services.owned.cache.watch(mapping, &key, &mut asker).await {
                        Ok(watched) => self.watched.push(watched),
                        Err(error) => {
                            encode::error(desk.out, &desk.services.owned.load_error(mapping, &error));
                            return Taken::Answered;
                        }
                    }
                }
                Holder::Upstream => words.push(key),
            }
        }
        self.watching_keys += request.len() - 1;
        if desk.shows() {
            desk.services.show(desk.session, &request);
        }
        if words.len() == 1 {
            encode::simple(desk.out, "OK");
            return Taken::Answered;
        }
        self.watches_upstream(desk);
        Taken::Sends(Batch::queued(encode::request_of(&words), 1, QUEUE_LOSS))
    }
}
