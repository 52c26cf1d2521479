//! Lines, their queue and their file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Audit, AuditLine, AuditNote, Origin};
use crate::config::{AuditConfig, AuditKeys};
use crate::telemetry::Metrics;

fn audit(file: &Path, keys: AuditKeys) -> Arc<Audit> {
    let audit = Metrics::default().audit;
    let settings = AuditConfig { file: file.to_owned(), keys, secret: "pepper".into() };
    audit.configure(&settings).expect("a file");
    audit
}

fn note(audit: &Arc<Audit>, key: &[u8]) -> AuditNote {
    let client = Origin { id: Some(7), address: "127.0.0.1:1".into(), name: String::new(), user: "game".into() };
    AuditNote::of_write(audit, client, "HSET".into(), vec![("hero:{id}".into(), key.to_vec())])
        .naming([&b"name"[..], b"\xff"].into_iter())
}

fn flush(audit: &Audit) {
    audit.flush(Instant::now() + Duration::from_secs(20));
}

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("a file");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_line_says_who_did_what_to_which_key_and_how_it_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("audit.log");
    let audit = audit(&file, AuditKeys::Plain);
    note(&audit, b"hero:1").answered(b":1\r\n");
    note(&audit, b"hero:2").answered(b"-NO such\r\n");
    drop(note(&audit, b"hero:\x00\xff"));
    flush(&audit);
    let lines = lines(&file);
    assert_eq!(lines.len(), 3);
    let client = serde_json::json!({ "id": 7, "address": "127.0.0.1:1", "user": "game" });
    assert_eq!((&lines[0]["client"], &lines[0]["event"]), (&client, &"write".into()));
    assert_eq!((&lines[0]["mapping"], &lines[0]["key"]), (&"hero:{id}".into(), &"hero:1".into()));
    assert_eq!(lines[0]["fields"], serde_json::json!(["name", "\\xff"]));
    let ends: Vec<(&str, Option<&str>)> =
        lines.iter().map(|line| (line["outcome"].as_str().expect("one"), line["error"].as_str())).collect();
    assert_eq!(ends, [("ok", None), ("error", Some("NO such")), ("unknown", None)]);
    assert_eq!(lines[2]["key"], "hero:\\x00\\xff");
    assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn hashed_keys_stand_nowhere_and_are_the_same_each_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("audit.log");
    let audit = audit(&file, AuditKeys::Hashed);
    note(&audit, b"hero:1").answered(b"-NO such key hero:1\r\n");
    note(&audit, b"hero:1").answered(b"+OK\r\n");
    flush(&audit);
    let (text, lines) = (fs::read_to_string(&file).expect("a file"), lines(&file));
    assert!(!text.contains("hero:1"), "{text}");
    assert_eq!(lines[0]["key_hash"], lines[1]["key_hash"]);
    // printf hero:1 | openssl dgst -sha256 -hmac pepper
    assert_eq!(lines[0]["key_hash"], "c2b11a419ecb4d4bc7a0b7c48b1cbc6b9903b0a19229bfa7a15e569c2fc81a95");
    assert_eq!(lines[0]["error"], "NO");
    let names = [];
    let store = "the store refused: a value does not fit (22P02)";
    audit.add(&AuditLine::put_aside("hero:{id}", b"hero:1", &names, store));
    flush(&audit);
    assert_eq!(super::tests::lines(&file)[2]["error"], "22P02");
}

#[test]
fn long_names_and_many_are_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("audit.log");
    let audit = audit(&file, AuditKeys::Plain);
    let long = "ä".repeat(4000);
    note(&audit, long.as_bytes()).naming(std::iter::repeat_n(long.as_bytes(), 1000)).answered(b"+OK\r\n");
    flush(&audit);
    let line = &lines(&file)[0];
    assert!(line["key"].as_str().is_some_and(|key| key.len() < 520 && key.ends_with("ä...")));
    assert_eq!(line["fields"].as_array().map(|fields| (fields.len(), fields[64].clone())), Some((65, "...".into())));
}

#[test]
fn a_file_that_was_renamed_is_left_when_the_settings_come_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, old) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
    let audit = audit(&file, AuditKeys::Plain);
    note(&audit, b"hero:1").answered(b"+OK\r\n");
    flush(&audit);
    fs::rename(&file, &old).expect("renamed");
    note(&audit, b"hero:2").answered(b"+OK\r\n");
    flush(&audit);
    let settings = AuditConfig { file: file.clone(), ..AuditConfig::default() };
    audit.configure(&settings).expect("a file");
    note(&audit, b"hero:3").answered(b"+OK\r\n");
    audit.configure(&AuditConfig::default()).expect("none");
    note(&audit, b"hero:4").answered(b"+OK\r\n");
    flush(&audit);
    assert_eq!((lines(&old).len(), lines(&file).len()), (2, 1));
    assert!(audit.configure(&AuditConfig { file: folder.path().join("no/such"), ..AuditConfig::default() }).is_err());
}

#[test]
fn what_a_full_disk_loses_is_counted_and_the_next_line_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("audit.log");
    // Every write to it fails as on a full disk.
    let audit = audit(Path::new("/dev/full"), AuditKeys::Plain);
    (0..3).for_each(|_| note(&audit, b"hero:1").answered(b"+OK\r\n"));
    flush(&audit);
    assert_eq!((audit.metrics.lost("file").get(), audit.metrics.written.get()), (3, 0));
    audit.configure(&AuditConfig { file: file.clone(), ..AuditConfig::default() }).expect("a file");
    note(&audit, b"hero:2").answered(b"+OK\r\n");
    flush(&audit);
    let lines = lines(&file);
    assert_eq!(
        (&lines[0]["event"], &lines[0]["lines"], &lines[1]["key"]),
        (&"lost".into(), &3.into(), &"hero:2".into())
    );
}

#[test]
fn a_line_that_was_cut_short_before_the_start_does_not_swallow_the_next_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("audit.log");
    fs::write(&file, "{\"partial\":\"cut by a crash").expect("written");
    let audit = audit(&file, AuditKeys::Plain);
    note(&audit, b"hero:1").answered(b"+OK\r\n");
    flush(&audit);
    let text = fs::read_to_string(&file).expect("a file");
    let whole: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!((text.lines().count(), whole.len(), &whole[0]["key"]), (2, 1, &"hero:1".into()));
}

#[test]
fn what_the_store_says_of_a_value_is_not_in_a_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("audit.log");
    let audit = audit(&file, AuditKeys::Plain);
    note(&audit, b"hero:1").answered(b"-NO it: the store refused: invalid input for uuid: \"SECRET\" (22P02)\r\n");
    let long = format!("-NO it: the store refused: {} (P0001)\r\n", "SECRET".repeat(200));
    note(&audit, b"hero:1").answered(long.as_bytes());
    flush(&audit);
    assert!(!fs::read_to_string(&file).expect("a file").contains("SECRET"));
    assert_eq!(lines(&file)[0]["error"], "NO it: the store refused: a value does not fit (22P02)");
}

#[test]
fn a_pipe_that_nobody_reads_holds_up_neither_a_new_file_nor_the_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pipe, file) = (folder.path().join("pipe"), folder.path().join("audit.log"));
    assert!(Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()));
    let unread = Metrics::default().audit;
    let settings = AuditConfig { file: pipe.clone(), ..AuditConfig::default() };
    assert!(unread.configure(&settings).is_err_and(|why| why.contains("pipe")), "it has no reader");
    // A reader that takes nothing. It is opened for both, so that opening it waits for nobody.
    let reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).expect("a pipe");
    let audit = audit(&pipe, AuditKeys::Plain);
    (0..20_000).for_each(|_| note(&audit, b"hero:1").answered(b"+OK\r\n"));
    audit.configure(&AuditConfig { file: file.clone(), ..AuditConfig::default() }).expect("a file");
    note(&audit, b"hero:2").answered(b"+OK\r\n");
    audit.end(&AuditLine::of_the_sidecar("stop", &Ok::<(), &str>(())));
    let lines = lines(&file);
    let told: u64 = lines.iter().filter_map(|line| line["lines"].as_u64()).sum();
    let lost = audit.metrics.lost("file").get() + audit.metrics.lost("queue").get();
    assert_eq!((told, &lines[lines.len() - 1]["command"]), (lost, &"stop".into()));
    drop(reader);
}
