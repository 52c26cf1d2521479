//! A warm start beside clients, and where the store, a table or its file is in the way: clients go first, and no key of
//! the list is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::admin::metric;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::{until, warnings};

const MAPPINGS: &str = r#"
[[caches]]
key = "hero:{id:int}"
type = "string"
value = "v"
query = "SELECT v || pg_sleep((SELECT seconds FROM pace)) AS v FROM hero WHERE id = $1"
watch = [{ table = "hero", key = { id = "id" } }]
"#;

/// The servers, and where the list of a sidecar is.
struct Place {
    redis: Redis,
    postgres: Postgres,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let postgres = Postgres::start();
        postgres.sql(
            "CREATE TABLE hero (id INT PRIMARY KEY, v TEXT); CREATE TABLE pace (seconds FLOAT); \
             INSERT INTO pace VALUES (0); INSERT INTO hero SELECT i, 'v' || i FROM generate_series(1, 5000) AS i",
        );
        Self { redis: Redis::start(), postgres, folder: tempfile::tempdir().expect("a folder") }
    }

    fn list(&self) -> PathBuf {
        self.folder.path().join("warm")
    }

    fn builder(&self) -> Builder {
        let builder = Sidecar::builder().redis(&self.redis).postgres(&self.postgres).config(MAPPINGS).migrated();
        builder.set("CACHE__WARM", self.list().to_str().expect("text"))
    }

    /// Has a sidecar note these keys, the last one as the hottest.
    fn note(&self, ids: std::ops::RangeInclusive<u32>) {
        let mut sidecar = self.builder().start();
        let mut wire = sidecar.wire();
        for id in ids {
            assert!(wire.ask(&format!("GET hero:{id}")).contains(&format!("v{id}")));
        }
        assert_eq!(sidecar.stop(), Some(0));
    }
}

/// The keys of a list, in their order.
fn keys(list: &Path) -> Vec<String> {
    let text = fs::read_to_string(list).expect("it was written");
    text.split('"').filter(|word| word.starts_with("hero:") && !word.contains('{')).map(str::to_owned).collect()
}

/// All of the list has been loaded: from now on it is written again.
fn is_warm(sidecar: &Sidecar) -> bool {
    sidecar.log().contains("warm start: keys that were hot before are in memory")
}

fn warmed(sidecar: &Sidecar) -> f64 {
    metric(sidecar, "hearthside_warmed_total")
}

#[test]
fn clients_go_before_a_warm_start_also_those_that_ask_for_its_keys() {
    let place = Place::new();
    place.note(1..=1000);
    place.postgres.sql("UPDATE pace SET seconds = 0.1");
    let sidecar = place.builder().start();
    let mut wire = sidecar.wire();
    until("it has begun", || metric(&sidecar, "hearthside_loads_total{outcome=\"ok\"}") > 0.0);
    let began = Instant::now();
    // The hottest are asked for first, and wait behind each other; the others come later, or are in no list.
    for id in (800..=990).step_by(10).chain(2001..=2020) {
        assert_eq!(wire.ask(&format!("GET hero:{id}")), format!("${}\r\nv{id}\r\n", id.to_string().len() + 1));
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(16), "{took:?} for 40 reads of a tenth of a second");
    assert!(warmed(&sidecar) < 1000.0, "it is still under way");
    assert_eq!(metric(&sidecar, "hearthside_overloads_total{mapping=\"hero:{id:int}\"}"), 0.0);
}

#[test]
fn the_order_of_the_list_outlives_restarts_and_what_nobody_reads_sinks() {
    let place = Place::new();
    place.note(1..=300);
    let noted = keys(&place.list());
    assert_eq!(noted.len(), 300);
    for _ in 0..2 {
        let mut sidecar = place.builder().start();
        until("the keys are loaded", || is_warm(&sidecar));
        assert_eq!(sidecar.stop(), Some(0));
        assert_eq!(keys(&place.list()), noted);
    }
    let mut sidecar = place.builder().set("CACHE__WARM_KEYS", "200").start();
    until("the keys are loaded", || is_warm(&sidecar));
    let mut wire = sidecar.wire();
    for id in 1001..=1100 {
        wire.ask(&format!("GET hero:{id}"));
    }
    assert_eq!(sidecar.stop(), Some(0));
    let after = keys(&place.list());
    assert!(after[..100].iter().all(|key| key.starts_with("hero:1") && key.len() == 9), "{after:?}");
    assert_eq!(after[100..], noted[..100]);
}

#[test]
fn keys_of_a_locked_table_stay_in_the_list_and_are_loaded_when_it_is_free() {
    let place = Place::new();
    place.note(1..=600);
    let mut locked = place.postgres.session();
    locked.run("BEGIN; LOCK TABLE hero;");
    let start = || place.builder().expect(&[warnings::UNPLANNED, warnings::NOT_WARM_YET]).start();
    let mut sidecar = start();
    until("it is told", || sidecar.log().contains(warnings::NOT_WARM_YET));
    assert!(!sidecar.log().contains(warnings::LOAD_FAILED), "nobody has asked for one");
    assert_eq!(sidecar.stop(), Some(0));
    assert_eq!(keys(&place.list()).len(), 600);
    let sidecar = start();
    until("it is told", || sidecar.log().contains(warnings::NOT_WARM_YET));
    locked.run("COMMIT;");
    until("the keys are loaded", || warmed(&sidecar) >= 600.0);
}

#[test]
fn a_store_that_restarts_during_a_warm_start_does_not_end_it() {
    let place = Place::new();
    place.note(1..=600);
    let expected = [warnings::STORE_AWAY, &[warnings::NOT_WARM_YET]].concat();
    let mut sidecar = place.builder().set("CACHE__WARM_RATE", "200").expect(&expected).start();
    until("it has begun", || warmed(&sidecar) > 0.0);
    place.postgres.stop();
    until("it is told", || sidecar.log().contains(warnings::NOT_WARM_YET));
    place.postgres.launch();
    until("the keys are in memory", || metric(&sidecar, "hearthside_cache_entries") >= 600.0);
    assert_eq!(sidecar.stop(), Some(0));
    assert_eq!(keys(&place.list()).len(), 600);
}

#[test]
fn a_pipe_or_a_huge_file_in_place_of_the_list_holds_up_neither_start_nor_stop() {
    let place = Place::new();
    let pipe = || assert!(Command::new("mkfifo").arg(place.list()).status().expect("mkfifo").success());
    let huge = || fs::File::create(place.list()).and_then(|file| file.set_len(3 << 30)).expect("a sparse file");
    for make in [&pipe as &dyn Fn(), &huge] {
        make();
        let mut sidecar = place.builder().expect(&[warnings::NO_WARM_START]).start();
        assert_eq!(sidecar.wire().ask("GET hero:1"), "$2\r\nv1\r\n");
        until("it is told", || sidecar.log().contains(warnings::NO_WARM_START));
        assert_eq!(sidecar.stop(), Some(0));
        assert_eq!(keys(&place.list()), ["hero:1"]);
        fs::remove_file(place.list()).expect("removed");
    }
}

#[test]
fn nothing_is_left_of_a_list_that_finds_no_room() {
    let place = Place::new();
    let pipe = place.folder.path().join("warm.new");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    place.note(1..=5);
    assert_eq!(keys(&place.list()).len(), 5, "what was in the way is removed");
    fs::remove_file(place.list()).expect("removed");
    fs::create_dir(place.list()).expect("a folder in its place");
    let builder = place.builder().expect(&[warnings::NO_WARM_START, warnings::NOT_NOTED]);
    let mut sidecar = builder.start();
    assert_eq!(sidecar.wire().ask("GET hero:1"), "$2\r\nv1\r\n");
    until("it is told", || sidecar.log().contains(warnings::NO_WARM_START));
    assert_eq!(sidecar.stop(), Some(0));
    assert!(sidecar.log().contains(warnings::NOT_NOTED) && !pipe.exists());
}
