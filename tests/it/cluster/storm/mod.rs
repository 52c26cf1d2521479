//! Many clients while slots move back and forth and masters are failed over, killed and hung: no reply is wrong.

mod aware;
mod client;
mod listeners;
mod pairs;
mod pipes;
mod queues;
mod scanners;
mod tale;
mod weather;

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use self::weather::Weather;
use super::before;
use crate::differential::stream::Dice;
use crate::support::clusters::Cluster;
use crate::support::nodes::{Move, Nodes, slot_of};
use crate::support::setting;

/// One client of the storm.
pub struct Part<'w> {
    id: usize,
    port: u16,
    weather: &'w Weather,
    pace: Duration,
}

impl<'w> Part<'w> {
    fn client(&self) -> client::Client<'w> {
        client::Client::new(self.id, self.port, self.weather)
    }
}

/// All clients together ask about as much, however many they are.
fn pace(part: &Part<'_>) {
    thread::sleep(part.pace);
}

type Play = fn(&Part<'_>);

const PLAYS: [Play; 6] = [pipes::run, pairs::run, pipes::run, queues::run, listeners::run, scanners::run];

/// The keys of all clients whose slots are worth moving.
fn names(clients: usize) -> Vec<String> {
    let of_client = |id: usize| match id % PLAYS.len() {
        0 | 2 => pipes::names(id),
        1 => pairs::names(id),
        3 => queues::names(id),
        4 => vec![format!("channel:{id}")],
        _ => (0..6).map(|n| scanners::name(id + n)).collect(),
    };
    (0..clients).flat_map(of_client).collect()
}

/// Moves slots from master to master while something else is done.
fn while_slots_move(nodes: &Nodes, names: &[String], dice: &mut Dice, act: impl FnOnce()) {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let mover = scope.spawn(|| {
            while !is_done.load(SeqCst) {
                if let Some(on) = begin_one(nodes, names, dice) {
                    nodes.finish_move(on);
                }
            }
        });
        act();
        is_done.store(true, SeqCst);
        mover.join().expect("slots move");
    });
}

/// Some slots of these masters stay half moved while something else is done. They cannot go on moving: each move takes a
/// number that the nodes would have to agree on for a failover.
fn while_half_moved<T>(nodes: &Nodes, names: &[String], dice: &mut Dice, act: impl FnOnce() -> T) -> T {
    let mut moves: Vec<Move> = Vec::new();
    for _ in 0..4 {
        let rests = |key: &&String| moves.iter().all(|begun| begun.slot != slot_of(key));
        let resting: Vec<String> = names.iter().filter(rests).cloned().collect();
        moves.extend(begin_one(nodes, &resting, dice));
    }
    let done = act();
    moves.into_iter().for_each(|on| nodes.finish_move(on));
    done
}

/// Begins to move the slot of one of these keys, and takes this key to where it goes.
fn begin_one(nodes: &Nodes, names: &[String], dice: &mut Dice) -> Option<Move> {
    let (key, masters) = (dice.pick(names), nodes.masters());
    let (slot, to) = (slot_of(key), *dice.pick(&masters));
    let from = nodes.owner_now(slot).filter(|from| *from != to && masters.contains(from))?;
    let on = nodes.begin_move(slot, to);
    assert_eq!(on.from, from);
    thread::sleep(Duration::from_millis(dice.roll(5)));
    nodes.carry(on, &[key]);
    thread::sleep(Duration::from_millis(dice.roll(5)));
    Some(on)
}

/// What became of a command is told by one of these.
const MARKS: &[&str] =
    &["may have been applied", "was not sent", "was lost", "CLUSTERDOWN", "EXECABORT", "EXEC is answered with nothing"];

/// With `HEARTHSIDE_CLUSTER_CLIENTS=200` and `HEARTHSIDE_CLUSTER_SECONDS=300` there are more of them, for longer.
#[test]
fn a_storm_over_a_cluster_leaves_no_wrong_reply() {
    let clients = setting("HEARTHSIDE_CLUSTER_CLIENTS", 18) as usize;
    let time = Duration::from_secs(setting("HEARTHSIDE_CLUSTER_SECONDS", 0));
    let dice = Dice(setting("HEARTHSIDE_SEED", 0x00c1_0572));
    let mut cluster = Cluster::start();
    let sidecar = before(&cluster).set("SERVER__WORKERS", "2").start();
    scanners::prepare(sidecar.port);
    let (weather, direct, names, url) = (Weather::default(), Weather::default(), names(clients), cluster.url());
    let pace = Duration::from_micros(500) * clients as u32;
    thread::scope(|scope| {
        for id in 0..clients {
            let part = Part { id, port: sidecar.port, weather: &weather, pace };
            scope.spawn(move || PLAYS[id % PLAYS.len()](&part));
        }
        for id in 0..clients.div_ceil(6) {
            let (part, direct, url) = (Part { id, port: 0, weather: &weather, pace }, &direct, &url);
            scope.spawn(move || aware::run(&part, url, direct));
        }
        let _end = End(&weather);
        Rage { cluster: &mut cluster, plain: &weather, direct: &direct, names: &names, dice }.go_on(time);
    });
    eprintln!("refused (is a write, why): {:#?}", weather.seen());
    let [(written, lost), (directly, lost_directly)] = [weather.losses(), direct.losses()];
    eprintln!(
        "acknowledged and lost: {written}, {lost}; by clients that know the cluster: {directly}, {lost_directly}"
    );
    weather.judge(Duration::from_secs(1), MARKS);
}

/// Ends the storm when it is dropped.
struct End<'w>(&'w Weather);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.is_over_now();
    }
}

/// What goes on behind the sidecar.
struct Rage<'r> {
    cluster: &'r mut Cluster,
    plain: &'r Weather,
    direct: &'r Weather,
    names: &'r [String],
    dice: Dice,
}

impl Rage<'_> {
    /// Failovers in order, kills and hangs, in turn.
    fn go_on(&mut self, time: Duration) {
        let begun = Instant::now();
        for round in 0.. {
            while_slots_move(&self.cluster.nodes(), self.names, &mut self.dice, || self.plain.go_on(500));
            // Each replica knows what its master has.
            self.cluster.healthy();
            let master = *self.dice.pick(&self.cluster.masters());
            let (plain, direct, kind) = (self.plain, self.direct, round % 3);
            if kind == 0 {
                self.fail_over(master);
            } else {
                plain.losing(|| direct.losing(|| self.strike(master, kind == 1)));
            }
            eprintln!("{:6.1} s: {}", begun.elapsed().as_secs_f64(), ["failed over", "killed", "hung"][kind]);
            if round >= 2 && begun.elapsed() >= time {
                return;
            }
        }
    }

    /// Nothing may be lost, and no read may fail.
    fn fail_over(&mut self, master: u16) {
        let others = self.without(master);
        while_half_moved(&others, self.names, &mut self.dice, || self.cluster.fail_over(master));
        self.cluster.healthy();
    }

    fn strike(&mut self, master: u16, kills: bool) {
        let (key, others, cluster) = (self.cluster.key_of(master), self.without(master), &mut *self.cluster);
        let replaced = || {
            if kills {
                cluster.kill(master)
            } else {
                cluster.hang(master)
            }
            cluster.replaced(&key)
        };
        while_half_moved(&others, self.names, &mut self.dice, || self.plain.gap(replaced));
        self.plain.go_on(500);
        if kills {
            self.cluster.launch(master)
        } else {
            self.cluster.wake(master)
        }
        self.cluster.healthy();
    }

    /// The other masters with their replicas.
    fn without(&self, master: u16) -> Nodes {
        let replicas = self.cluster.replicas_of(master);
        replicas.into_iter().fold(self.cluster.without(master), |nodes, replica| nodes.without(replica))
    }
}
