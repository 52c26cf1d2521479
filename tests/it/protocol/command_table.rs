//! The command table is what servers say of themselves, and docs/COMPATIBILITY.md is what the table says.

use std::fs;
use std::path::Path;
use std::process::Command;

use hearthside::command::{self, Policy, Report, RequestPolicy, ResponsePolicy, Table};

use crate::support::redis::{Redis, SERVERS, Server, odd_module};
use crate::support::sidecar::Sidecar;

fn script() -> Command {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/commands"))
}

#[test]
fn the_table_knows_what_every_server_says() {
    for server in SERVERS {
        let redis = Redis::of(server, &[]);
        let output = script().arg(format!("127.0.0.1:{}", redis.port)).output().expect("python3 runs");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(told, "", "{server:?}");
        assert!(output.status.success(), "{server:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn what_a_server_says_of_itself_adds_nothing_to_the_table() {
    for server in SERVERS {
        let answer = Redis::of(server, &[]).wire().call(&["COMMAND"]);
        let commands = command::read(&answer).expect("an answer to COMMAND");
        assert!(commands.len() > 350, "{server:?}: {}", commands.len());
        let (_, mut report) = Table::built_in().completed(&commands);
        // What may not stand in a transaction differs, and no row can say it for all servers.
        let valkey = ["client|reply", "multi", "watch"];
        report.completed.retain(|name| server != Server::Valkey91 || !valkey.contains(name));
        assert_eq!(report, Report::default(), "{server:?}");
    }
}

#[test]
fn a_command_that_only_the_upstream_knows_brings_its_tips() {
    let folder = tempfile::tempdir().expect("a folder");
    let module = odd_module(folder.path());
    for (server, protocol) in SERVERS.into_iter().flat_map(|server| [(server, "2"), (server, "3")]) {
        let redis = Redis::of(server, &["--loadmodule", &module]);
        let mut wire = redis.wire();
        wire.call(&["HELLO", protocol]);
        let commands = command::read(&wire.call(&["COMMAND"])).expect("an answer to COMMAND");
        let (table, _) = Table::built_in().completed(&commands);
        let policy = |name: &str| table.lookup(name.as_bytes(), b"").expect("known").policy;
        let told = Policy { request: RequestPolicy::AllShards, response: ResponsePolicy::Max };
        assert_eq!((policy("odd.last"), policy("odd.waits")), (told, Policy::default()), "{server:?} {protocol}");
    }
}

#[test]
fn a_renamed_command_has_the_policy_of_its_original() {
    let redis = Redis::with(&["--rename-command", "MGET", "FETCH", "--rename-command", "MSETNX", "CREATE"]);
    for (name, request) in [("FETCH", RequestPolicy::MultiShard), ("CREATE", RequestPolicy::Default)] {
        let answer = redis.wire().call(&["COMMAND", "INFO", name]);
        let described = command::read(&answer).expect("an answer to COMMAND INFO");
        let name = name.to_ascii_lowercase();
        let (table, _) = Table::built_in()
            .completed(&described.into_iter().map(|command| command.called(&name)).collect::<Vec<_>>());
        let row = table.lookup(name.as_bytes(), b"").expect("known");
        assert_eq!((row.policy.request, row.learned().is_some()), (request, true), "{name}");
    }
}

#[test]
fn the_documentation_has_every_command() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/COMPATIBILITY.md")).expect("reads");
    let table = hearthside::app::commands();
    assert!(document.ends_with(&table), "the end of docs/COMPATIBILITY.md must be what `hearthside commands` prints");
}

#[test]
fn a_difference_is_told_and_fails() {
    let (redis, folder) = (Redis::start(), tempfile::tempdir().expect("a folder"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(folder.path().join("scripts")).expect("a folder");
    fs::create_dir_all(folder.path().join("src/command")).expect("a folder");
    fs::copy(root.join("scripts/commands"), folder.path().join("scripts/commands")).expect("copies");
    let table = fs::read_to_string(root.join("src/command/commands.tsv")).expect("reads");
    let older: Vec<_> = table.lines().filter(|line| !line.starts_with("getdel\t")).collect();
    let older = older.join("\n").replace("append\t3\tdenyoom,fast,write", "append\t3\tfast,readonly");
    let older = older.replace("request_policy:all_shards,response_policy:agg_sum", "request_policy:all_shards");
    fs::write(folder.path().join("src/command/commands.tsv"), older).expect("writes");
    let script = folder.path().join("scripts/commands");
    let output = Command::new(script).arg(format!("127.0.0.1:{}", redis.port)).output().expect("python3 runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success());
    for difference in ["new      getdel\t2\t", "flags    append: ", "tips     dbsize: "] {
        assert!(told.contains(difference), "{difference}: {told}");
    }
}

/// The forms in which commands name a key: `K` stands for it.
const FORMS: [&str; 6] = ["K", "K K", "K K K", "K K K K K", "0 1 K LEFT", "s 1 K"];

#[test]
fn what_is_an_error_on_an_owned_key_and_nothing_else_is_called_one() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let table = hearthside::app::commands();
    let mut errors = 0;
    for row in table.lines().skip(2) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, .., on_owned] = cells[..] else { panic!("{row}") };
        if on_owned == "–" {
            continue;
        }
        let mut wire = sidecar.wire();
        let streams = ["STREAMS K 0", "GROUP g c STREAMS K >", "1 K LEFT", "h 1 K 0 0"];
        let is_refused = FORMS.iter().chain(&streams).any(|form| {
            let told = wire.ask(&format!("{name} {}", form.replace('K', "item:apple:def")));
            told.contains("is not answered on the owned key")
        });
        match on_owned {
            "error" => {
                assert!(is_refused, "{name} is called an error on owned keys, and is none");
                errors += 1;
            }
            "answered" | "answered, also among pass-through keys" | "watched, also among pass-through keys" => {
                assert!(!is_refused, "{name} is called answered on owned keys, and is not");
            }
            _ => {}
        }
    }
    assert!(errors > 90, "{errors}");
}
