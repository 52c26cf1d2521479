//! A reply that is to be kept: what it is of, and what its keys were, is noted before its request is sent.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::memory::Entry;
use super::words::Fence;
use super::{Ground, Near, Read};
use crate::command::{Request, Spec};
use crate::resp::Proto;
use crate::telemetry::clock::Tick;
use crate::telemetry::planted::is_planted;

/// How often the upstream is told at least, in milliseconds, that a key is read which is answered from memory.
pub(super) const TOUCHED_EVERY: u64 = 10_000;

/// A reply on its way from the upstream.
#[derive(Debug)]
pub struct Fill {
    near: Arc<Near>,
    block: usize,
    hash: u64,
    request: Box<[u8]>,
    proto: Proto,
    db: i64,
    fences: Vec<Fence>,
    everything: u64,
    ground: Ground,
    /// How long the blocks of its keys keep it, in milliseconds.
    ttl: u64,
    /// A moment before the request was sent.
    asked: Tick,
    reply: BytesMut,
    is_too_long: bool,
}

impl Near {
    /// The reply to a read that is sent now may be kept, unless a write of its keys is under way, or the upstream
    /// vouches for nothing.
    #[must_use]
    pub fn fill(
        self: &Arc<Self>,
        read: &Read<'_>,
        request: &Request<'_>,
        spec: &Spec,
        (now, ground): (Tick, Ground),
    ) -> Option<Fill> {
        let everything = self.everything.quiet().filter(|_| self.is_vouched(now) && self.is_on(ground))?;
        let (mut fences, mut are_quiet) = (Vec::with_capacity(1), true);
        let mut ttl = self.kept[read.block].block.ttl;
        request.each_key(spec, |at| {
            ttl = self.block_of(request.arg(at)).map_or(ttl, |block| ttl.min(self.kept[block].block.ttl));
            match self.words.fence(request.arg(at)) {
                Some(fence) => fences.push(fence),
                None => are_quiet = false,
            }
        });
        are_quiet.then(|| Fill {
            near: self.clone(),
            block: read.block,
            hash: read.question.hash,
            request: read.question.raw.into(),
            proto: read.question.proto,
            db: read.question.db,
            fences,
            everything,
            ground,
            ttl,
            asked: now,
            reply: BytesMut::new(),
            is_too_long: false,
        })
    }
}

impl Fill {
    /// More of the reply has come.
    pub fn came(&mut self, bytes: &[u8]) {
        let longest = self.near.kept[self.block].memory.longest();
        self.is_too_long |= self.request.len() + self.reply.len() + bytes.len() > longest;
        if self.is_too_long {
            self.reply = BytesMut::new();
        } else {
            self.reply.extend_from_slice(bytes);
        }
    }

    /// The whole reply has come. Its keys end so many milliseconds after it was asked for, if they end; `None` where
    /// that is not known. The upstream is `ground` now.
    pub fn end(self, ends: Option<u64>, ground: Ground) {
        let kept = &self.near.kept[self.block];
        let refuse = |reason: &'static str| kept.counts.refuse(reason);
        let Some(ends) = ends else { return refuse("unknown") };
        match self.reply.first() {
            _ if self.is_too_long => return refuse("long"),
            None | Some(b'-' | b'!') => return refuse("error"),
            Some(_) => {}
        }
        let (everything, fences) = (self.everything, self.fences.clone());
        let is_fenced = !is_planted("near-fill-not-fenced");
        let now = || self.near.everything.now() == everything && fences.iter().all(|f| self.near.words.holds(*f));
        if is_fenced && !(self.ground == ground && self.near.is_on(ground) && now()) {
            return refuse("changed");
        }
        let until = self.asked.plus(self.ttl.min(ends));
        self.keep(until, is_fenced);
    }

    /// It is kept; what has happened to its keys since they were noted makes that it holds no more.
    fn keep(mut self, until: Tick, is_fenced: bool) {
        let (near, memory) = (self.near.clone(), &self.near.kept[self.block].memory);
        if !is_fenced {
            self.everything = near.everything.now();
            self.fences.iter_mut().for_each(|fence| *fence = near.words.renewed(*fence));
        }
        let question = super::Question { hash: self.hash, raw: &self.request, proto: self.proto, db: self.db };
        let reply = Bytes::copy_from_slice(&self.reply);
        if let Some(mut entry) = Entry::of(&question, reply, self.block, &self.fences) {
            (entry.everything, entry.until) = (self.everything, until);
            entry.touch_at.store(self.asked.plus(TOUCHED_EVERY).as_ms(), std::sync::atomic::Ordering::Relaxed);
            memory.put(entry, |entry| near.holds(entry, self.asked));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::BytesMut;

    use super::{Fill, Ground};
    use crate::command::{Request, lookup};
    use crate::config::NearConfig;
    use crate::near::{BELIEVED, Detached, Front, Near};
    use crate::resp::request::RequestScanner;
    use crate::resp::{Proto, encode};
    use crate::telemetry::Metrics;
    use crate::telemetry::clock::Tick;

    const GROUND: Ground = Ground { edition: 1, moves: 0, location: 1 };

    struct Cast {
        near: Arc<Near>,
        front: Front,
        now: Tick,
    }

    impl Cast {
        fn new() -> Self {
            let block = NearConfig { keys: "cfg:*".into(), ..NearConfig::default() };
            let short = NearConfig { keys: "short:*".into(), ttl: Duration::from_millis(10), ..NearConfig::default() };
            let near = Near::new(&[block, short], &Metrics::default().near).expect("a block");
            near.vouch(Tick::from_ms(1000), GROUND);
            Self { front: Front::new(Some(&near)), near, now: Tick::from_ms(1000) }
        }

        fn with<T>(line: &str, of: impl FnOnce(&Request<'_>) -> T) -> T {
            let mut raw = BytesMut::new();
            encode::request(&mut raw, &line.split(' ').collect::<Vec<_>>());
            let mut scanner = RequestScanner::default();
            scanner.scan(&raw).expect("a request");
            of(&Request::new(&raw, scanner.spans()))
        }

        fn begin(&self, line: &str) -> Option<Fill> {
            Self::with(line, |request| {
                let spec = lookup(request.arg(0), b"").expect("a command");
                let read = self.near.read(request, spec, (Proto::Resp2, 0))?;
                self.near.fill(&read, request, spec, (self.now, GROUND))
            })
        }

        fn fill(&self, line: &str) {
            let mut fill = self.begin(line).expect("it may be kept");
            fill.came(b"$1\r\nv\r\n");
            fill.end(Some(u64::MAX), GROUND);
        }

        fn is_kept(&mut self, line: &str) -> bool {
            Self::with(line, |request| {
                let spec = lookup(request.arg(0), b"").expect("a command");
                let read = self.near.read(request, spec, (Proto::Resp2, 0)).expect("a read");
                self.front.find(&self.near, &read, self.now).is_some()
            })
        }

        fn write(&self, line: &str) -> Option<Box<Detached>> {
            Self::with(line, |request| self.near.detach(request, lookup(request.arg(0), b"")))
        }
    }

    #[test]
    fn what_was_read_is_kept_until_it_changes() {
        let mut cast = Cast::new();
        assert!(!cast.is_kept("GET cfg:a"));
        cast.fill("GET cfg:a");
        assert!(cast.is_kept("GET cfg:a") && !cast.is_kept("GET cfg:b") && !cast.is_kept("STRLEN cfg:a"));
        cast.near.changed(b"cfg:a");
        assert!(!cast.is_kept("GET cfg:a"));
    }

    #[test]
    fn a_reply_that_a_change_has_passed_is_not_kept() {
        let mut cast = Cast::new();
        let mut fill = cast.begin("GET cfg:a").expect("it may be kept");
        fill.came(b"$1\r\nv\r\n");
        cast.near.changed(b"cfg:a");
        fill.end(Some(u64::MAX), GROUND);
        assert!(!cast.is_kept("GET cfg:a"));
    }

    #[test]
    fn while_a_write_is_under_way_nothing_of_its_key_is_kept() {
        let mut cast = Cast::new();
        cast.fill("GET cfg:a");
        let before = cast.begin("HGET cfg:a f").expect("it may be kept");
        let written = cast.write("SET cfg:a w");
        assert!(written.is_some() && !cast.is_kept("GET cfg:a") && cast.begin("GET cfg:a").is_none());
        drop(written);
        before.end(Some(u64::MAX), GROUND);
        assert!(!cast.is_kept("HGET cfg:a f") && !cast.is_kept("GET cfg:a"));
        cast.fill("GET cfg:a");
        assert!(cast.is_kept("GET cfg:a"));
        assert!(cast.write("SET other w").is_none() && cast.is_kept("GET cfg:a"));
        drop(cast.write("FLUSHALL").expect("it changes everything"));
        assert!(!cast.is_kept("GET cfg:a"));
    }

    #[test]
    fn several_keys_hold_while_each_of_them_does() {
        let mut cast = Cast::new();
        cast.fill("MGET cfg:a cfg:b");
        assert!(cast.is_kept("MGET cfg:a cfg:b"));
        cast.near.changed(b"cfg:b");
        assert!(!cast.is_kept("MGET cfg:a cfg:b"));
        assert!(cast.begin("MGET cfg:a other").is_none());
    }

    #[test]
    fn keys_of_several_blocks_are_kept_as_long_as_each_of_the_blocks_says() {
        let mut cast = Cast::new();
        for line in ["MGET cfg:a short:a", "MGET short:a cfg:a"] {
            cast.now = Tick::from_ms(1000);
            cast.fill(line);
            cast.now = Tick::from_ms(1009);
            assert!(cast.is_kept(line));
            cast.now = Tick::from_ms(1010);
            assert!(!cast.is_kept(line), "{line}");
        }
    }

    #[test]
    fn nothing_is_answered_that_nobody_has_vouched_for_lately() {
        let mut cast = Cast::new();
        cast.fill("GET cfg:a");
        cast.now = Tick::from_ms(1000 + BELIEVED - 1);
        assert!(cast.is_kept("GET cfg:a"));
        cast.now = Tick::from_ms(1000 + BELIEVED);
        assert!(!cast.is_kept("GET cfg:a") && cast.begin("GET cfg:a").is_none());
        cast.near.gap();
        cast.near.vouch(cast.now, GROUND);
        assert!(!cast.is_kept("GET cfg:a"), "it was kept before a gap");
        cast.fill("GET cfg:a");
        cast.near.close();
        cast.near.vouch(cast.now, GROUND);
        assert!(!cast.is_kept("GET cfg:a") && cast.begin("GET cfg:a").is_none(), "the block is gone");
    }

    #[test]
    fn errors_other_grounds_and_keys_that_end_are_not_kept() {
        let mut cast = Cast::new();
        for (reply, ends, ground) in [
            (&b"-WRONGTYPE x\r\n"[..], Some(u64::MAX), GROUND),
            (b"$1\r\nv\r\n", None, GROUND),
            (b"$1\r\nv\r\n", Some(0), GROUND),
            (b"$1\r\nv\r\n", Some(u64::MAX), Ground { moves: 1, ..GROUND }),
            (&[b'x'; 2 << 20][..], Some(u64::MAX), GROUND),
        ] {
            let mut fill = cast.begin("GET cfg:a").expect("it may be kept");
            fill.came(reply);
            fill.end(ends, ground);
            assert!(!cast.is_kept("GET cfg:a"));
        }
        let long = format!("GET cfg:{}", "x".repeat(2 << 20));
        let mut fill = cast.begin(&long).expect("it may be kept");
        fill.came(b"$-1\r\n");
        fill.end(Some(u64::MAX), GROUND);
        assert!(!cast.is_kept(&long), "its request would be kept, too");
        let mut fill = cast.begin("GET cfg:a").expect("it may be kept");
        fill.came(b"$1\r\nv\r\n");
        fill.end(Some(10), GROUND);
        cast.now = Tick::from_ms(1009);
        assert!(cast.is_kept("GET cfg:a"));
        cast.now = Tick::from_ms(1010);
        assert!(!cast.is_kept("GET cfg:a"));
    }
}
