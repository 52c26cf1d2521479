//! Definitions: a command sees one version of all of them, and a file that cannot be read changes nothing (C6).

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use hearthside::resp::reply::elements;

use super::Attack;
use super::client::{Client, version};
use super::history::{History, Via, Violation, What};
use super::world::{PLACES, SIDECARS};
use crate::differential::stream::Dice;
use crate::support::admin::metric;

pub struct Places {
    pub histories: Vec<History>,
}

impl Places {
    pub fn new() -> Self {
        Self { histories: (0..SIDECARS).map(|_| History::default()).collect() }
    }
}

/// The file in which every definition says `version`.
pub fn file_of(version: u64) -> String {
    let all: Vec<String> = (0..PLACES).map(|i| format!("\"{i}\": \"{version}\"")).collect();
    format!("{{{}}}", all.join(", "))
}

fn replace(path: &PathBuf, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).expect("written");
    fs::rename(beside, path).expect("renamed");
}

fn every_place() -> String {
    (0..PLACES).fold("MGET".to_owned(), |request, i| format!("{request} place:{i}"))
}

/// The versions that one command sees; `None` when it failed.
fn seen(client: &mut Client) -> Option<Vec<u64>> {
    let reply = client.ask(&every_place())?;
    elements(reply.as_bytes())?.iter().map(|element| version(std::str::from_utf8(element).ok()?)?).collect()
}

/// Writes new files, and now and then one that is broken; a version counts when it has been seen.
pub fn write(attack: &Attack, mut dice: Dice) {
    let mut clients = Client::of_each(attack);
    while attack.goes_on() {
        thread::sleep(Duration::from_millis(100 + dice.roll(300)));
        let i = dice.roll(SIDECARS as u64) as usize;
        let (history, path) = (&attack.places.histories[i], attack.world.places(i));
        if dice.roll(4) == 0 {
            break_for_a_moment(attack, i, &mut clients[i], &path);
            continue;
        }
        let (version, begun) = (history.issue(What::Value), Instant::now());
        replace(&path, &file_of(version));
        clients[i].ask("HEARTHSIDE RELOAD");
        while begun.elapsed() < Duration::from_secs(3) && attack.goes_on() {
            if seen(&mut clients[i]).is_some_and(|seen| seen[0] == version) {
                history.acknowledge(version, Via::Sidecar(i));
                break;
            }
        }
    }
}

/// The sidecar cannot be killed meanwhile: it would not start.
fn break_for_a_moment(attack: &Attack, i: usize, client: &mut Client, path: &PathBuf) {
    attack.world.with(i, |sidecar| {
        if !sidecar.log().contains("ready for clients") {
            return;
        }
        let failed = || metric(sidecar, "hearthside_reloads_total{outcome=\"error\"}");
        let (good, before, begun) = (fs::read(path).expect("a file"), failed(), Instant::now());
        fs::write(path, "{\"1\": \"999999999\", \"2\"").expect("written");
        client.ask("HEARTHSIDE RELOAD");
        while failed() == before && begun.elapsed() < Duration::from_secs(3) {
            thread::sleep(Duration::from_millis(5));
        }
        fs::write(path, good).expect("written");
    });
}

pub fn read(attack: &Attack, mut dice: Dice) {
    let mut clients = Client::of_each(attack);
    while !attack.is_over() {
        thread::sleep(Duration::from_millis(dice.roll(4)));
        let i = dice.roll(SIDECARS as u64) as usize;
        let history = &attack.places.histories[i];
        let floor = history.floor(i, Duration::MAX);
        let Some(seen) = seen(&mut clients[i]) else { continue };
        let is_one = seen.iter().all(|version| *version == seen[0]);
        let mixed = || Violation { clause: "C6", what: format!("one command saw several versions: {seen:?}") };
        attack.saw("places", if is_one { history.check(floor, Some(seen[0])) } else { Some(mixed()) });
    }
}
