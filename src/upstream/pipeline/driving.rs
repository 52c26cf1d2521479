//! What a lane's connection, and one that is lent to a client, do besides sending and receiving: they wait while
//! commands are held back, end where the upstream has moved, and find out that it is silent.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::connection::{Connection, Ended, late};
use super::flight::Flight;
use super::lane_ticket::ticket;
use crate::resp::encode;
use crate::upstream::endpoint::error::ConnectError;
use crate::upstream::endpoint::greeting::PING;
use crate::upstream::endpoint::location::Lookout;
use crate::upstream::endpoint::target::Host;

impl Connection {
    /// Works until the connection ends or should lead elsewhere, and asks a silent upstream how it is.
    pub(super) async fn drive(&mut self) -> Ended {
        let mut lookout = self.endpoint.location.lookout(self.generation);
        let mut ticker = tokio::time::interval(self.often());
        loop {
            if lookout.is_deposed() {
                return Ended::Lost(deposed());
            }
            self.is_held = self.is_outdated(&lookout) || lookout.paused_until().is_some();
            tokio::select! {
                biased;
                ended = self.drive_unsolicited() => match ended {
                    Ended::Quiet if self.is_outdated(&lookout) => return ended,
                    Ended::Quiet => if let Err(error) = self.rest(&mut lookout).await { return Ended::Lost(error) },
                    _ => return ended,
                },
                _ = ticker.tick() => if let Err(error) = self.check_health() { return Ended::Lost(error) },
                () = lookout.changed() => {}
            }
        }
    }

    /// Works until the connection ends, of one that is lent to a client, which asks itself how the upstream is. It
    /// outlives a move of the upstream for as long as `grace`. If its server is deposed, only what waits there does, so
    /// that the server can end that.
    pub(crate) async fn drive_lent(&mut self, grace: Duration) -> Ended {
        let mut lookout = self.endpoint.location.lookout(self.generation);
        let mut ends = None;
        loop {
            if lookout.is_deposed() && !self.arrivals.is_waited_on() {
                return Ended::Lost(deposed());
            }
            if lookout.has_moved() {
                ends.get_or_insert_with(|| Box::pin(tokio::time::sleep(grace)));
            }
            self.is_held = lookout.is_held() || lookout.is_deposed();
            let over = async {
                match &mut ends {
                    Some(over) => over.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                ended = self.drive_unsolicited() => match ended {
                    Ended::Quiet => tokio::select! {
                        () = lookout.changed() => {}
                        error = std::future::poll_fn(|cx| self.poll_closed(cx)) => return Ended::Lost(error),
                    },
                    _ => return ended,
                },
                () = over => return Ended::Lost(io::Error::other("the upstream was changed")),
                () = lookout.changed() => {}
            }
        }
    }

    /// Asks a server that may become a replica to name its primary then (CLIENT CAPA of Valkey).
    pub(super) fn ask_for_redirections(&mut self) {
        let (_, delivery) = ticket(Rc::default());
        let request = encode::request_of(&["CLIENT", "CAPA", "redirect"]);
        self.give(Flight::new(Batch::one(request, true), delivery));
    }

    /// The primary that the server named instead of an answer.
    pub(super) const fn redirected(&self) -> Option<&Host> {
        self.arrivals.redirected.as_ref()
    }

    /// How often its health is looked at.
    fn often(&self) -> Duration {
        let settings = &self.endpoint.settings;
        let deadlines = [settings.ping_interval, settings.command_timeout].into_iter().filter(|time| !time.is_zero());
        deadlines.fold(Duration::from_secs(1), Duration::min)
    }

    fn is_outdated(&self, lookout: &Lookout) -> bool {
        lookout.has_moved() || self.is_unready()
    }

    /// Nothing is under way, and nothing may begin. If the upstream closes it meanwhile, nothing is sent and lost; at a
    /// shutdown what waits is answered with that.
    async fn rest(&mut self, lookout: &mut Lookout) -> io::Result<()> {
        self.endpoint.metrics.lanes.held.inc();
        let (endpoint, queue) = (self.endpoint.clone(), self.queue.clone());
        let informed = async {
            endpoint.permits.closing().await;
            let due = queue.upgrade().map(|queue| queue.borrow_mut().take_due(|_| true));
            due.into_iter().flatten().for_each(|flight| flight.fail(&ConnectError::Closing.to_string()));
            std::future::pending::<()>().await;
        };
        let rested = tokio::select! {
            () = lookout.changed() => Ok(()),
            error = std::future::poll_fn(|cx| self.poll_closed(cx)) => Err(error),
            () = informed => Ok(()),
        };
        self.endpoint.metrics.lanes.held.dec();
        (self.heard, self.pinged) = (Instant::now(), false);
        rested
    }

    /// Asks a silent upstream with PING, and gives it up when it stays silent (half-open connections).
    fn check_health(&mut self) -> io::Result<()> {
        if self.arrivals.is_left_unread() {
            // It is the client that is slow: the upstream may have sent what has not been read.
            (self.heard, self.pinged) = (Instant::now(), false);
            return Ok(());
        }
        let settings = &self.endpoint.settings;
        let silent = self.heard.elapsed();
        if silent > settings.ping_interval + settings.ping_timeout {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no reply within upstream.ping_timeout"));
        }
        let waits_since = self.arrivals.flights.front().map(|flight| flight.since.max(self.heard));
        if !settings.command_timeout.is_zero()
            && waits_since.is_some_and(|since| since.elapsed() > settings.command_timeout)
        {
            if let Some(front) = self.arrivals.flights.front_mut() {
                front.time_out();
            }
            return Err(late());
        }
        if silent > settings.ping_interval && !self.pinged {
            self.pinged = true;
            let (_, delivery) = ticket(Rc::default());
            self.give(Flight::new(Batch::one(encode::request_of(&PING), false), delivery));
        }
        Ok(())
    }
}

/// Why a connection ends whose server is not the upstream any more, without waiting for what is under way.
fn deposed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "its server is not the upstream any more")
}
