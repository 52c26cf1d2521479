//! One load per key, however many readers come at once (C4), counted by Postgres in a moment of calm.

use std::sync::Barrier;
use std::thread;

use super::Attack;
use super::client::Client;
use super::history::Violation;
use super::world::SIDECARS;
use crate::support::admin::metric;
use crate::support::postgres::calls;

const READERS: usize = 16;

/// Sends readers of keys that nobody has read before.
pub fn rush(attack: &Attack, number: usize) {
    let i = number % SIDECARS;
    let loads = || attack.world.postgres().try_sql(&calls("%AS still%")).ok()?.parse::<u64>().ok();
    let gaps = || attack.world.with(i, |sidecar| metric(sidecar, "hearthside_gaps_total"));
    let (Some(loads_before), Some(gaps_before)) = (loads(), gaps()) else { return };
    let barrier = Barrier::new(READERS);
    let answers: Vec<Option<String>> = thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::of_each(attack).swap_remove(i);
                    client.ask("PING");
                    barrier.wait();
                    client.ask(&format!("GET still:{number}"))
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().expect("a reader")).collect()
    });
    let (Some(loads), Some(gaps)) = (loads(), gaps()) else { return };
    let expected = Some(format!("${}\r\n{number}\r\n", number.to_string().len()));
    // After a gap a load begins again, and a reader whose sidecar was away has no answer.
    if gaps == gaps_before && answers.iter().all(|answer| *answer == expected) && loads != loads_before + 1 {
        let what = format!("{READERS} readers of one key caused {} loads", loads - loads_before);
        attack.saw(&format!("still:{number}"), Some(Violation { clause: "C4", what }));
    }
}
