//! An import that is killed and run again, while an application reads and writes. HEARTHSIDE_IMPORT_KEYS says how many
//! keys there are: 100,000 is a run of its own.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use super::tables::{Said, Tables};
use crate::differential::stream::Dice;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::wire::Wire;
use crate::support::{setting, until};

/// Sends these commands at once, and waits for their replies.
fn send_all(wire: &mut Wire, commands: impl Iterator<Item = String>) {
    let commands: Vec<String> = commands.collect();
    for some in commands.chunks(1000) {
        wire.send(some.iter().map(|command| format!("{command}\r\n")).collect::<String>().as_bytes());
        for _ in some {
            assert_ne!(wire.frame()[0], b'-');
        }
    }
}

/// Writes keys until it is told to stop; what it has written last of each.
fn application(sidecar: &Sidecar, keys: u64, is_over: &AtomicBool) -> BTreeMap<u64, String> {
    let (mut wire, mut dice, mut written) = (sidecar.wire(), Dice(7), BTreeMap::new());
    for turn in 0.. {
        if is_over.load(Relaxed) {
            break;
        }
        // One of twenty is new.
        let id = 1 + dice.roll(keys + keys / 20);
        let value = format!("app{turn}");
        let reply = wire.ask(&format!("HSET h:{id} f {value}"));
        assert!(reply.starts_with(':'), "{reply}");
        assert_eq!(wire.ask(&format!("HGET h:{id} f")), format!("${}\r\n{value}\r\n", value.len()));
        written.insert(id, value);
    }
    written
}

fn begin(builder: &Builder, folder: &tempfile::TempDir, arguments: &[&str]) -> Child {
    let mut command = builder.command(folder);
    command.arg("import").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
}

fn count(tables: &Tables, table: &str) -> u64 {
    tables.sql(&format!("SELECT count(*) FROM {table}")).parse().expect("a number")
}

/// Kills it when the table has so many rows.
fn kill_at(mut import: Child, tables: &Tables, table: &str, rows: u64) {
    until("some are copied", || count(tables, table) >= rows);
    import.kill().expect("killed");
    let ended = import.wait().expect("it has ended");
    assert!(!ended.success(), "it was not at its end");
}

#[test]
fn keys_are_copied_once_each_by_an_import_that_is_killed_and_run_again() {
    let keys = setting("HEARTHSIDE_IMPORT_KEYS", 10_000);
    let (tables, redis) = (Tables::postgres(), Redis::start());
    send_all(&mut redis.wire(), (1..=keys).map(|id| format!("HSET h:{id} f a{id} n {id} kind b")));
    let builder = tables.builder(&redis.url()).migrated();
    let sidecar = tables.builder(&redis.url()).start();
    let (folder, is_over, begun) = (tempfile::tempdir().expect("a folder"), AtomicBool::new(false), Instant::now());
    let (written, told) = thread::scope(|scope| {
        let application = scope.spawn(|| application(&sidecar, keys, &is_over));
        for part in [4, 2] {
            kill_at(begin(&builder, &folder, &["h:{id:int}"]), &tables, "hashes", keys / part);
        }
        let told: Said = builder.execute(&["import", "h:{id:int}"]).into();
        is_over.store(true, Relaxed);
        (application.join().expect("it ends"), told)
    });
    eprintln!("{} keys in {:?}, three runs:\n{}", keys, begun.elapsed(), told.out);
    told.expect(0, &["refused 0", "vanished 0", "different 0"]);
    let new = written.keys().filter(|id| **id > keys).count() as u64;
    assert!(new > 0 && (written.len() as u64) < keys, "{} written, {new} of them new", written.len());
    assert_eq!(count(&tables, "hashes"), keys + new, "each once");
    let untouched =
        "hashes WHERE f = 'a' || id AND n = id AND kind = 'b' AND more IS NOT DISTINCT FROM '{}' AND ends IS NULL";
    assert_eq!(count(&tables, untouched), keys + new - written.len() as u64);
    let theirs = tables.sql("SELECT id, f FROM hashes WHERE f LIKE 'app%' ORDER BY id");
    let ours: Vec<String> = written.iter().map(|(id, value)| format!("{id}|{value}")).collect();
    assert_eq!(theirs, ours.join("\n"), "what the application has written stays");
    let begun = Instant::now();
    let again: Said = builder.execute(&["import", "h:{id:int}"]).into();
    eprintln!("passed over in {:?}", begun.elapsed());
    again.expect(0, &["copied 0", &format!("there already {keys}")]);
    let compared: Said = builder.execute(&["import", "h:{id:int}", "--verify"]).into();
    let others = written.len() as u64 - new;
    compared.expect(1, &[&format!("compared and equal {}", keys - others), &format!("different {others}")]);
}

#[test]
fn an_element_of_a_list_is_not_pushed_twice() {
    let (tables, redis) = (Tables::postgres(), Redis::start());
    send_all(&mut redis.wire(), (1..=400).map(|id| format!("RPUSH l:{id} x y x")));
    let (builder, folder) = (tables.builder(&redis.url()), tempfile::tempdir().expect("a folder"));
    for rows in [100, 500] {
        kill_at(begin(&builder, &folder, &["l:{id:int}"]), &tables, "elements", rows);
    }
    let told: Said = builder.execute(&["import", "l:{id:int}", "--verify"]).into();
    told.expect(0, &["refused 0", "compared and equal 400", "different 0"]);
    assert_eq!(count(&tables, "elements"), 1200);
}

/// Ctrl-C ends it behind the keys that are under way, with what was done and what to do.
#[test]
fn an_import_that_is_interrupted_says_how_to_go_on() {
    let (tables, redis) = (Tables::sqlite(), Redis::start());
    send_all(&mut redis.wire(), (1..=2000).map(|id| format!("HSET p:{id} f a")));
    let (builder, folder) = (tables.builder(&redis.url()), tempfile::tempdir().expect("a folder"));
    let mut command = builder.command(&folder);
    command.args(["import", "p:{id:int}", "--batch", "20", "--rate", "400"]);
    let import = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    until("some are copied", || count(&tables, "plains") > 0);
    let told = std::process::Command::new("kill").args(["-INT", &import.id().to_string()]).status().expect("kill");
    assert!(told.success());
    let told: Said = import.wait_with_output().expect("it ends").into();
    told.expect(1, &["stopped: run it again, what is done is passed over", "refused 0", "different 0"]);
    let copied = count(&tables, "plains");
    assert!(copied < 2000, "it was not at its end");
    told.expect(1, &[&format!("copied {copied}"), &format!("compared and equal {copied}")]);
    let told: Said = builder.execute(&["import", "p:{id:int}"]).into();
    told.expect(0, &[&format!("copied {}", 2000 - copied), &format!("there already {copied}")]);
}
