//! One owned key as a command sees it, and the commands TYPE, TTL and related ones.

use std::time::Duration;

use bytes::BytesMut;

use super::Record;
use super::read::ReadError;
use crate::command::Request;
use crate::resp::{Proto, encode};
use crate::telemetry::clock::UnixMs;

/// One owned key at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct View<'r> {
    /// The record; `None` when the key is absent.
    pub record: Option<&'r Record>,
    /// The time left; `None` when the key does not expire.
    pub expires_in: Option<Duration>,
}

pub(super) fn type_name(_: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    encode::simple(out, view.record.map_or("none", |record| record.shape().name()));
    Ok(())
}

pub(super) fn ttl(_: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    life(view, out, |left| rounded_seconds(left.as_millis()));
    Ok(())
}

pub(super) fn pttl(_: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    life(view, out, |left| left.as_millis() as i64);
    Ok(())
}

pub(super) fn expiretime(_: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    life(view, out, |left| rounded_seconds(ends_at(left) as u128));
    Ok(())
}

pub(super) fn pexpiretime(_: &Request<'_>, view: &View<'_>, _: Proto, out: &mut BytesMut) -> Result<(), ReadError> {
    life(view, out, ends_at);
    Ok(())
}

/// -2 for an absent key, -1 for one that does not expire, as Redis answers.
fn life(view: &View<'_>, out: &mut BytesMut, show: impl Fn(Duration) -> i64) {
    let answer = match (view.record, view.expires_in) {
        (None, _) => -2,
        (_, None) => -1,
        (_, Some(left)) => show(left),
    };
    encode::int(out, answer);
}

const fn rounded_seconds(milliseconds: u128) -> i64 {
    ((milliseconds + 500) / 1000) as i64
}

/// In milliseconds since 1970.
fn ends_at(left: Duration) -> i64 {
    UnixMs::now().as_ms() + left.as_millis() as i64
}
