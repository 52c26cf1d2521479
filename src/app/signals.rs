//! Signals: SIGTERM and Ctrl-C stop the sidecar, SIGHUP reloads it.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

pub(super) enum Signal {
    Stop,
    Reload,
}

pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    /// Waits for a signal to stop; a reload has nothing to reload yet.
    pub(super) async fn stop(&mut self) {
        while !matches!(self.next().await, Signal::Stop) {}
    }
}
