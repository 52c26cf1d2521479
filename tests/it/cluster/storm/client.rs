//! A plain client in the storm.

use super::weather::Weather;
use crate::support::wire::{Wire, array};

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Error(String),
    Text(String),
    Number(i64),
    Nothing,
    /// An array, a set, a push message, or the pairs of a map one after the other.
    Many(Vec<Told>),
}

impl Told {
    /// What a whole frame says.
    pub fn of(frame: &[u8]) -> Self {
        let (told, rest) = Self::first(frame);
        assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(frame));
        told
    }

    fn first(bytes: &[u8]) -> (Self, &[u8]) {
        let at = bytes.windows(2).position(|two| two == b"\r\n").expect("a line");
        let (kind, head, rest) = (bytes[0], String::from_utf8_lossy(&bytes[1..at]).into_owned(), &bytes[at + 2..]);
        let count = || head.parse::<i64>().expect("a number");
        match kind {
            b'-' => (Self::Error(head), rest),
            b'_' => (Self::Nothing, rest),
            b':' => (Self::Number(count()), rest),
            b'$' | b'*' if count() < 0 => (Self::Nothing, rest),
            b'$' => {
                let (text, rest) = rest.split_at(count() as usize);
                (Self::Text(String::from_utf8_lossy(text).into_owned()), &rest[2..])
            }
            b'*' | b'~' | b'>' | b'%' => {
                let (mut all, mut rest) = (Vec::new(), rest);
                for _ in 0..count() * if kind == b'%' { 2 } else { 1 } {
                    let (told, more) = Self::first(rest);
                    all.push(told);
                    rest = more;
                }
                (Self::Many(all), rest)
            }
            _ => (Self::Text(head), rest),
        }
    }

    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub fn texts(&self) -> Vec<&str> {
        if let Self::Many(all) = self { all.iter().filter_map(Self::text).collect() } else { Vec::new() }
    }
}

/// A connection that is made again when it was closed, which is noted as wrong.
pub struct Client<'w> {
    pub weather: &'w Weather,
    port: u16,
    is_resp3: bool,
    wire: Wire,
}

impl<'w> Client<'w> {
    /// Every other one speaks RESP3.
    pub fn new(id: usize, port: u16, weather: &'w Weather) -> Self {
        let mut client = Self { weather, port, is_resp3: id % 2 == 1, wire: Wire::tcp(port) };
        client.greet();
        client
    }

    fn greet(&mut self) {
        if self.is_resp3 {
            self.wire.call(&["HELLO", "3"]);
        }
    }

    fn connect_again(&mut self) {
        self.weather.wrong("a connection was closed".to_owned());
        self.wire = Wire::tcp(self.port);
        self.greet();
    }

    /// The next frame, whatever it is.
    pub fn frame(&mut self) -> Option<Told> {
        let frame = self.wire.try_frame();
        if frame.is_none() {
            self.connect_again();
        }
        frame.map(|frame| Told::of(&frame))
    }

    pub fn send<A: AsRef<[u8]>>(&mut self, words: &[A]) {
        if !self.wire.try_send(&array(words)) {
            self.connect_again();
        }
    }

    /// The replies to these requests, which are sent at once; fewer if the connection is closed.
    pub fn ask(&mut self, requests: &[Vec<String>]) -> Vec<Told> {
        let bytes: Vec<u8> = requests.iter().flat_map(|words| array(words)).collect();
        if !self.wire.try_send(&bytes) {
            self.connect_again();
            return Vec::new();
        }
        let mut replies = Vec::new();
        while replies.len() < requests.len() {
            let Some(told) = self.frame() else { break };
            replies.push(told);
        }
        replies
    }

    /// One request; an error is noted, and is no reply.
    pub fn one(&mut self, is_write: bool, words: &[&str]) -> Option<Told> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        match self.ask(&[words]).pop()? {
            Told::Error(text) => {
                self.weather.refused(is_write, &text);
                None
            }
            told => {
                self.weather.is_answered();
                Some(told)
            }
        }
    }
}

/// The words of a request.
pub fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}
