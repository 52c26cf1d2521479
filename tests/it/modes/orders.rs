//! HEARTHSIDE MODE and SIGHUP: who may ask, what is answered, and where a mode is shown.

use hearthside::resp::reply::elements;

use super::place::{NOTES, Place, config};
use crate::operations::reload::reload;
use crate::support::admin::{metric, request, request_with};
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::warnings;
use crate::support::wire::Wire;

/// The names and values of one mapping's mode.
fn facts(wire: &mut Wire, request: &str) -> Vec<String> {
    let told = wire.call(&request.split(' ').collect::<Vec<_>>());
    let maps = elements(&told).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&told)));
    maps.iter().map(|map| String::from_utf8_lossy(map).into_owned()).collect()
}

fn shows(sidecar: &Sidecar, mode: &str, percent: f64) -> bool {
    let modes = ["off", "shadow", "fallback", "on"];
    let of = |mode| metric(sidecar, &format!("hearthside_mapping_mode{{mapping=\"{NOTES}\",mode=\"{mode}\"}}"));
    modes.iter().all(|name| of(*name) == f64::from(u8::from(*name == mode)))
        && metric(sidecar, &format!("hearthside_mapping_percent{{mapping=\"{NOTES}\"}}")) == percent
}

#[test]
fn a_mode_is_shown_wherever_somebody_looks() {
    let place = Place::new();
    let sidecar = place.builder("").start();
    let mut wire = sidecar.wire();
    assert!(shows(&sidecar, "on", 100.0));
    let told = facts(&mut wire, &format!("HEARTHSIDE MODE {NOTES} off"));
    assert_eq!(told.len(), 1, "{told:?}");
    let note = "a restart and SIGHUP go back to what is configured";
    assert!(told[0].contains("off") && told[0].contains(note), "{told:?}");
    assert!(shows(&sidecar, "off", 100.0));
    assert_eq!(facts(&mut wire, "HEARTHSIDE MODE").len(), 2);
    let explained = wire.ask("HEARTHSIDE EXPLAIN note:1");
    assert!(explained.contains("upstream") && explained.contains("the mode of the mapping is 'off'"), "{explained}");
    assert!(wire.ask("HEARTHSIDE STATUS").contains(&format!("{NOTES}: off 100 %")));
    assert!(wire.ask("HEARTHSIDE MAPPINGS").contains("off"));
    assert!(request(&sidecar, "GET", "/api/mappings").1.contains("\"mode\":\"off\",\"percent\":100"));
    assert!(request(&sidecar, "GET", "/api/key?key=note:1").1.contains("\"mode\":\"off\""));
    wire.ask(&format!("HEARTHSIDE MODE {NOTES} on 10"));
    assert!(shows(&sidecar, "on", 10.0));
    wire.ask(&format!("HEARTHSIDE MODE {NOTES} off"));
    wire.ask(&format!("HEARTHSIDE MODE {NOTES} on"));
    assert!(shows(&sidecar, "on", 10.0), "the percentage stays as it was");
    let log = sidecar.log();
    assert!(log.contains("a mapping has another mode") && log.contains("percent=10"), "{log}");
}

#[test]
fn what_is_no_mode_changes_nothing() {
    let place = Place::new();
    let sidecar = place.builder("").start();
    let mut wire = sidecar.wire();
    for (request, expected) in [
        ("HEARTHSIDE MODE note:{id} off", "-ERR hearthside: no mapping has the key pattern 'note:{id}'"),
        ("HEARTHSIDE MODE ALL out", "-ERR hearthside: HEARTHSIDE MODE <mapping or ALL>"),
        ("HEARTHSIDE MODE ALL on 101", "-ERR hearthside: HEARTHSIDE MODE <mapping or ALL>"),
        ("HEARTHSIDE MODE ALL on x", "-ERR hearthside: HEARTHSIDE MODE <mapping or ALL>"),
        ("HEARTHSIDE MODE ALL", "-ERR unknown HEARTHSIDE subcommand"),
    ] {
        let told = wire.ask(request);
        assert!(told.starts_with(expected), "{request}: {told}");
    }
    assert!(shows(&sidecar, "on", 100.0));
}

#[test]
fn a_reload_brings_the_modes_of_its_file() {
    let place = Place::new();
    let sidecar = place.builder("mode = \"on\"").start();
    let mut wire = sidecar.wire();
    wire.ask("HEARTHSIDE MODE ALL off");
    reload(&sidecar, &config("mode = \"on\"").replace("'here'", "'there'"));
    assert!(shows(&sidecar, "on", 100.0), "what a client asked for ends");
    assert_eq!(wire.ask("HGET place:1 name"), "$5\r\nthere\r\n");
    reload(&sidecar, &config("mode = \"off\"").replace("'here'", "'there'"));
    assert!(shows(&sidecar, "off", 100.0));
    assert_eq!(wire.ask("HGET place:1 name"), "$-1\r\n");
    assert!(!facts(&mut wire, "HEARTHSIDE MODE")[0].contains("a restart"), "it is what is configured");
    reload(&sidecar, &config("percent = 30"));
    assert!(shows(&sidecar, "on", 30.0));
}

#[test]
fn only_who_may_administer_changes_modes() {
    let place = Place::new();
    let users = "\n[auth]\nmode = \"users\"\n[[users]]\nname = \"default\"\nnopass = true\ncommands = [\"@all\", \
        \"-@dangerous\"]\nkeys = [\"*\"]\n[[users]]\nname = \"chief\"\nnopass = true\ncommands = [\"@all\"]\nkeys = \
        [\"*\"]\n[audit]\nfile = \"audit.log\"\n";
    let sidecar = place.builder("").config(&format!("{}{users}", config(""))).start();
    let mut wire = sidecar.wire();
    assert!(wire.ask("HEARTHSIDE MODE ALL off").starts_with("-NOPERM"));
    assert!(shows(&sidecar, "on", 100.0));
    assert_eq!(wire.ask("AUTH chief x"), "+OK\r\n");
    wire.ask("HEARTHSIDE MODE");
    wire.ask(&format!("HEARTHSIDE MODE {NOTES} off 50"));
    assert!(shows(&sidecar, "off", 50.0));
    let file = sidecar.folder.path().join("audit.log");
    let lines = || std::fs::read_to_string(&file).unwrap_or_default();
    let (told, refused) =
        (format!("\"about\":[\"{NOTES}\",\"off\",\"50\"],\"outcome\":\"ok\""), "\"outcome\":\"error\"");
    until("it is in the audit log", || lines().contains(&told));
    assert_eq!(lines().matches("HEARTHSIDE MODE").count(), 2, "what is only looked at is not: {}", lines());
    assert!(lines().contains(refused), "{}", lines());
}

#[test]
fn the_command_line_lists_and_changes_modes() {
    let (place, folder) = (Place::new(), tempfile::tempdir().expect("a folder"));
    let token = folder.path().join("token").display().to_string();
    std::fs::write(&token, "a-token-of-sixteen").expect("written");
    let sidecar = place.builder("").set("ADMIN__TOKEN_FILE", &token).expect(&[warnings::ADMIN_REFUSED]).start_guarded();
    let listen = format!("127.0.0.1:{}", sidecar.logged_port("admin port").expect("an admin port"));
    let run = |arguments: &[&str]| {
        let builder = Sidecar::builder().set("ADMIN__LISTEN", &listen).set("ADMIN__TOKEN_FILE", &token);
        let output = builder.execute(&[&["mode"], arguments].concat());
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, told) = run(&[]);
    let line = told.lines().find(|line| line.starts_with(NOTES)).unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().take(3).collect();
    assert!(code == Some(0) && words == [NOTES, "on", "100"], "{told}");
    let (code, told) = run(&[NOTES, "fallback", "50"]);
    assert!(code == Some(0) && told.contains("mode: fallback\n") && told.contains("percent: 50\n"), "{told}");
    assert!(sidecar.wire().ask("HEARTHSIDE STATUS").contains(&format!("{NOTES}: fallback 50 %")));
    for (arguments, code, why) in [
        (&["note:{id}", "off"][..], 1, "no mapping has the key pattern 'note:{id}'"),
        (&["ALL", "out"], 1, "HEARTHSIDE MODE <mapping or ALL>"),
        (&["ALL"], 2, "MODE"),
        (&["ALL", "on", "101"], 2, "101"),
    ] {
        let (was, told) = run(arguments);
        assert!(was == Some(code) && told.contains(why), "{arguments:?}: {was:?} {told}");
        assert!(!told.contains("hearthside: hearthside:"), "{told}");
    }
    assert_eq!(request(&sidecar, "POST", "/api/mode?mapping=ALL&mode=off").0, 401);
    let shown = "Authorization: Bearer a-token-of-sixteen\r\n";
    let (status, told) = request_with(&sidecar, "POST", "/api/mode?mapping=ALL&mode=on&percent=100", shown);
    assert!(status == 200 && told.contains("\"mode\":\"on\",\"percent\":100"), "{told}");
}
