//! Clients who read what they have written, while the mode of their keys' mapping changes.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use super::place::NOTES;
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::Wire;

const CLIENTS: usize = 6;

/// In each round each client has a key of its own, from `first` on, and goes through all `modes` with it; what it asks
/// beside its reads and writes is given the key and how often it has asked. Nobody writes while the last mode is asked
/// for: what one side has then the other one has not, and the next round is about other keys.
pub(super) fn reads_what_it_wrote(
    sidecar: &Sidecar,
    (rounds, first): (usize, usize),
    modes: &[&str],
    beside: impl Fn(&mut Wire, &str, usize) + Sync,
) {
    let (round, stop) = (RwLock::new(0_usize), AtomicBool::new(false));
    let done: [AtomicUsize; CLIENTS] = Default::default();
    let client = |id: usize, mut wire: Wire| {
        let (mut number, mut last) = (0_usize, None);
        while !stop.load(SeqCst) {
            let round = round.read().expect("the round");
            let key = format!("note:{}", first + *round * CLIENTS + id);
            match &last {
                Some((before, told)) if before == &*round => {
                    assert_eq!(wire.ask(&format!("HGET {key} text")), *told, "{key}");
                }
                _ => number = 0,
            }
            number += 1;
            beside(&mut wire, &key, number);
            let (text, told) = (format!("{id}x{number:06}"), format!("$8\r\n{id}x{number:06}\r\n"));
            assert!(wire.ask(&format!("HSET {key} text {text}")).starts_with(':'));
            assert_eq!(wire.ask(&format!("HGET {key} text")), told, "{key}");
            last = Some((*round, told));
            done[id].fetch_add(1, SeqCst);
        }
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|id| {
                let wire = sidecar.wire();
                scope.spawn(move || client(id, wire))
            })
            .collect();
        let goes_on = || {
            // Each of them: a key that nobody has written in a mode may be at the other side.
            let before = done.each_ref().map(|one| one.load(SeqCst));
            until("clients go on", || done.iter().zip(before).all(|(one, before)| one.load(SeqCst) >= before + 3));
        };
        let ask = |mode: &str| {
            let told = sidecar.wire().ask(&format!("HEARTHSIDE MODE {NOTES} {mode}"));
            assert!(told.starts_with('*'), "{told}");
        };
        let (last, others) = modes.split_last().expect("a mode");
        for _ in 0..rounds {
            for mode in others {
                goes_on();
                ask(mode);
            }
            goes_on();
            let mut next = round.write().expect("the round");
            ask(last);
            *next += 1;
        }
        stop.store(true, SeqCst);
        clients.into_iter().for_each(|client| client.join().expect("a client without a wrong reply"));
    });
}
