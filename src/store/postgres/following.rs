//! The store follows its servers: whether the one of now is there and takes what is wanted is asked every second, and
//! when another one takes its place everything goes there (`hosts`).

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use super::Postgres;
use super::hosts::Server;
use super::options::place;
use super::planners;
use crate::config::{self, Pooler};
use crate::store::StoreError;
use crate::store::change::{Change, OnChange};

/// How long one of several servers may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(2);

const MOVED: &str = "the store is another of its hosts from now on; what is in memory is forgotten";

impl Postgres {
    pub(in crate::store) async fn ping(&self) -> Result<(), StoreError> {
        if !self.hosts.are_followed() {
            return self.ask_health().await;
        }
        let silent = |_| Err(StoreError::Unavailable("the server is silent".into()));
        let answer = tokio::time::timeout(PATIENCE, self.ask_health()).await.unwrap_or_else(silent);
        if answer.is_err() || !self.hosts.fits(self.standing()) {
            self.hosts.doubt();
        }
        answer
    }

    async fn ask_health(&self) -> Result<(), StoreError> {
        if self.health.ask().await? {
            self.retire_connections();
        }
        Ok(())
    }

    /// Gives a result back, having noted whether it says that the store takes reads only.
    pub(super) fn noted<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(result, Err(StoreError::ReadOnly(_))) {
            self.hosts.doubt();
        }
        self.health.noted(result)
    }

    /// Gives changes on, those of the server that the store is; `marked` is what [`Postgres::marking`] gives.
    pub(in crate::store) async fn watch(&self, settings: &config::Store, marked: OnChange) {
        if let Some(doubt) = self.hosts.doubt_about_list() {
            tracing::warn!("{doubt}");
        }
        loop {
            let heard = self.doubting(self.health.hearing(marked.clone()));
            let server = tokio::select! {
                () = self.feeds.watch(settings, heard) => return,
                () = self.look_at_replicas() => return,
                server = self.hosts.another() => server,
            };
            let (from, to) = (place(&self.way.get()), place(&server.options));
            tracing::warn!(from, to, takes_writes = server.proven.standing.takes_writes(), "{MOVED}");
            marked(Change::Gap(format!("the store is {to} from now on, and no longer {from}")));
            self.move_to(server, settings.pooler);
        }
    }

    /// No standby shows less than what was told, from before anybody hears of it.
    pub(in crate::store) fn marking(&self, on_change: OnChange) -> OnChange {
        match self.replicas() {
            Some(replicas) => replicas.hearing(on_change),
            None => on_change,
        }
    }

    async fn look_at_replicas(&self) {
        match self.replicas() {
            Some(replicas) => replicas.run().await,
            None => std::future::pending().await,
        }
    }

    /// A feed that ends, or cannot be had, may have lost its server.
    fn doubting(&self, on_change: OnChange) -> OnChange {
        let hosts = self.hosts.clone();
        Arc::new(move |change| {
            if matches!(change, Change::Gap(_) | Change::StillGap(_)) {
                hosts.doubt();
            }
            on_change(change);
        })
    }

    /// Everything that begins from now on goes to this server. What is under way at the one of before is given up.
    fn move_to(&self, server: Server, pooler: Pooler) {
        let (options, direct) = server.lasting(pooler);
        self.hosts.take(&server);
        self.setup.replace(server.proven.setup.clone());
        self.way.lead_to(options.clone());
        self.feeds.way().lead_to(direct.clone());
        self.pool.lead_to(&options);
        self.questions.connections().lead_to(&direct);
        self.planners.connections().lead_to(&planners::impatient(&direct));
        self.give_names();
        self.retire_connections();
        self.health.moved(server.proven.standing);
        self.moves.tell();
    }
}

impl Server {
    /// How sessions of key statements are reached, and how the server itself is.
    pub(super) fn lasting(&self, pooler: Pooler) -> (PgConnectOptions, PgConnectOptions) {
        let (setup, options) = (&self.proven.setup, self.options.clone());
        // To compile a question to the catalogs takes a second, and to run it a millisecond.
        let direct = setup.lasting(self.direct.clone()).options([("jit", "off")]);
        (if pooler == Pooler::None { setup.lasting(options) } else { options }, direct)
    }
}
