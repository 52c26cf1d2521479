//! Lists from which one connection pops, blocking, what another one pushes.

use super::client::{Client, Told};
use super::tale::Tale;
use super::{Part, pace};

pub fn names(id: usize) -> Vec<String> {
    vec![format!("queue:{id}")]
}

pub fn run(part: &Part<'_>) {
    let (mut pusher, mut popper) = (part.client(), part.client());
    let mut tale = Tale::new(names(part.id).remove(0));
    let mut last = (0, 0);
    while !part.weather.is_over() {
        popper.send(&["BLPOP", &tale.key, "5"]);
        let number = tale.next();
        let value = tale.value(number);
        let pushed = pusher.one(true, &["RPUSH", &tale.key, &value]).is_some();
        // What an earlier pop was not told of may still be there.
        let mut popped = popped(&mut popper, &tale, &mut last, pushed);
        while popped.is_some_and(|popped| popped < number) && !part.weather.is_over() {
            popper.send(&["BLPOP", &tale.key, "0.1"]);
            popped = self::popped(&mut popper, &tale, &mut last, false);
        }
        pace(part);
    }
}

/// The number that was popped; `last` is the one before, and its age.
fn popped(client: &mut Client<'_>, tale: &Tale, last: &mut (u64, u64), must_come: bool) -> Option<u64> {
    let (weather, told) = (client.weather, client.frame()?);
    let (key, age) = (&tale.key, weather.age());
    if let Told::Error(text) = &told {
        weather.refused(true, text);
        return None;
    }
    if told == Told::Nothing {
        if must_come && !weather.may_have_lost(age) {
            weather.wrong(format!("{key}: a pop waited in vain for what was pushed"));
        }
        return None;
    }
    let number = match told.texts()[..] {
        [of, value] if of == key => tale.number(value),
        _ => None,
    };
    match number {
        None => weather.wrong(format!("a pop of {key} is answered {told:?}")),
        Some(number) if number > tale.sent() => weather.wrong(format!("{key}: {number} was never pushed")),
        Some(number) if number <= last.0 && !weather.may_have_lost(last.1) => {
            weather.wrong(format!("{key}: {number} is popped after {}", last.0));
        }
        Some(number) => *last = (number, age),
    }
    weather.is_answered();
    number
}
