//! The servers that `store.url` names, and which of them is the store: one at a time, for loads, writes, changes and
//! questions alike (decision 0030). Where that one ends, falls silent, or takes another place among the others, all of
//! them are asked what they are, in sessions of their own. Knows no statement of a mapping.
//!
//! Invariants:
//! - a server that fits as well as any other stays the store;
//! - of primaries the one with the newest timeline is taken, and none that is older than one that was the store: it is
//!   an old primary that somebody left running.

mod listed;
mod probe;
mod wanted;

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::options::{self, place};
use super::proof::{self, Proven};
use crate::config::{self, Pooler};
use crate::store::StoreError;
use crate::store::standing::Standing;
use crate::telemetry::planted::is_planted;
use probe::Probed;
use wanted::Wanted;

/// How long a server that comes earlier in the list is waited for when another one fits.
const GRACE: Duration = Duration::from_millis(300);

/// How long it takes until all are asked again while none fits: a moment at first, and then longer and longer. A server
/// that is promoted then is found within the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

const NO_ATTRIBUTES: &str = "store.url names several hosts without target_session_attrs: the first one that answers is \
    the store, also a hot standby, which takes no writes; add target_session_attrs=read-write";

/// The servers.
#[derive(Debug)]
pub(super) struct Hosts {
    named: Vec<PgConnectOptions>,
    wanted: Wanted,
    /// How the one server is reached past what stands between.
    direct: PgConnectOptions,
    settings: config::Store,
    current: AtomicUsize,
    /// The newest timeline of a primary that was the store.
    newest: AtomicU32,
    doubted: Notify,
}

/// A server that can be the store.
#[derive(Debug)]
pub(super) struct Server {
    at: usize,
    timeline: Option<u32>,
    pub(super) options: PgConnectOptions,
    pub(super) direct: PgConnectOptions,
    pub(super) proven: Proven,
}

impl Hosts {
    /// What the settings name. Nobody is asked.
    ///
    /// # Errors
    /// [`StoreError::Refused`], with the setting.
    pub(super) fn read(settings: &config::Store) -> Result<Self, (&'static str, StoreError)> {
        let listed = listed::read(&settings.url).map_err(|error| ("store.url", error))?;
        let of_feed = listed::read(&settings.feed_url).map_err(|error| ("store.feed_url", error))?;
        if of_feed.urls.len() > 1 || of_feed.wanted != Wanted::Any {
            return Err(("store.feed_url", lonely("names several hosts, and must lead to one server")));
        }
        let read = |url: &String| options::read(url, settings).map_err(|error| ("store.url", error));
        let mut named = listed.urls.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let first = listed.urls.first().map_or(settings.url.as_str(), String::as_str);
        let direct = options::read_direct(first, settings).map_err(|error| ("store.feed_url", error))?;
        if listed.is_random {
            fastrand::shuffle(&mut named);
        }
        let hosts = Self {
            named,
            wanted: listed.wanted,
            direct,
            settings: settings.clone(),
            current: AtomicUsize::new(0),
            newest: AtomicU32::new(0),
            doubted: Notify::new(),
        };
        if hosts.are_followed() && !(settings.feed_url.is_empty() && settings.pooler == Pooler::None) {
            return Err((
                "store.url",
                lonely("several hosts are followed only without store.pooler and store.feed_url"),
            ));
        }
        Ok(hosts)
    }

    /// The hot standbys of `store.read_url`, if it names any. Sessions there are ours.
    ///
    /// # Errors
    /// As [`Hosts::read`].
    pub(super) fn of_replicas(settings: &config::Store) -> Result<Option<Self>, (&'static str, StoreError)> {
        if settings.read_url.is_empty() {
            return Ok(None);
        }
        let (url, feed_url, pooler) = (settings.read_url.clone(), String::new(), Pooler::None);
        let hosts = Self::read(&config::Store { url, feed_url, pooler, ..settings.clone() });
        let hosts = hosts.map_err(|(_, error)| ("store.read_url", error))?;
        match hosts.wanted {
            Wanted::ReadWrite | Wanted::Primary => {
                let text = "leads to hot standbys: target_session_attrs can be standby there, and need not be said";
                Err(("store.read_url", StoreError::Refused(text.into())))
            }
            _ => Ok(Some(Self { wanted: Wanted::Standby, ..hosts })),
        }
    }

    /// Whether another server may become the store.
    pub(super) fn are_followed(&self) -> bool {
        self.named.len() > 1 || self.wanted != Wanted::Any
    }

    /// What an operator should know of the list.
    pub(super) fn doubt_about_list(&self) -> Option<&'static str> {
        (self.named.len() > 1 && self.wanted == Wanted::Any).then_some(NO_ATTRIBUTES)
    }

    /// The server that is the store may not be the one that is wanted any more.
    pub(super) fn doubt(&self) {
        if self.are_followed() {
            self.doubted.notify_one();
        }
    }

    /// Whether a server that takes this may be the store.
    pub(super) fn fits(&self, standing: Standing) -> bool {
        self.wanted.rank(standing).is_some()
    }

    /// The server that fits best now.
    ///
    /// # Errors
    /// Where there is one server, what is wrong with it; else [`StoreError::Unavailable`], or
    /// [`StoreError::Refused`] where all of them refuse.
    pub(super) async fn find(&self) -> Result<Server, StoreError> {
        if let ([only], false) = (&self.named[..], self.are_followed()) {
            let proven = proof::prove(only, &self.direct, &self.settings).await?;
            let (options, direct) = (only.clone(), self.direct.clone());
            return Ok(Server { at: 0, timeline: None, options, direct, proven });
        }
        let mut probed = self.probe_all().await;
        let timelines = probed.iter().filter_map(|(_, answer)| answer.as_ref().ok()?.timeline);
        let newest = timelines.fold(self.newest.load(SeqCst), u32::max);
        let rank = |(at, answer): &(usize, Result<Probed, StoreError>)| self.rank(*at, answer.as_ref().ok()?, newest);
        let best = probed.iter().filter_map(|one| Some((rank(one)?, one.0))).min();
        let Some((_, best)) = best else { return Err(self.none_fits(&mut probed)) };
        let (_, answer) = probed.swap_remove(probed.iter().position(|(at, _)| *at == best).unwrap_or(0));
        let Probed { proven, timeline } = answer?;
        let options = self.named.get(best).cloned().unwrap_or_default();
        Ok(Server { at: best, timeline, direct: options.clone(), options, proven })
    }

    /// Waits until another server is to be the store.
    pub(super) async fn another(&self) -> Server {
        loop {
            self.doubted.notified().await;
            let mut pause = FIRST_PAUSE;
            loop {
                match self.find().await {
                    Ok(server) if server.at != self.current.load(SeqCst) => return server,
                    Ok(_) => break,
                    Err(why) => tracing::debug!(%why, "none of the servers of store.url can be the store"),
                }
                tokio::time::sleep(pause).await;
                pause = longer(pause);
            }
        }
    }

    /// This one is the store from now on.
    pub(super) fn take(&self, server: &Server) {
        self.current.store(server.at, SeqCst);
        self.newest.fetch_max(server.timeline.unwrap_or_default(), SeqCst);
    }

    /// What all servers are. Where one fits, the others are not waited for much longer.
    async fn probe_all(&self) -> Vec<(usize, Result<Probed, StoreError>)> {
        let probe = async |(at, options)| (at, probe::probe(options, &self.settings, self.wanted).await);
        let mut probes: FuturesUnordered<_> = self.named.iter().enumerate().map(probe).collect();
        let (mut probed, mut until) = (Vec::new(), None);
        while let Some(one) = before(until, probes.next()).await {
            let fits = one.1.as_ref().is_ok_and(|answer| self.wanted.rank(answer.proven.standing) == Some(0));
            until = until.or(fits.then(|| Instant::now() + GRACE));
            probed.push(one);
        }
        probed
    }

    /// How a server compares with the others that fit: less is better.
    fn rank(&self, at: usize, probed: &Probed, newest: u32) -> Option<(u8, bool, usize)> {
        let rank = self.wanted.rank(probed.proven.standing)?;
        let is_older = probed.timeline.is_some_and(|timeline| timeline < newest);
        (!is_older || is_planted("old-primary-taken")).then(|| (rank, at != self.current.load(SeqCst), at))
    }

    fn none_fits(&self, probed: &mut [(usize, Result<Probed, StoreError>)]) -> StoreError {
        probed.sort_by_key(|(at, _)| *at);
        let line = |(at, answer): &(usize, Result<Probed, StoreError>)| match answer {
            Ok(probed) => {
                let place = self.named.get(*at).map(place).unwrap_or_default();
                let old = "its timeline is older than that of a server that was the store: an old primary";
                format!("{place}: {}", if self.fits(probed.proven.standing) { old } else { probed.is() })
            }
            Err(StoreError::Unavailable(why) | StoreError::Refused(why)) => why.clone(),
            Err(error) => error.to_string(),
        };
        let each = probed.iter().map(line).collect::<Vec<_>>().join("; ");
        let text = format!("none of its hosts is what target_session_attrs={} asks for: {each}", self.wanted.word());
        match probed.iter().all(|(_, answer)| matches!(answer, Err(StoreError::Refused(_)))) {
            true => StoreError::Refused(text),
            false => StoreError::Unavailable(text),
        }
    }
}

/// The pause after this one.
fn longer(pause: Duration) -> Duration {
    (pause + pause / 2).min(LONGEST_PAUSE)
}

/// What a future gives, if it does before then.
async fn before<T>(until: Option<Instant>, future: impl Future<Output = Option<T>>) -> Option<T> {
    match until {
        Some(until) => tokio::time::timeout_at(until, future).await.unwrap_or(None),
        None => future.await,
    }
}

fn lonely(text: &str) -> StoreError {
    StoreError::Refused(format!("{text}: let what stands between follow the primary"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{FIRST_PAUSE, LONGEST_PAUSE, longer};

    #[test]
    fn while_none_fits_they_are_asked_less_and_less_often_up_to_a_bound() {
        let pauses: Vec<Duration> =
            std::iter::successors(Some(FIRST_PAUSE), |pause| Some(longer(*pause))).take(9).collect();
        assert!(pauses.is_sorted() && pauses.last() == Some(&LONGEST_PAUSE));
        assert!(pauses.iter().take(3).sum::<Duration>() <= Duration::from_secs(1), "soon after a loss");
    }
}
