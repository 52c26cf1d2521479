//! EXEC: it is sent directly behind the commands where nothing must be decided first, and its reply is passed on as it
//! is where nothing in it is ours. The store's part is prepared when every command is known to be queued, and committed
//! only if the upstream's part is.

use std::time::Instant;

use bytes::Bytes;

use super::queued::Queued;
use super::splice::{Sources, splice};
use super::store::{self, Part};
use super::{Desk, EXEC_LOSS, MULTI, PART_LOSS, Taken, Transaction, Wait, summary};
use crate::cache::{AllDone, Prepared};
use crate::dispatch::Measured;
use crate::errors;
use crate::resp::encode;
use crate::resp::pieces::{Elements, Pieces};
use crate::route::Route;
use crate::store::StoreError;
use crate::telemetry::clock::Moment;
use crate::telemetry::traces::StoreSpan;
use crate::upstream::{Batch, Kept, Loss, Pinned, Ticket};

const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// Why a transaction has not run, for the audit log.
const CHANGED: &str = "a watched key has changed";
const NOT_RUN: &str = "the upstream has not run the transaction, or its answer is lost";

/// An EXEC that has begun.
#[derive(Debug)]
pub(super) struct Exec {
    part: Part,
    begun: Instant,
    /// Where the upstream's reply comes, if it has been asked already.
    ticket: Option<Ticket>,
    /// The store's part, when it can be committed.
    prepared: Option<Prepared>,
}

impl Transaction {
    pub(super) fn exec(&mut self, desk: &mut Desk<'_>, route: Route) -> Taken {
        if self.exec.is_some() {
            return Taken::Waits(Wait::Decision, route);
        }
        let is_shown = desk.shows() && !self.asks_upstream();
        if is_shown {
            self.show_multi(desk);
        }
        let taken = self.begun(desk, route);
        if is_shown && !matches!(taken, Taken::Waits(..)) {
            desk.services.show_word(desk.session, "EXEC");
        }
        taken
    }

    /// What EXEC does before anything is decided.
    fn begun(&mut self, desk: &mut Desk<'_>, route: Route) -> Taken {
        let is_lost = self.asks_upstream() && desk.session.way.transacting().is_none_or(Pinned::is_lost);
        match () {
            () if self.dirty => self.abort(desk, errors::as_redis::DISCARDED),
            () if self.is_outdated => self.abort(desk, errors::transaction::OUTDATED),
            () if is_lost => self.abort(desk, errors::transaction::LOST_BEFORE_EXEC),
            () if self.node.is_stale() => {
                desk.audit_unrun(&self.queue, CHANGED);
                encode::null_array(desk.out, desk.session.proto());
                self.end()
            }
            () if !self.queue.is_plain() || !self.watched.is_empty() => self.begin(desk, route),
            // A node may send it elsewhere.
            () if self.asks_upstream() && desk.services.upstream.is_cluster() => self.begin(desk, route),
            () if self.asks_upstream() => {
                let run = self.run(EXEC_LOSS);
                *self = Self::default();
                Taken::Last(run)
            }
            () => {
                encode::array(desk.out, 0);
                self.end()
            }
        }
    }

    /// The upstream has a part in it, if only what it watches.
    pub(super) const fn asks_upstream(&self) -> bool {
        self.is_open || self.watching
    }

    /// EXEC for the upstream, whose last reply is the transaction's.
    fn run(&self, loss: Loss) -> Batch {
        match self.is_open {
            true => Batch::queued(Bytes::from_static(EXEC), 1, loss),
            false => Batch::queued(Bytes::from([MULTI, EXEC].concat()), 2, loss),
        }
    }

    /// Some of its reply is ours. If the store has no part in it, nothing but the upstream decides, which is asked at
    /// once.
    fn begin(&mut self, desk: &Desk<'_>, route: Route) -> Taken {
        let part = store::part(&desk.services.owned.mappings.list, self.queue.list());
        let is_decided = part.steps.is_empty() && self.watched.is_empty();
        // What is sent now is of the EXEC, too.
        desk.trace_exec();
        let ticket = if is_decided { self.ask(desk, EXEC_LOSS) } else { None };
        self.exec = Some(Exec { part, begun: Instant::now(), ticket, prepared: None });
        Taken::Waits(Wait::Decision, route)
    }

    pub(super) fn ask(&self, desk: &Desk<'_>, loss: Loss) -> Option<Ticket> {
        let own = desk.session.way.transacting().filter(|_| self.asks_upstream())?;
        Some(own.lane().submit(self.run(loss)))
    }

    /// Does the store's part as far as it can be undone; `Some` when the transaction has ended with that.
    pub async fn prepare(&mut self, desk: &mut Desk<'_>) -> Option<Taken> {
        let (is_shown, measured) = (desk.shows() && !self.asks_upstream(), self.measured(desk));
        let taken = self.prepared(desk).await;
        if let Some(measured) = measured.filter(|_| taken.is_some()) {
            measured.note();
        }
        if is_shown && taken.is_some() {
            desk.services.show_word(desk.session, "EXEC");
        }
        taken
    }

    /// Measures it from its beginning on, if one of its keys is owned.
    fn measured(&self, desk: &Desk<'_>) -> Option<Measured> {
        let first = self.queue.list().iter().find_map(|queued| match queued {
            Queued::Here(request, route) => route.owned_key().map(|key| (key.mapping, request.key(key.at))),
            _ => None,
        });
        Measured::exec(&desk.services.owned, desk.session, first?, self.exec.as_ref()?.begun)
    }

    async fn prepared(&mut self, desk: &mut Desk<'_>) -> Option<Taken> {
        // A reload came while EXEC waited, and nothing has been done yet.
        if self.is_outdated && !self.is_asked() {
            return Some(self.abort(desk, errors::transaction::OUTDATED));
        }
        let Some(exec) = &mut self.exec else { return Some(Taken::Answered) };
        let (steps, watched) = (std::mem::take(&mut exec.part.steps), std::mem::take(&mut self.watched));
        if steps.is_empty() && watched.is_empty() {
            return None;
        }
        if desk.is_refused {
            return Some(self.abort(desk, errors::as_redis::DISCARDED));
        }
        let client = desk.session.peer.holding.clone();
        let author = desk.session.author("EXEC");
        let begun = desk.services.owned.cache.begin_transaction(steps, watched, client, &author);
        let at = Moment::now();
        let outcome = begun.prepared().await;
        desk.trace_store(StoreSpan::Prepare, at, outcome.as_ref().err());
        match outcome {
            Ok(Some(prepared)) => {
                exec.prepared = Some(prepared);
                None
            }
            Ok(None) => {
                desk.audit_unrun(&self.queue, CHANGED);
                encode::null_array(desk.out, desk.session.proto());
                Some(self.end())
            }
            Err(error) => {
                if error == StoreError::TooMuch {
                    desk.services.metrics.clients.limited("buffers");
                }
                let text = match &error {
                    StoreError::ReadOnly(_) => errors::transaction::takes_reads_only(&error.to_string()),
                    _ => errors::transaction::nothing_done(&error.in_full()),
                };
                Some(self.abort(desk, &text))
            }
        }
    }

    /// True when the upstream has been asked to run its part: from now on its answer decides.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.exec.as_ref().is_some_and(|exec| exec.ticket.is_some())
    }

    /// True when something of the store waits to be committed: from now on EXEC must be completed.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        self.exec.as_ref().is_some_and(|exec| exec.prepared.is_some())
    }

    /// Runs the upstream's part, and commits the store's if that went through.
    pub async fn run_all(&mut self, desk: &mut Desk<'_>) -> Taken {
        let (is_shown, measured) = (desk.shows() && !self.asks_upstream(), self.measured(desk));
        let Some(Exec { part, ticket, prepared, .. }) = self.exec.take() else { return Taken::Answered };
        // Nothing is committed in the store before the upstream has said that it is done there.
        let loss = if part.writes() { PART_LOSS } else { EXEC_LOSS };
        let ticket = ticket.or_else(|| self.ask(desk, loss));
        let theirs = match ticket {
            Some(ticket) => self.outcome(desk, ticket, loss).await.map(Some),
            None => Ok(None),
        };
        let Self { queue, is_open, .. } = std::mem::take(self);
        let elements =
            match theirs.and_then(|reply| reply.map_or_else(|| Ok(Elements::none()), |of_it| read(of_it, is_open))) {
                Ok(elements) => elements,
                Err(taken) => {
                    desk.audit_unrun(&queue, NOT_RUN);
                    return taken;
                }
            };
        let mut kept = Kept::new(desk.session.account.clone());
        kept.are(elements.len());
        // If the store refuses now, the upstream's part has run: each of our commands says so at its position.
        let notes = desk.notes(&queue, &part.answers);
        let done = match prepared {
            None => Ok(AllDone::default()),
            Some(prepared) => {
                let at = Moment::now();
                let done = prepared.commit().await;
                desk.trace_store(StoreSpan::Commit, at, done.as_ref().err());
                done
            }
        };
        let reply = splice(desk, queue, Sources { elements, kept, answers: part.answers, notes, done }).await;
        if is_shown {
            desk.services.show_word(desk.session, "EXEC");
        }
        if let Some(measured) = measured {
            measured.note();
        }
        Taken::Ended(reply)
    }
}

/// The elements of what the upstream has said to EXEC, or how the transaction has ended with that.
fn read(reply: Pieces, is_open: bool) -> Result<Elements, Taken> {
    let reply = if is_open {
        reply
    } else {
        let whole = reply.whole();
        whole.slice_ref(summary(&whole)).into()
    };
    // Null (a watched key changed) or an error: nothing has run, and our commands must not run either.
    Elements::of(reply).map_err(Taken::Ended)
}
