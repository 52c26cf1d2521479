//! Clients that connect again when they must, and what their answers mean.

use std::thread;
use std::time::Duration;

use super::Attack;
use crate::support::postgres::Session;
use crate::support::wire::Wire;

/// A client gives up on an answer after so long.
pub const PATIENCE: Duration = Duration::from_secs(8);

pub struct Client {
    port: u16,
    wire: Option<Wire>,
}

impl Client {
    /// One for each sidecar.
    pub fn of_each(attack: &Attack) -> Vec<Self> {
        attack.world.ports.iter().map(|port| Self::at(*port)).collect()
    }

    pub const fn at(port: u16) -> Self {
        Self { port, wire: None }
    }

    /// Closes the connection, and with it what has begun there.
    pub fn leave(&mut self) {
        self.wire = None;
    }

    /// The reply; `None` when there was none.
    pub fn ask(&mut self, text: &str) -> Option<String> {
        if self.wire.is_none() {
            self.wire = Wire::try_tcp(self.port, PATIENCE);
        }
        let reply = self.wire.as_mut().and_then(|wire| wire.try_ask(text));
        if reply.is_none() {
            self.wire = None;
            thread::sleep(Duration::from_millis(20));
        }
        reply
    }

    /// True when a write was acknowledged.
    pub fn write(&mut self, text: &str) -> bool {
        self.ask(text).is_some_and(|told| told.starts_with(':'))
    }

    /// The version that a read gives; `Some(None)`: nothing is there.
    pub fn read(&mut self, text: &str) -> Option<Option<u64>> {
        version(self.ask(text)?.as_str())
    }
}

/// What a bulk string says; `None` when it is an error.
pub fn version(reply: &str) -> Option<Option<u64>> {
    match reply {
        "$-1\r\n" | "_\r\n" => Some(None),
        bulk if bulk.starts_with('$') => Some(Some(bulk.lines().nth(1)?.parse().ok()?)),
        _ => None,
    }
}

/// A writer by SQL that connects again when it must.
#[derive(Default)]
pub struct Sql(Option<Session>);

impl Sql {
    /// True when the statement was committed.
    pub fn run(&mut self, attack: &Attack, sql: &str) -> bool {
        let is_done = self.0.get_or_insert_with(|| attack.world.postgres().session()).try_run(sql);
        if !is_done {
            self.0 = None;
        }
        is_done
    }
}
