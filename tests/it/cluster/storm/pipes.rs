//! Pipelines of reads, writes and counts of keys on all nodes.

use super::client::{Client, Told, words};
use super::tale::{Count, Tale};
use super::{Part, pace};
use crate::differential::stream::Dice;

/// What a request asks, and of which key.
enum Wish {
    Set(usize, u64),
    /// It was asked when so many had been sent.
    Get(usize, u64),
    GetAll(Vec<u64>),
    Add(usize),
    AddByScript(usize, String),
    Echo(String),
}

struct Pipes {
    id: usize,
    tales: Vec<Tale>,
    counts: Vec<Count>,
    echoes: u64,
}

const ADD: &str = "return {ARGV[1], redis.call('INCR', KEYS[1])}";

pub fn names(id: usize) -> Vec<String> {
    (0..6).map(|n| format!("pipe:{id}:{n}")).collect()
}

impl Pipes {
    fn wish(&mut self, dice: &mut Dice) -> (Wish, Vec<String>) {
        let at = dice.roll(self.tales.len() as u64) as usize;
        let (tale, count) = (&mut self.tales[at], at % self.counts.len());
        let counted = &self.counts[count].key;
        match dice.roll(8) {
            0..3 => {
                let number = tale.next();
                let request = vec!["SET".to_owned(), tale.key.clone(), tale.value(number)];
                (Wish::Set(at, number), request)
            }
            3 | 4 => (Wish::Get(at, tale.sent()), words(&format!("GET {}", tale.key))),
            5 => {
                let keys = self.tales.iter().map(|tale| tale.key.clone());
                let request = ["MGET".to_owned()].into_iter().chain(keys).collect();
                (Wish::GetAll(self.tales.iter().map(Tale::sent).collect()), request)
            }
            6 if dice.roll(2) == 0 => (Wish::Add(count), words(&format!("INCR {counted}"))),
            kind => {
                self.echoes += 1;
                let echo = format!("echo-{}-{}.", self.id, self.echoes);
                if kind == 6 {
                    let request = ["EVAL", ADD, "1", counted, &echo].map(str::to_owned).to_vec();
                    return (Wish::AddByScript(count, echo), request);
                }
                let request = words(&format!("ECHO {echo}"));
                (Wish::Echo(echo), request)
            }
        }
    }

    fn judge(&mut self, wish: Wish, told: Told, client: &Client<'_>) {
        let weather = client.weather;
        let is_write = matches!(wish, Wish::Set(..) | Wish::Add(_) | Wish::AddByScript(..));
        match (wish, told) {
            (Wish::Add(at) | Wish::AddByScript(at, _), Told::Error(text)) => {
                self.counts[at].is_unclear();
                weather.refused(is_write, &text);
            }
            (_, Told::Error(text)) => weather.refused(is_write, &text),
            (Wish::Set(at, number), Told::Text(text)) if text == "OK" => self.tales[at].is_kept(number, weather),
            (Wish::Get(at, upto), told @ (Told::Text(_) | Told::Nothing)) => {
                self.tales[at].is_read(told.text(), upto, weather);
            }
            (Wish::GetAll(upto), Told::Many(all)) if all.len() == upto.len() => {
                for ((tale, told), upto) in self.tales.iter_mut().zip(all).zip(upto) {
                    tale.is_read(told.text(), upto, weather);
                }
            }
            (Wish::Add(at), Told::Number(number)) => self.counts[at].is_now(number, weather),
            (Wish::AddByScript(at, echo), Told::Many(all)) => match &all[..] {
                [Told::Text(text), Told::Number(number)] if *text == echo => self.counts[at].is_now(*number, weather),
                other => weather.wrong(format!("the script with {echo} is answered {other:?}")),
            },
            (Wish::Echo(echo), Told::Text(text)) if text == echo => {}
            (_, told) => weather.wrong(format!("a request of client {} is answered {told:?}", self.id)),
        }
        weather.is_answered();
    }
}

pub fn run(part: &Part<'_>) {
    let mut client = part.client();
    let mut dice = Dice(part.id as u64 + 1);
    let mut pipes = Pipes {
        id: part.id,
        tales: names(part.id).into_iter().map(Tale::new).collect(),
        counts: (0..2).map(|n| Count::new(format!("count:{}:{n}", part.id))).collect(),
        echoes: 0,
    };
    let mut is_last = false;
    while !is_last {
        // The last one comes when all is well again.
        is_last = part.weather.is_over();
        let wished: Vec<_> = (0..=dice.roll(12)).map(|_| pipes.wish(&mut dice)).collect();
        let (wishes, requests): (Vec<_>, Vec<_>) = wished.into_iter().unzip();
        let mut replies = client.ask(&requests).into_iter();
        for wish in wishes {
            let lost = || Told::Error("the connection was closed".to_owned());
            let told = replies.next().unwrap_or_else(lost);
            pipes.judge(wish, told, &client);
        }
        pace(part);
    }
    for tale in &mut pipes.tales {
        if let Some(told) = client.one(false, &["GET", &tale.key]) {
            tale.is_read(told.text(), tale.sent(), part.weather);
        }
    }
}
