//! Commands that change when a key expires: EXPIRE and related commands, PERSIST and GETEX (`expireGenericCommand`,
//! `persistCommand`, `getexCommand`).

use std::time::Duration;

use super::read::{ReadError, integer};
use super::set::{expiry, expiry_option};
use super::write::TtlChange;
use crate::command::{Request, Spec};
use crate::errors::as_redis;
use crate::telemetry::clock::UnixMs;

/// When a new expiry counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Only {
    absent: bool,
    present: bool,
    greater: bool,
    less: bool,
}

/// What one of these commands asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpireCommand {
    life: Result<TtlChange, ReadError>,
    only: Only,
    /// It answers with the string (GETEX), not with 1 or 0.
    pub gives_value: bool,
}

pub(super) fn expire(
    request: &Request<'_>,
    spec: &'static Spec,
    unit: i64,
    absolute: bool,
) -> Result<ExpireCommand, ReadError> {
    let only = only(request)?;
    let invalid = || ReadError::ExpireTime(&spec.name);
    let (time, now) = (integer(request.arg(2))?.checked_mul(unit).ok_or_else(invalid)?, UnixMs::now().as_ms());
    let left =
        if absolute { time.saturating_sub(now) } else { time.checked_add(now).map(|_| time).ok_or_else(invalid)? };
    Ok(ExpireCommand { life: Ok(TtlChange::Left(left)), only, gives_value: false })
}

pub(super) fn persist(_: &Request<'_>, _: &'static Spec) -> Result<ExpireCommand, ReadError> {
    Ok(ExpireCommand { life: Ok(TtlChange::Persist), only: Only::default(), gives_value: false })
}

pub(super) fn getex(request: &Request<'_>, spec: &'static Spec) -> Result<ExpireCommand, ReadError> {
    let life = match request.len() {
        2 => Ok(TtlChange::Keep),
        3 if request.is(2, "PERSIST") => Ok(TtlChange::Persist),
        4 => {
            let (unit, absolute) = expiry_option(request, 2).ok_or(ReadError::Syntax)?;
            // An error only if there is such a string.
            expiry(request.arg(3), unit, absolute, spec)
        }
        _ => return Err(ReadError::Syntax),
    };
    Ok(ExpireCommand { life, only: Only::default(), gives_value: true })
}

impl ExpireCommand {
    /// What it asks for; nothing if that is no time.
    #[must_use]
    pub fn wanted(&self) -> Option<TtlChange> {
        self.life.as_ref().ok().copied()
    }

    /// What becomes of a key that is there and has `left` to live; `None`: nothing, and the answer is 0.
    ///
    /// # Errors
    /// An invalid expiry, which Redis reports only for a key that exists.
    pub fn of(&self, left: Option<Duration>) -> Result<Option<TtlChange>, ReadError> {
        self.of_left(left.map(|left| i64::try_from(left.as_millis()).unwrap_or(i64::MAX)))
    }

    /// The same, of a record that says how many milliseconds are left; one that has expired has none.
    ///
    /// # Errors
    /// As [`ExpireCommand::of`].
    pub fn of_left(&self, left: Option<i64>) -> Result<Option<TtlChange>, ReadError> {
        let (life, left) = (self.life.clone()?, left.map(|left| left.max(0)));
        Ok(match (life, left) {
            (TtlChange::Persist, None) => None,
            (TtlChange::Left(new), left) => {
                let is_greater = left.is_some_and(|left| new > left);
                let is_less = left.is_none_or(|left| new < left);
                let refused = self.only.absent && left.is_some()
                    || self.only.present && left.is_none()
                    || self.only.greater && !is_greater
                    || self.only.less && !is_less;
                (!refused).then_some(life)
            }
            _ => Some(life),
        })
    }
}

fn only(request: &Request<'_>) -> Result<Only, ReadError> {
    let mut only = Only::default();
    for at in 3..request.len() {
        match () {
            () if request.is(at, "NX") => only.absent = true,
            () if request.is(at, "XX") => only.present = true,
            () if request.is(at, "GT") => only.greater = true,
            () if request.is(at, "LT") => only.less = true,
            () => return Err(ReadError::Option(String::from_utf8_lossy(request.arg(at)).into_owned())),
        }
    }
    match only {
        Only { absent: true, present, greater, less } if present || greater || less => {
            Err(ReadError::Other(as_redis::NX_AND_OTHERS))
        }
        Only { greater: true, less: true, .. } => Err(ReadError::Other(as_redis::GT_AND_LT)),
        only => Ok(only),
    }
}
