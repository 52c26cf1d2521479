//! What is copied, what is refused, and what is said of it.

use super::tables::{Said, Tables};
use crate::support::redis::Redis;

fn import(tables: &Tables, redis: &Redis, arguments: &[&str]) -> Said {
    tables.builder(&redis.url()).execute(&[&["import"], arguments].concat()).into()
}

#[test]
fn keys_of_every_type_are_copied_once_and_compared() {
    for tables in [Tables::postgres(), Tables::sqlite()] {
        let redis = Redis::start();
        let mut wire = redis.wire();
        for id in 1..=450 {
            wire.ask(&format!("HSET h:{id} f a{id} n {id} extra e"));
        }
        wire.ask("EXPIRE h:1 3600");
        wire.ask("HSET h:x f other");
        wire.ask("HSET h:1:more f other");
        tables.sql("INSERT INTO hashes (id, f, kind) VALUES (7, 'mine', 'b')");
        for command in ["SET s:one 1", "SET s:two two", "SADD t:1 a b", "SADD t:2 c", "RPUSH l:1 x y x"] {
            wire.ask(command);
        }
        let dry = import(&tables, &redis, &["h:{id:int}", "--dry-run"]);
        dry.expect(0, &["would be copied 449", "there already 1"]);
        assert_eq!(tables.sql("SELECT count(*) FROM hashes"), "1");
        // 'kind' has a default and may not be NULL: the store shows a field more than the key has.
        let hashes = import(&tables, &redis, &["h:{id:int}"]);
        hashes.expect(1, &["copied 449", "there already 1", "refused 0", "compared and equal 0", "different 449"]);
        assert!(hashes.out.contains("kind: the store has it (5 bytes), the upstream has not"), "{}", hashes.out);
        assert!(hashes.out.contains("different: and 429 more"), "{}", hashes.out);
        tables.sql("DELETE FROM hashes WHERE id <> 7");
        wire.ask("DEL h:7");
        for id in 1..=450 {
            wire.ask(&format!("HSET h:{id} kind odd"));
        }
        let all = ["copied 449", "there already 1", "refused 0", "vanished 0", "compared and equal 449", "different 0"];
        import(&tables, &redis, &["h:{id:int}", "--batch", "37"]).expect(0, &all);
        assert_eq!(tables.sql("SELECT f, kind FROM hashes WHERE id = 7"), "mine|b", "what was there stays");
        assert_eq!(tables.sql("SELECT count(*) FROM hashes WHERE f = CAST('a' || id AS TEXT) AND n = id"), "449");
        assert_eq!(tables.sql("SELECT count(*) FROM hashes WHERE ends IS NOT NULL AND id = 1"), "1");
        assert_eq!(tables.sql("SELECT count(*) FROM hashes WHERE ends IS NOT NULL"), "1");
        import(&tables, &redis, &["h:{id:int}"]).expect(0, &["copied 0", "there already 450"]);
        import(&tables, &redis, &["s:{id}"]).expect(0, &["copied 2", "compared and equal 2"]);
        import(&tables, &redis, &["t:{id:int}"]).expect(0, &["copied 2", "compared and equal 2"]);
        import(&tables, &redis, &["l:{id:int}"]).expect(0, &["copied 1", "compared and equal 1"]);
        assert_eq!(tables.sql("SELECT id, v FROM strings ORDER BY id"), "one|1\ntwo|two");
        assert_eq!(tables.sql("SELECT id, v FROM members ORDER BY id, v"), "1|a\n1|b\n2|c");
        assert_eq!(tables.sql("SELECT v FROM elements WHERE id = 1 ORDER BY place"), "x\ny\nx");
        for mapping in ["s:{id}", "t:{id:int}", "l:{id:int}"] {
            import(&tables, &redis, &[mapping]).expect(0, &["copied 0"]);
        }
    }
}

#[test]
fn what_does_not_fit_is_listed_by_key_and_never_with_its_value() {
    for tables in [Tables::postgres(), Tables::sqlite()] {
        let redis = Redis::start();
        let mut wire = redis.wire();
        for id in 1..=60 {
            wire.ask(&format!("HSET p:{id} f secret{id} n {id}"));
        }
        wire.ask("HSET p:3 n secret");
        wire.ask("HSET p:4 unknown secret");
        wire.ask("DEL p:5");
        wire.ask("SET p:5 secret");
        wire.ask("PEXPIRE p:6 3600000");
        let told = import(&tables, &redis, &["p:{id:int}"]);
        told.expect(1, &["copied 56", "refused 4", "compared and equal 56", "different 0"]);
        for line in [
            "refused: \"p:3\": the field 'n' cannot be written: the column 'n' (",
            "refused: \"p:4\": the field 'unknown' cannot be written: the table has no such column",
            "refused: \"p:5\": it is of another type at the upstream than the mapping's",
            "refused: \"p:6\": it ends (it has a TTL), and the mapping has no expires_column",
        ] {
            assert!(told.out.contains(line), "missing {line:?} in\n{}", told.out);
        }
        assert!(!told.out.contains("secret") && !told.err.contains("secret"), "{}{}", told.out, told.err);
        import(&tables, &redis, &["p:{id:int}", "--forget-ttl"])
            .expect(1, &["copied 1", "there already 56", "refused 3"]);
        assert_eq!(tables.sql("SELECT f FROM plains WHERE id = 6"), "secret6");
    }
}

#[test]
fn a_mapping_that_cannot_be_imported_says_what_to_do() {
    let tables = Tables::sqlite();
    let redis = Redis::start();
    let config = format!(
        "{}\n[[definitions]]\nkey = \"d:{{id}}\"\ntype = \"hash\"\ntable = \"plains\"\n\
         [[caches]]\n\
         key = \"q:{{id:int}}\"\ntype = \"hash\"\nquery = \"SELECT f FROM plains WHERE id = $1\"\nttl = \"1m\"\n\
         [[caches]]\nkey = \"all\"\ntype = \"set\"\nvalue = \"v\"\ntable = \"members\"\n\
         [[caches]]\nkey = \"r:{{id:int}}\"\ntype = \"hash\"\ntable = \"plains\"\n",
        tables.config()
    );
    let builder = tables.builder(&redis.url()).config(&config);
    let said = |mapping: &str| -> Said { builder.execute(&["import", mapping]).into() };
    for (mapping, expected) in [
        ("d:{id}", "'d:{id}' is a definition, which is loaded as a whole and never written"),
        ("q:{id:int}", "it is a query, of which nothing is written: fill its tables yourself"),
        ("all", "it has no {placeholder}, and no row is its own: fill the table members yourself"),
        ("r:{id:int}", "nothing of it is written to the table plains; set write = \"through\""),
        ("h:{id:itn}", "no mapping has the key pattern 'h:{id:itn}'; did you mean 'h:{id:int}'?"),
    ] {
        let told = said(mapping);
        assert!(
            told.code == Some(1) && told.err.contains(expected),
            "missing {expected:?} in\n{}{}",
            told.out,
            told.err
        );
    }
    let none: Said = tables.builder("").execute(&["import", "h:{id:int}"]).into();
    assert!(none.code == Some(1) && none.err.contains("upstream.url is empty"), "{}", none.err);
}

/// A user that may not list keys is told so, and what a pattern's literals have of a glob's signs means nothing.
#[test]
fn an_upstream_that_does_not_tell_is_named() {
    let tables = Tables::sqlite();
    let redis = Redis::start();
    redis.wire().ask("ACL SETUSER weak on >secret ~* +@all -scan");
    let upstream = redis.url().replace("redis://", "redis://weak:secret@");
    let told: Said = tables.builder(&upstream).execute(&["import", "h:{id:int}"]).into();
    told.expect(1, &["copied 0"]);
    assert!(
        told.out
            .contains("the user of upstream.url may not run SCAN: permit it with +scan (ACL SETUSER); run it again"),
        "{}",
        told.out
    );
}

/// On a terminal there is a bar, which goes when it ends.
#[test]
fn a_person_who_waits_sees_a_bar() {
    let tables = Tables::sqlite();
    let redis = Redis::start();
    let mut wire = redis.wire();
    for id in 1..=300 {
        wire.ask(&format!("HSET p:{id} f a"));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let builder = tables.builder(&redis.url());
    let command = builder.command(&folder);
    let program = command.get_program().to_string_lossy().into_owned();
    let mut script = std::process::Command::new("script");
    let of_pattern = format!("{program} import 'p:{{id:int}}' --batch 10 --rate 250");
    script.args(["-qec", &of_pattern, "/dev/null"]).current_dir(folder.path());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            script.env(name, value);
        }
    }
    let output = script.env("TERM", "xterm").output().expect("script is installed (util-linux)");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("p:{id:int} [") && shown.contains("/300 "), "{shown}");
    assert!(shown.contains("copied 300\r\n"), "{shown}");
}
