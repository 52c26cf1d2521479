//! Transactions whose connection upstream is cut after a random number of bytes, in either direction. Each request has
//! one reply; what EXEC says is so, at the upstream and in the store; nothing is done twice; and whoever comes next
//! finds nothing of it. HEARTHSIDE_COMMANDS and HEARTHSIDE_SEED make the run longer, or another.

use crate::differential::stream::Dice;
use crate::support::proxy::{Cut, Proxy};
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::warnings;
use crate::support::wire::{Wire, line};
use crate::support::{setting, until};
use crate::writes::model::on_sqlite;

/// What EXEC has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Done,
    NotDone,
    /// It may have been; `Some` if the store certainly has not.
    Perhaps,
}

/// One transaction, of which every part bears its number.
struct Torn {
    number: usize,
    asked: Vec<String>,
    /// It writes a pass-through key, and an owned one.
    parts: (bool, bool),
    said: Said,
}

impl Torn {
    /// What is asked of transaction `number`.
    fn new(dice: &mut Dice, number: usize) -> Self {
        let mut asked = Vec::new();
        if dice.roll(2) == 0 {
            asked.push(["WATCH w", "WATCH s:none", "WATCH w s:none"][dice.roll(3) as usize].to_owned());
        }
        if dice.roll(3) == 0 {
            asked.push("GET w".to_owned());
        }
        asked.push("MULTI".to_owned());
        let mut parts = (false, false);
        for _ in 0..dice.roll(8) {
            let (text, theirs, ours) = match dice.roll(6) {
                0 => (format!("RPUSH done:{number} x"), true, false),
                1 => (format!("SET last:{number} {}", "v".repeat(dice.roll(300) as usize)), true, false),
                2 => (format!("APPEND s:{number} x"), false, true),
                3 => ("GET s:none".to_owned(), false, false),
                4 => ("SUBSCRIBE c".to_owned(), false, false),
                _ => ("SELECT 0".to_owned(), false, false),
            };
            parts = (parts.0 || theirs, parts.1 || ours);
            asked.push(text);
        }
        asked.push("EXEC".to_owned());
        asked.push("PING".to_owned());
        Self { number, asked, parts, said: Said::NotDone }
    }

    /// Sends it in pieces, and reads a reply for each request, or until it is closed.
    fn run(&mut self, dice: &mut Dice, wire: &mut Wire) -> Option<String> {
        let bytes: Vec<u8> = self.asked.iter().flat_map(|request| line(request)).collect();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let cut = if dice.roll(3) == 0 { rest.len() } else { (dice.roll(60) as usize + 1).min(rest.len()) };
            if !wire.try_send(&rest[..cut]) {
                break;
            }
            rest = &rest[cut..];
        }
        let exec = self.asked.len() - 2;
        for at in 0..self.asked.len() {
            let Some(frame) = wire.try_frame() else {
                self.said = if at <= exec { Said::Perhaps } else { self.said };
                return None;
            };
            let told = String::from_utf8_lossy(&frame).into_owned();
            if at == exec {
                self.said = self.judge(&told);
            } else if at > exec {
                return Some(told);
            } else {
                let is_known = ["+OK\r\n", "+QUEUED\r\n", "$-1\r\n"].contains(&told.as_str())
                    || told.starts_with("-ERR hearthside: the upstream connection ")
                    || told.starts_with("-LOADING hearthside: ");
                assert!(is_known, "{} is answered {told}", self.asked[at]);
            }
        }
        None
    }

    fn judge(&self, told: &str) -> Said {
        let commands = self.asked.iter().skip_while(|request| *request != "MULTI").count() - 3;
        match told {
            _ if told.starts_with(&format!("*{commands}\r\n")) => Said::Done,
            _ if told.contains("may have been applied") => {
                let ours_too = told.contains("its writes to owned keys were not done");
                assert!(ours_too == self.parts.1 || !told.contains("this transaction"), "{told} to {:?}", self.asked);
                Said::Perhaps
            }
            _ if told.starts_with("-EXECABORT") || told.starts_with("-LOADING") => Said::NotDone,
            _ => panic!("EXEC is answered {told} in {:?}", self.asked),
        }
    }

    /// Compares what it was told with what there is.
    fn check(&self, upstream: &mut Wire, through: &mut Wire) {
        let number = self.number;
        let count = |prefix: &str| self.asked.iter().filter(|request| request.starts_with(prefix)).count();
        let (pushes, sets, appends) = (count("RPUSH"), count("SET "), count("APPEND"));
        let pushed = upstream.ask(&format!("LLEN done:{number}"));
        let set = upstream.ask(&format!("EXISTS last:{number}"));
        let appended = through.ask(&format!("STRLEN s:{number}"));
        let all = [format!(":{pushes}\r\n"), format!(":{}\r\n", sets.min(1)), format!(":{appends}\r\n")];
        let (there, none) = ([&pushed, &set], [":0\r\n"; 2]);
        let are_all = there == [&all[0], &all[1]];
        let why = || format!("{:?} but {pushed}{set}{appended} of {:?}", self.said, self.asked);
        match self.said {
            Said::Done => assert!(are_all && appended == all[2], "{}", why()),
            Said::NotDone => assert!(there == none && appended == ":0\r\n", "{}", why()),
            Said::Perhaps => {
                assert!((are_all || there == none) && (appended == ":0\r\n" || appended == all[2]), "{}", why());
            }
        }
    }
}

#[test]
fn a_transaction_that_is_cut_anywhere_is_told_as_it_was() {
    let seed = setting("HEARTHSIDE_SEED", 0x5eed_7042);
    eprintln!("torn: HEARTHSIDE_SEED={seed}");
    let (mut dice, total) = (Dice(seed), setting("HEARTHSIDE_COMMANDS", 50_000) as usize / 1000);
    let redis = Redis::start();
    let (builder, _folder) = on_sqlite(&redis);
    let proxy = Proxy::to(redis.port);
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let builder = builder.set("UPSTREAM__URL", url).set("SERVER__WORKERS", "1");
    let sidecar = builder.expect(warnings::UPSTREAM_AWAY).start();
    let (mut upstream, mut through) = (redis.wire(), sidecar.wire());
    let mut torn = Vec::new();
    for number in 0..total {
        let mut one = Torn::new(&mut dice, number);
        let mut wire = sidecar.wire();
        let of_answers = dice.roll(2) == 0;
        let length: usize = one.asked.iter().map(|request| line(request).len()).sum();
        let after = dice.roll(if of_answers { 150 } else { length as u64 + 60 }) as usize;
        proxy.cut_after(Some(Cut { of_answers, after }));
        let last = one.run(&mut dice, &mut wire);
        proxy.cut_after(None);
        assert!(last.is_none_or(|told| told.contains("PONG") || told.contains("pong")), "{:?}", one.asked);
        finds_nothing(&sidecar, &mut dice);
        torn.push(one);
    }
    // What was on its way has arrived when nobody is connected any more who might have sent it.
    drop(proxy);
    for one in &torn {
        one.check(&mut upstream, &mut through);
    }
    let said = |said| torn.iter().filter(|one| one.said == said).count();
    let counts = [Said::Done, Said::NotDone, Said::Perhaps].map(said);
    eprintln!("torn: done, not done, perhaps: {counts:?}");
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

/// The next client, on whatever connection it is lent.
fn finds_nothing(sidecar: &Sidecar, dice: &mut Dice) {
    let requests = [&["WATCH w", "MULTI", "GET w", "EXEC"][..], &["MULTI", "GET w", "EXEC"]][dice.roll(2) as usize];
    until("the next one is served", || {
        let mut wire = sidecar.wire();
        wire.send(&requests.iter().flat_map(|request| line(request)).collect::<Vec<u8>>());
        let told: Vec<_> = requests.iter().map(|_| String::from_utf8_lossy(&wire.frame()).into_owned()).collect();
        let is_away = told.iter().any(|reply| reply.starts_with('-'));
        assert!(is_away || told.last().is_some_and(|exec| exec == "*1\r\n$-1\r\n"), "{told:?}");
        assert!(told.iter().all(|reply| !reply.contains("nested") && !reply.contains("inside MULTI")), "{told:?}");
        !is_away
    });
}
