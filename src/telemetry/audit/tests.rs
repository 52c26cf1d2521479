//! Lines, their queue and their file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::{Audit, AuditNote, Origin};
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
    audit.flush();
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
    audit.flush();
    let (text, lines) = (fs::read_to_string(&file).expect("a file"), lines(&file));
    assert!(!text.contains("hero:1"), "{text}");
    assert_eq!(lines[0]["key_hash"], lines[1]["key_hash"]);
    // printf hero:1 | openssl dgst -sha256 -hmac pepper
    assert_eq!(lines[0]["key_hash"], "c2b11a419ecb4d4bc7a0b7c48b1cbc6b9903b0a19229bfa7a15e569c2fc81a95");
    assert_eq!(lines[0]["error"], "NO");
}

#[test]
fn long_names_and_many_are_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("audit.log");
    let audit = audit(&file, AuditKeys::Plain);
    let long = "ä".repeat(4000);
    note(&audit, long.as_bytes()).naming(std::iter::repeat_n(long.as_bytes(), 1000)).answered(b"+OK\r\n");
    audit.flush();
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
    audit.flush();
    fs::rename(&file, &old).expect("renamed");
    note(&audit, b"hero:2").answered(b"+OK\r\n");
    let settings = AuditConfig { file: file.clone(), ..AuditConfig::default() };
    audit.configure(&settings).expect("a file");
    note(&audit, b"hero:3").answered(b"+OK\r\n");
    audit.configure(&AuditConfig::default()).expect("none");
    note(&audit, b"hero:4").answered(b"+OK\r\n");
    audit.flush();
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
    audit.flush();
    assert_eq!((audit.metrics.lost("file").get(), audit.metrics.written.get()), (3, 0));
    audit.configure(&AuditConfig { file: file.clone(), ..AuditConfig::default() }).expect("a file");
    note(&audit, b"hero:2").answered(b"+OK\r\n");
    audit.flush();
    let lines = lines(&file);
    assert_eq!(
        (&lines[0]["event"], &lines[0]["lines"], &lines[1]["key"]),
        (&"lost".into(), &3.into(), &"hero:2".into())
    );
}
