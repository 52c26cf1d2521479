//! Lends pinned connections: an idle one, or a new one when there may be one more.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, SemaphorePermit};

use super::shelf::{Line, Shelf};
use super::{Lender, Pinned};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::endpoint::circuit::backoff;
use crate::upstream::endpoint::connect::{Connected, connect, connect_in, connect_patiently};
use crate::upstream::endpoint::error::ConnectError;
use crate::upstream::endpoint::group::Group;
use crate::upstream::pipeline::account::Account;

/// Lends pinned connections to the clients of one worker thread.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) endpoint: Arc<Endpoint>,
    shelf: Rc<Shelf>,
}

impl Pool {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { shelf: Shelf::new(endpoint.clone()), endpoint }
    }

    /// Closes what has been idle for too long.
    pub(crate) fn tend(&self) {
        self.shelf.tend();
    }

    /// An idle connection or a new one, when there may be one more. Whoever waits for a server that does not answer
    /// takes nothing meanwhile from those who go to others.
    pub(crate) async fn take(&self, group: &Group, account: &Rc<Account>) -> Result<Pinned, ConnectError> {
        self.resumed().await?;
        let (mut opening, mut patience) = (None, self.endpoint.settings.queue_timeout);
        loop {
            let permit = self.endpoint.permits.enter().await?;
            if let Some(line) = self.idle(group).await {
                return Ok(self.lend(line, group, account, permit));
            }
            opening = opening.or_else(|| self.endpoint.openings.try_enter());
            if opening.is_some() {
                let connected = self.connect(group, patience).await?;
                return Ok(self.lend(Line::new(connected, self.endpoint.clone()), group, account, permit));
            }
            drop(permit);
            let begun = Instant::now();
            opening = self.opening(patience).await?;
            patience = patience.saturating_sub(begun.elapsed());
        }
    }

    /// A connection for a command that must reach an upstream which is too busy to greet anybody.
    pub(crate) async fn take_aside(&self, group: &Group, account: &Rc<Account>) -> Result<Pinned, ConnectError> {
        self.resumed().await?;
        // It does not wait behind those who wait to be greeted.
        let permit = self.endpoint.permits.enter().await?;
        if let Some(line) = self.idle(group).await {
            return Ok(self.lend(line, group, account, permit));
        }
        let connected = match connect_patiently(&self.endpoint, group).await {
            Err(ConnectError::Unreachable(..)) => self.connect(group, self.endpoint.settings.queue_timeout).await,
            connected => connected,
        };
        Ok(self.lend(Line::new(connected?, self.endpoint.clone()), group, account, permit))
    }

    fn lend(&self, line: Line, group: &Group, account: &Rc<Account>, permit: OwnedSemaphorePermit) -> Pinned {
        Pinned::lend(line, group, account, Lender { shelf: &self.shelf, permit })
    }

    /// An idle connection of the group, if there is one that is open.
    async fn idle(&self, group: &Group) -> Option<Line> {
        // One that was given back a moment ago is idle when its task has run.
        tokio::task::yield_now().await;
        while let Some(mut line) = self.shelf.take(group) {
            if line.is_quiet().await {
                return Some(line);
            }
        }
        None
    }

    /// Waits until one more connection may be opened.
    async fn opening(&self, patience: Duration) -> Result<Option<SemaphorePermit<'_>>, ConnectError> {
        if self.endpoint.circuit.is_open() {
            return Err(self.endpoint.unreachable());
        }
        tokio::select! {
            opening = tokio::time::timeout(patience, self.endpoint.openings.enter()) => {
                opening.map_err(|_| self.endpoint.unreachable())
            }
            () = self.endpoint.permits.closed() => Err(ConnectError::Closing),
        }
    }

    /// Waits until commands may go to the upstream.
    async fn resumed(&self) -> Result<(), ConnectError> {
        let mut lookout = self.endpoint.location.lookout(0);
        tokio::select! {
            biased;
            resumed = lookout.resumed() => resumed,
            () = self.endpoint.permits.closing() => Err(ConnectError::Closing),
        }
    }

    /// Waits for an upstream that is away like what waits on a lane does.
    async fn connect(&self, group: &Group, patience: Duration) -> Result<Connected, ConnectError> {
        let connect = async {
            let mut attempt = 0;
            loop {
                match connect(&self.endpoint, group).await {
                    Err(ConnectError::Unreachable(..)) if !self.endpoint.circuit.is_open() => {}
                    Err(error) if error.may_pass() => {
                        attempt += 1;
                        tokio::time::sleep(backoff(attempt)).await;
                    }
                    connected => return connected,
                }
            }
        };
        if self.endpoint.circuit.is_open() {
            // Nobody waits, but somebody must try.
            return match self.endpoint.circuit.take() {
                Ok(turn) => connect_in(turn, &self.endpoint, group).await,
                Err(_) => Err(self.endpoint.unreachable()),
            };
        }
        tokio::select! {
            connected = tokio::time::timeout(patience, connect) => {
                connected.unwrap_or_else(|_| Err(self.endpoint.unreachable()))
            }
            () = self.endpoint.permits.closed() => Err(ConnectError::Closing),
        }
    }
}
