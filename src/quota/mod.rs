//! What one user, or one mapping, may take from all others: how many commands or loads in a second, and how many loads
//! at the same time. Pure but for the counts that all threads share; it knows neither clients nor the store.

mod asker;
mod bucket;
mod gate;

use std::sync::{Arc, Mutex, PoisonError};

pub use asker::{Asker, Places};
pub use gate::Place;

use bucket::Bucket;
use gate::Gate;

use crate::config::{MappingConfig, Rate, UserConfig};
use crate::errors;
use crate::telemetry::LogThrottle;
use crate::telemetry::clock::Tick;
use crate::telemetry::metrics::LimitMetrics;

/// What a block of the configuration allows; what is not given has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    rate: Option<Rate>,
    burst: Option<u32>,
    loads: Option<u32>,
}

impl Allowance {
    /// Of a `[[users]]` block.
    #[must_use]
    pub const fn of_user(block: &UserConfig) -> Self {
        Self { rate: block.rate, burst: block.burst, loads: block.loads }
    }

    /// Of a `[[caches]]` block.
    #[must_use]
    pub const fn of_mapping(block: &MappingConfig) -> Self {
        Self { rate: block.load_rate, burst: block.load_burst, loads: block.loads }
    }

    /// The limits that are given.
    pub fn limits(&self) -> impl Iterator<Item = Limit> {
        let given = [(Limit::Rate, self.rate.is_some()), (Limit::Loads, self.loads.is_some())];
        given.into_iter().filter_map(|(limit, is_given)| is_given.then_some(limit))
    }
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So many in a second.
    Rate,
    /// So many loads at the same time.
    Loads,
}

/// Whose limits they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A user's, whose `rate` is of commands.
    User,
    /// A mapping's, whose `load_rate` is of loads.
    Mapping,
}

impl Whose {
    /// The setting of a limit.
    #[must_use]
    pub const fn setting(self, limit: Limit) -> &'static str {
        match (self, limit) {
            (Self::User, Limit::Rate) => "rate",
            (Self::Mapping, Limit::Rate) => "load_rate",
            (_, Limit::Loads) => "loads",
        }
    }
}

/// What one user or mapping may take, and what of it is taken. A reload changes the first and keeps the second.
#[derive(Debug)]
pub struct Quota {
    whose: Whose,
    name: String,
    allowance: Mutex<Allowance>,
    rate: Bucket,
    loads: Gate,
    logged: LogThrottle,
}

impl Quota {
    /// Nothing of it is taken yet.
    #[must_use]
    pub fn new(whose: Whose, name: &str, allowance: Allowance) -> Self {
        let quota = Self {
            whose,
            name: name.to_owned(),
            allowance: Mutex::default(),
            rate: Bucket::default(),
            loads: Gate::default(),
            logged: LogThrottle::default(),
        };
        quota.allow(allowance);
        quota
    }

    /// Allows this from now on; a bucket whose size changes is full.
    pub fn allow(&self, allowance: Allowance) {
        let before = std::mem::replace(&mut *self.lock(), allowance);
        if (before.rate, before.burst) != (allowance.rate, allowance.burst) {
            self.rate.resize(allowance.rate, allowance.burst);
        }
        self.loads.widen(allowance.loads);
    }

    /// The user's name or the mapping's pattern.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it allows.
    #[must_use]
    pub fn allowance(&self) -> Allowance {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Allowance> {
        self.allowance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when there is a rate to be kept.
    #[inline]
    #[must_use]
    pub fn has_rate(&self) -> bool {
        self.rate.is_limited()
    }

    /// Counts one command or load.
    ///
    /// # Errors
    /// It comes too fast, and is not counted.
    pub fn take(self: &Arc<Self>, now: Tick) -> Result<(), Refused> {
        if self.rate.take(now) { Ok(()) } else { Err(self.refused(Limit::Rate)) }
    }

    /// Counts what is under way already, even beyond what is allowed: it is missing afterwards.
    pub fn spend(&self, now: Tick, count: u64) {
        self.rate.spend(now, count);
    }

    fn refused(self: &Arc<Self>, limit: Limit) -> Refused {
        Refused { quota: self.clone(), limit, is_counted: false }
    }
}

/// A limit that was reached.
#[derive(Clone, Debug)]
pub struct Refused {
    quota: Arc<Quota>,
    limit: Limit,
    /// Its command has been counted.
    is_counted: bool,
}

impl Refused {
    /// The same for another load of a command that is refused.
    fn again(&self) -> Self {
        Self { is_counted: true, ..self.clone() }
    }

    /// Counts it, logs it now and then, and gives what the client is answered.
    #[must_use]
    pub fn told(&self, metrics: &LimitMetrics) -> String {
        if self.is_counted {
            return self.text();
        }
        let (name, limit, due) = (self.name(), self.setting(), self.quota.logged.due());
        match self.quota.whose {
            Whose::User => {
                metrics.of_user(name, limit).inc();
                due.into_iter().for_each(|unlogged| {
                    tracing::warn!(user = name, limit, unlogged, "a user's limit is reached; what is over is refused");
                });
            }
            Whose::Mapping => {
                metrics.of_mapping(name, limit).inc();
                due.into_iter().for_each(|unlogged| {
                    tracing::warn!(
                        mapping = name,
                        limit,
                        unlogged,
                        "a mapping's limit is reached; loads that are over are refused"
                    );
                });
            }
        }
        self.text()
    }

    /// The user's name or the mapping's pattern.
    fn name(&self) -> &str {
        &self.quota.name
    }

    /// The setting of the limit.
    fn setting(&self) -> &'static str {
        self.quota.whose.setting(self.limit)
    }

    fn text(&self) -> String {
        let (name, Allowance { rate, loads, .. }) = (self.name(), self.quota.allowance());
        let rate = rate.map_or_else(String::new, |rate| rate.to_string());
        let loads = loads.unwrap_or_default();
        match (self.quota.whose, self.limit) {
            (Whose::User, Limit::Rate) => errors::limits::user_too_fast(name, &rate),
            (Whose::Mapping, Limit::Rate) => errors::limits::mapping_loads_too_fast(name, &rate),
            (Whose::User, Limit::Loads) => errors::limits::user_loads_too_much(name, loads),
            (Whose::Mapping, Limit::Loads) => errors::limits::mapping_loads_too_much(name, loads),
        }
    }
}
