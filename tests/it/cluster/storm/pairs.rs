//! Transactions that write two keys of one slot: they are the same whenever they are read.

use super::client::{Client, Told, words};
use super::tale::Tale;
use super::{Part, pace};

/// Both keys hold what the first one's tale tells.
pub fn names(id: usize) -> Vec<String> {
    ["left", "right"].map(|side| format!("{{pair:{id}}}:{side}")).to_vec()
}

pub fn run(part: &Part<'_>) {
    let mut client = part.client();
    let [left, right] = &names(part.id)[..] else { panic!("two names") };
    let mut tale = Tale::new(left.clone());
    let mut round = 0;
    while !part.weather.is_over() {
        round += 1;
        if round % 3 == 0 {
            read_both(&mut client, &mut tale, right);
        } else {
            write_both(&mut client, &mut tale, right, round % 2 == 0);
        }
        pace(part);
    }
    read_both(&mut client, &mut tale, right);
}

fn read_both(client: &mut Client<'_>, tale: &mut Tale, right: &str) {
    let Some(told) = client.one(false, &["MGET", &tale.key, right]) else { return };
    let Told::Many(both) = told else { return client.weather.wrong(format!("MGET is answered {told:?}")) };
    if both.len() != 2 || both[0] != both[1] {
        client.weather.wrong(format!("half of a transaction is seen: {both:?}"));
    }
    tale.is_read(both[0].text(), tale.sent(), client.weather);
}

fn write_both(client: &mut Client<'_>, tale: &mut Tale, right: &str, watches: bool) {
    let (number, left) = (tale.next(), tale.key.clone());
    let value = tale.value(number);
    let mut requests = if watches { vec![words(&format!("WATCH {left}"))] } else { Vec::new() };
    let texts = ["MULTI".to_owned(), format!("SET {left} {value}"), format!("SET {right} {value}")];
    requests.extend(texts.iter().map(|text| words(text)));
    requests.extend([words(&format!("MGET {left} {right}")), words("EXEC")]);
    let mut replies = client.ask(&requests);
    let weather = client.weather;
    match replies.pop() {
        Some(Told::Many(told)) if replies.len() + 1 == requests.len() => {
            let written = Told::Text(value);
            let ok = || Told::Text("OK".to_owned());
            if told == [ok(), ok(), Told::Many(vec![written.clone(), written])] {
                tale.is_kept(number, weather);
            } else {
                weather.wrong(format!("a transaction of {left} is answered {told:?}"));
            }
        }
        // What was watched was written to by nobody else; but where its connection is another one now, nobody knows.
        Some(Told::Nothing) if watches => weather.refused(true, "EXEC is answered with nothing"),
        Some(Told::Error(text)) => {
            let first = replies.iter().find_map(|told| if let Told::Error(text) = told { Some(text) } else { None });
            weather.refused(true, first.unwrap_or(&text));
        }
        other => weather.wrong(format!("a transaction of {left} is answered {other:?} after {replies:?}")),
    }
    weather.is_answered();
}
