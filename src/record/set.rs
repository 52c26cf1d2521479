//! SET with all its options, SETEX and PSETEX (`parseExtendedStringArgumentsOrReply`, `getExpireMillisecondsOrReply`).

use super::edit::Condition;
use super::read::{ReadError, integer};
use super::write::{TtlChange, Write};
use crate::command::{Request, Spec};
use crate::telemetry::clock::UnixMs;

/// An expiry in `unit` milliseconds, counted from now or, if `absolute`, from 1970.
pub(super) fn expiry(text: &[u8], unit: i64, absolute: bool, spec: &'static Spec) -> Result<TtlChange, ReadError> {
    let invalid = || ReadError::ExpireTime(&spec.name);
    let time = integer(text)?;
    if time <= 0 {
        return Err(invalid());
    }
    let time = time.checked_mul(unit).ok_or_else(invalid)?;
    let now = UnixMs::now().as_ms();
    if absolute {
        return Ok(TtlChange::Left(time - now));
    }
    time.checked_add(now).map(|_| TtlChange::Left(time)).ok_or_else(invalid)
}

/// The unit in milliseconds of an expiry option, and whether it counts from 1970.
pub(super) fn expiry_option(request: &Request<'_>, at: usize) -> Option<(i64, bool)> {
    [("EX", 1000, false), ("PX", 1, false), ("EXAT", 1000, true), ("PXAT", 1, true)]
        .into_iter()
        .find(|(name, ..)| request.is(at, name))
        .map(|(_, unit, absolute)| (unit, absolute))
}

pub(super) fn set(request: &Request<'_>, spec: &'static Spec) -> Result<Write, ReadError> {
    let (mut condition, mut gives_old, mut life, mut keeps) = (None, false, None, false);
    let mut at = 3;
    while at < request.len() {
        if request.is(at, "NX") && condition != Some(Condition::FieldPresent) {
            condition = Some(Condition::FieldAbsent);
        } else if request.is(at, "XX") && condition != Some(Condition::FieldAbsent) {
            condition = Some(Condition::FieldPresent);
        } else if request.is(at, "GET") {
            gives_old = true;
        } else if request.is(at, "KEEPTTL") && life.is_none() {
            keeps = true;
        } else if let Some(option) = expiry_option(request, at).filter(|_| life.is_none() && !keeps) {
            at += 1;
            if at >= request.len() {
                return Err(ReadError::Syntax);
            }
            life = Some((option, at));
        } else {
            return Err(ReadError::Syntax);
        }
        at += 1;
    }
    let life = match life {
        Some(((unit, absolute), at)) => expiry(request.arg(at), unit, absolute, spec)?,
        None if keeps => TtlChange::Keep,
        None => TtlChange::Persist,
    };
    Ok(Write::value(request.arg(2), condition.unwrap_or(Condition::Always), gives_old, life))
}

pub(super) fn setex(request: &Request<'_>, spec: &'static Spec, unit: i64) -> Result<Write, ReadError> {
    let life = expiry(request.arg(2), unit, false, spec)?;
    Ok(Write::value(request.arg(3), Condition::Always, false, life))
}
