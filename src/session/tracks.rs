//! What a client keeps of owned keys (CLIENT TRACKING): how it tracks, as the upstream has accepted it, and which of
//! its requests it tracks. The upstream tells it of pass-through keys, and answers for the state as a whole.

use std::sync::Arc;

use bytes::Bytes;

use super::Session;
use crate::clients::{Registry, Told};
use crate::command::Request;
use crate::resp::number::parse_i64;
use crate::tracking::{Manner, Reader, Tracking};

/// How a client tracks. It does not any more when this is dropped.
#[derive(Debug)]
pub struct Tracks {
    reader: Arc<Reader>,
    told: Arc<Told>,
    prefixes: Option<Vec<Bytes>>,
    /// Only what is read behind CLIENT CACHING YES.
    opts_in: bool,
    /// All but what is read behind CLIENT CACHING NO.
    opts_out: bool,
    /// CLIENT CACHING has been said of the next request, or of the transaction that begins with it.
    is_said: bool,
    /// The request that is being answered is tracked.
    is_reading: bool,
}

impl Drop for Tracks {
    fn drop(&mut self) {
        self.reader.leaves();
    }
}

/// What a request of CLIENT TRACKING ON says.
#[derive(Default)]
struct Options {
    broadcasts: bool,
    prefixes: Vec<Bytes>,
    opts_in: bool,
    opts_out: bool,
    is_own_untold: bool,
    redirect: Option<u64>,
}

impl Options {
    fn of(request: &Request<'_>) -> Self {
        let (mut options, mut at) = (Self::default(), 3);
        while at < request.len() {
            match () {
                () if request.is(at, "BCAST") => options.broadcasts = true,
                () if request.is(at, "OPTIN") => options.opts_in = true,
                () if request.is(at, "OPTOUT") => options.opts_out = true,
                () if request.is(at, "NOLOOP") => options.is_own_untold = true,
                () if request.is(at, "PREFIX") => {
                    at += 1;
                    options.prefixes.push(Bytes::copy_from_slice(request.arg(at)));
                }
                () if request.is(at, "REDIRECT") => {
                    at += 1;
                    let id = parse_i64(request.arg(at)).and_then(|id| u64::try_from(id).ok());
                    options.redirect = id.filter(|id| *id > 0);
                }
                () => {}
            }
            at += 1;
        }
        options
    }
}

impl Session {
    /// The upstream has accepted a command that changes what it keeps for the client's connection.
    pub fn accept(&mut self, request: &Request<'_>, tracking: &Arc<Tracking>, clients: &Arc<Registry>) {
        self.way.accept(request);
        match () {
            () if request.is(1, "TRACKING") && request.is(2, "ON") => self.track(request, tracking, clients),
            () if request.is(1, "TRACKING") => self.tracks = None,
            () if request.is(1, "CACHING") => {
                if let Some(tracks) = &mut self.tracks {
                    tracks.is_said = true;
                }
            }
            () => {}
        }
    }

    fn track(&mut self, request: &Request<'_>, tracking: &Arc<Tracking>, clients: &Arc<Registry>) {
        let options = Options::of(request);
        let before = self.tracks.as_mut().and_then(|tracks| tracks.prefixes.take()).unwrap_or_default();
        let prefixes = options.broadcasts.then(|| {
            let mut all = before;
            // As in Redis, one that names none is about all keys, whatever was named before.
            if options.prefixes.is_empty() {
                all.push(Bytes::new());
            }
            all.extend(options.prefixes);
            all.sort_unstable();
            all.dedup();
            all
        });
        let manner = Manner { client: self.peer.id, is_own_untold: options.is_own_untold, prefixes: prefixes.clone() };
        let tracks = match self.tracks.take() {
            Some(tracks) => {
                tracks.reader.changes(manner);
                tracks.told.redirect(options.redirect);
                tracks
            }
            None => {
                let told = Arc::new(Told::new(self.peer.clone(), clients.clone(), options.redirect));
                let reader = tracking.enter(told.clone(), manner);
                Box::new(Tracks {
                    reader,
                    told,
                    prefixes: None,
                    opts_in: false,
                    opts_out: false,
                    is_said: false,
                    is_reading: false,
                })
            }
        };
        let (opts_in, opts_out) = (options.opts_in, options.opts_out);
        let mut tracks = tracks;
        (tracks.prefixes, tracks.opts_in, tracks.opts_out) = (prefixes, opts_in, opts_out);
        self.tracks = Some(tracks);
    }

    /// The client as one that reads, while a request of it is answered that it tracks.
    #[inline]
    #[must_use]
    pub fn reader(&self) -> Option<&Arc<Reader>> {
        self.tracks.as_ref().filter(|tracks| tracks.is_reading).map(|tracks| &tracks.reader)
    }

    /// The client as one that reads, if it tracks what it reads now.
    #[must_use]
    pub fn tracking_reader(&self) -> Option<Arc<Reader>> {
        self.tracks.as_ref().filter(|tracks| tracks.is_kept()).map(|tracks| tracks.reader.clone())
    }

    /// True while it tracks.
    #[inline]
    #[must_use]
    pub const fn is_tracking(&self) -> bool {
        self.tracks.is_some()
    }

    /// Forgets how it tracked, if it does not any more.
    pub fn follow_tracking(&mut self) {
        if !self.way.state().tracking {
            self.tracks = None;
        }
    }

    /// The request that is being answered is tracked, or is not any more.
    pub fn set_reading(&mut self, is_reading: bool) {
        if let Some(tracks) = &mut self.tracks {
            tracks.is_reading = is_reading;
        }
    }

    /// CLIENT CACHING has been said of the client's next request.
    #[inline]
    #[must_use]
    pub fn has_said_caching(&self) -> bool {
        self.tracks.as_ref().is_some_and(|tracks| tracks.is_said)
    }

    /// That is over. True if it was said.
    pub fn forget_said(&mut self) -> bool {
        self.tracks.as_mut().is_some_and(|tracks| std::mem::take(&mut tracks.is_said))
    }

    /// The client, or the one that it has named, is told to forget all owned keys.
    pub fn forgets_all_owned(&self) {
        if let Some(tracks) = &self.tracks {
            tracks.reader.forgets_all();
        }
    }
}

impl Tracks {
    /// The client keeps what it reads now.
    const fn is_kept(&self) -> bool {
        match (self.opts_in, self.opts_out) {
            (true, _) => self.is_said,
            (_, true) => !self.is_said,
            _ => true,
        }
    }
}
