//! Histories of one key that are judged by a linearizability checker which was not written here (the crate stateright).
//!
//! The contract in its terms: seen through one sidecar, a field is a register, and every command takes effect at one
//! moment between its sending and its answer (C1). A write through the other sidecar takes effect at one moment between
//! its sending and `BOUND` after its answer (C2). A write whose answer does not come takes effect at some moment after
//! its sending, or never. A deferred field is such a register through the key's own sidecar.
//!
//! Sources: Herlihy and Wing, "Linearizability: a correctness condition for concurrent objects" (1990); for the bound,
//! Golab, Li and Shah, "Analyzing consistency properties for fun and profit" (2011).

use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use stateright::semantics::register::{Register, RegisterOp, RegisterRet};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester};

use super::client::{Client, Sql};
use super::history::Violation;
use super::world::SIDECARS;
use super::{Attack, BOUND};
use crate::differential::stream::Dice;

/// Clients of each sidecar, and what each of them asks in one history: the checker looks at every order that may be.
const CLIENTS: usize = 2;
const COMMANDS: u64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Write(u64),
    Read(u64),
}

/// One command of a history.
#[derive(Clone, Copy, Debug)]
struct Command {
    sidecar: usize,
    act: Act,
    begun: Instant,
    /// When its answer came, if it did.
    ended: Option<Instant>,
}

/// A moment at which a command of the history begins or ends.
#[derive(Clone, Copy)]
enum Event {
    Begins,
    Ends,
}

/// True when some order of the commands explains what was seen through a sidecar.
fn is_linearizable(commands: &[Command], sidecar: usize) -> bool {
    let is_seen = |command: &&Command| command.sidecar == sidecar || matches!(command.act, Act::Write(_));
    let mut seen: Vec<Command> = commands.iter().filter(is_seen).copied().collect();
    seen.sort_by_key(|command| command.begun);
    let mut events = Vec::new();
    for (id, command) in seen.iter().enumerate() {
        let late = if command.sidecar == sidecar { Duration::ZERO } else { BOUND };
        events.push((command.begun, id, Event::Begins));
        events.extend(command.ended.map(|ended| (ended + late, id, Event::Ends)));
    }
    events.sort_by_key(|(at, ..)| *at);
    let mut tester = LinearizabilityTester::new(Register(0));
    for (_, id, event) in events {
        let (op, ret) = match seen[id].act {
            Act::Write(value) => (RegisterOp::Write(value), RegisterRet::WriteOk),
            Act::Read(value) => (RegisterOp::Read, RegisterRet::ReadOk(value)),
        };
        let noted = match event {
            Event::Begins => tester.on_invoke(id, op),
            Event::Ends => tester.on_return(id, ret),
        };
        noted.expect("a command ends once, after it began");
    }
    tester.is_consistent()
}

/// What one client asks of a key, and what it saw.
fn ask(client: &mut Client, sidecar: usize, target: &str, mut dice: Dice, next: &Mutex<u64>) -> Vec<Command> {
    let mut commands = Vec::new();
    for _ in 0..COMMANDS {
        thread::sleep(Duration::from_millis(dice.roll(15)));
        let begun = Instant::now();
        let (act, is_answered) = if dice.roll(3) == 0 {
            let value = {
                let mut last = next.lock().expect("a lock");
                *last += 1;
                *last
            };
            (Act::Write(value), client.write(&format!("HSET {target} {value}")))
        } else {
            // What was not answered has seen nothing.
            let Some(Some(value)) = client.read(&format!("HGET {target}")) else { continue };
            (Act::Read(value), true)
        };
        commands.push(Command { sidecar, act, begun, ended: is_answered.then(Instant::now) });
    }
    commands
}

/// Clients of these sidecars, all at once.
fn history(clients: &mut [Client], sidecars: &[usize], target: &str, dice: &mut Dice) -> Vec<Command> {
    let next = Mutex::new(0);
    thread::scope(|scope| {
        let asked: Vec<_> = clients
            .iter_mut()
            .zip(sidecars)
            .map(|(client, sidecar)| {
                let (next, dice) = (&next, Dice(dice.roll(u64::MAX)));
                scope.spawn(move || ask(client, *sidecar, target, dice, next))
            })
            .collect();
        asked.into_iter().flat_map(|asked| asked.join().expect("a client")).collect()
    })
}

/// One history after the other, each of a row of its own.
pub fn run(attack: &Attack, mut dice: Dice) {
    let mut sql = Sql::default();
    let mut clients: Vec<Client> = (0..CLIENTS).flat_map(|_| Client::of_each(attack)).collect();
    let mut row = 0;
    while attack.goes_on() {
        row += 1;
        if !sql.run(attack, &format!("INSERT INTO registers VALUES ({row}, 0, 0);")) {
            continue;
        }
        let (own, is_deferred) = (row % SIDECARS, dice.roll(3) == 0);
        let (field, sidecars): (_, Vec<usize>) = match is_deferred {
            true => ("d", vec![own; CLIENTS * SIDECARS]),
            false => ("v", (0..CLIENTS * SIDECARS).map(|i| i % SIDECARS).collect()),
        };
        // One that changes its sidecar connects again.
        let asking: &mut Vec<Client> = &mut match is_deferred {
            true => (0..CLIENTS).map(|_| Client::of_each(attack).swap_remove(own)).collect(),
            false => std::mem::take(&mut clients),
        };
        let restored = attack.world.restored[own].load(SeqCst);
        let commands = history(asking, &sidecars, &format!("register:{row} {field}"), &mut dice);
        if !is_deferred {
            clients = std::mem::take(asking);
        }
        if is_deferred && attack.world.restored[own].load(SeqCst) != restored {
            // What it acknowledged last may be lost.
            continue;
        }
        for sidecar in if is_deferred { own..own + 1 } else { 0..SIDECARS } {
            let is_right = is_linearizable(&commands, sidecar);
            let violation = || Violation {
                clause: "C1, C2",
                what: format!("through sidecar {sidecar} no order explains {commands:?}"),
            };
            attack.saw(&format!("register:{row} {field}"), (!is_right).then(violation));
        }
        attack.linear.fetch_add(1, SeqCst);
    }
}

#[test]
fn the_checker_of_histories_refuses_what_the_contract_rules_out() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let command = |sidecar, act, begun, ended| Command { sidecar, act, begun: at(begun), ended: Some(at(ended)) };
    let bound = BOUND.as_millis() as u64;
    let written = command(0, Act::Write(1), 0, 10);
    // Through the same sidecar a write shows when it was answered, and not before it was sent.
    assert!(is_linearizable(&[written, command(0, Act::Read(1), 11, 12)], 0));
    assert!(is_linearizable(&[written, command(0, Act::Read(0), 5, 12)], 0));
    assert!(!is_linearizable(&[written, command(0, Act::Read(0), 11, 12)], 0));
    assert!(!is_linearizable(&[command(0, Act::Read(1), 0, 1), command(0, Act::Write(1), 2, 3)], 0));
    // Through another it may take a while, and shows for good then.
    assert!(is_linearizable(&[written, command(1, Act::Read(0), 11, 12)], 1));
    assert!(!is_linearizable(&[written, command(1, Act::Read(0), bound + 11, bound + 12)], 1));
    let back = [command(1, Act::Read(1), 11, 12), command(1, Act::Read(0), 13, 14)];
    assert!(!is_linearizable(&[written, back[0], back[1]], 1));
    let ahead = [written, command(1, Act::Read(1), 9, 20), command(1, Act::Read(0), 21, 22)];
    assert!(!is_linearizable(&ahead, 1), "also when the first was under way while it was written");
    let beside = [written, command(1, Act::Read(1), 9, 20), command(1, Act::Read(0), 19, 22)];
    assert!(is_linearizable(&beside, 1), "two that are under way at once may see either");
    // A write without an answer may never have been made, but is not taken back.
    let lost = Command { ended: None, ..written };
    assert!(is_linearizable(&[lost, command(0, Act::Read(0), 500, 501)], 0));
    assert!(!is_linearizable(&[lost, command(0, Act::Read(1), 5, 6), command(0, Act::Read(0), 7, 8)], 0));
}
