//! How long a command that blocks is told to wait.

use std::time::Duration;

use super::{OwnedRequest, Request};

/// Where a command says how long it waits at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Seconds(usize),
    Milliseconds(usize),
}

impl Request<'_> {
    /// The same command, which has waited for so long already and waits for the rest; `None` if it waits without end,
    /// or if it is not known where it says for how long.
    #[must_use]
    pub fn for_the_rest(&self, waited: Duration) -> Option<OwnedRequest> {
        let place = self.patience()?;
        let (at, is_seconds) = match place {
            Place::Seconds(at) => (at, true),
            Place::Milliseconds(at) => (at, false),
        };
        let told: f64 = std::str::from_utf8(self.arg(at)).ok()?.parse().ok()?;
        let most = Duration::try_from_secs_f64(if is_seconds { told } else { told / 1000.0 }).ok()?;
        if most.is_zero() {
            return None;
        }
        // Nothing at all would be without end.
        let rest = most.saturating_sub(waited).max(Duration::from_millis(1));
        let rest = if is_seconds { format!("{:.3}", rest.as_secs_f64()) } else { rest.as_millis().to_string() };
        let mut words: Vec<Vec<u8>> = self.args_from(0).map(<[u8]>::to_vec).collect();
        *words.get_mut(at)? = rest.into_bytes();
        Some(OwnedRequest::from_words(&words))
    }

    fn patience(&self) -> Option<Place> {
        const LAST: [&str; 6] = ["BLPOP", "BRPOP", "BRPOPLPUSH", "BLMOVE", "BZPOPMIN", "BZPOPMAX"];
        let is_any = |names: &[&str]| names.iter().any(|name| self.is(0, name));
        match () {
            () if is_any(&LAST) => Some(Place::Seconds(self.len() - 1)),
            () if is_any(&["BLMPOP", "BZMPOP"]) => Some(Place::Seconds(1)),
            () if self.is(0, "BZMOVE") => Some(Place::Seconds(4)),
            () if self.is(0, "BLMOVEM") => Some(Place::Seconds(5)),
            () if is_any(&["XREAD", "XREADGROUP"]) => Some(Place::Milliseconds(self.option("BLOCK")? + 1)),
            () => None,
        }
    }

    /// Where an option of XREAD or XREADGROUP stands.
    fn option(&self, name: &str) -> Option<usize> {
        let mut at = 1;
        while at < self.len() && !self.is(at, "STREAMS") {
            if self.is(at, name) {
                return Some(at);
            }
            at += match () {
                () if self.is(at, "GROUP") => 3,
                () if self.is(at, "COUNT") => 2,
                () => 1,
            };
        }
        None
    }

    /// The keys of the streams that a read is to begin with the end of, and the places where it says so. Sent again, it
    /// would begin later.
    #[must_use]
    pub fn beginning_now(&self) -> Vec<(usize, &[u8])> {
        let Some(streams) = self.option_streams().filter(|_| self.is(0, "XREAD")) else { return Vec::new() };
        let count = (self.len() - streams - 1) / 2;
        let keys = streams + 1..=streams + count;
        keys.map(|key| (key + count, self.arg(key))).filter(|(id, _)| self.arg(*id) == b"$").collect()
    }

    fn option_streams(&self) -> Option<usize> {
        (1..self.len()).find(|at| self.is(*at, "STREAMS"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::command::OwnedRequest;

    fn request(line: &str) -> OwnedRequest {
        OwnedRequest::from_words(&line.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    #[test]
    fn a_command_waits_for_what_is_left_of_its_time() {
        let waited = Duration::from_millis(1500);
        for (line, rest) in [
            ("blpop a b 2", Some("blpop a b 0.500")),
            ("BLPOP a 1", Some("BLPOP a 0.001")),
            ("BLPOP a 0", None),
            ("BLPOP a x", None),
            ("BLPOP a -1", None),
            ("BLMPOP 2.5 1 a LEFT", Some("BLMPOP 1.000 1 a LEFT")),
            ("BZMPOP 0 1 a MIN", None),
            ("BZMOVE a b MIN 2 COUNT 3", Some("BZMOVE a b MIN 0.500 COUNT 3")),
            ("BLMOVEM a b LEFT RIGHT 2 COUNT 3 BULK", Some("BLMOVEM a b LEFT RIGHT 0.500 COUNT 3 BULK")),
            ("BLMOVEM a b LEFT RIGHT 0", None),
            ("BLMOVEM a b", None),
            ("XREAD COUNT 1 BLOCK 2000 STREAMS a 0", Some("XREAD COUNT 1 BLOCK 500 STREAMS a 0")),
            ("XREAD COUNT 1 STREAMS BLOCK 0", None),
            ("XREADGROUP GROUP block x BLOCK 1600 STREAMS a >", Some("XREADGROUP GROUP block x BLOCK 100 STREAMS a >")),
            ("WAIT 1 5000", None),
            ("BLPOP", None),
        ] {
            let rewritten = request(line).view().for_the_rest(waited);
            assert_eq!(rewritten.map(|of_it| of_it.bytes()), rest.map(|text| request(text).bytes()), "{line}");
        }
    }

    #[test]
    fn a_read_of_what_is_to_come_begins_when_it_is_sent() {
        let places = |line: &str| request(line).view().beginning_now().iter().map(|(at, _)| *at).collect::<Vec<_>>();
        assert_eq!(places("XREAD BLOCK 0 STREAMS a $"), [5]);
        assert_eq!(places("XREAD COUNT 1 BLOCK 0 STREAMS a b $ $"), [8, 9]);
        assert_eq!(places("XREAD BLOCK 0 STREAMS $ 1-1"), [0_usize; 0]);
        assert_eq!(places("XREAD BLOCK 0 STREAMS"), [0_usize; 0]);
        assert_eq!(request("XREAD BLOCK 0 STREAMS a b 1 $").view().beginning_now(), [(7, &b"b"[..])]);
    }
}
