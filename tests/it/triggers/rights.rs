//! What a sidecar's role may do: with just the printed GRANTs everything works, and what is missing is named.

use super::text;
use crate::support::admin::{metric, request};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::Sidecar;
use crate::support::{until, warnings};

const CONFIG: &str = "[[caches]]\nkey = \"h:{id:int}\"\ntype = \"hash\"\ntable = \"own.heroes\"\nwrite = \"through\"\n\
    deferred = [\"hp\"]\ndelete = \"row\"\n\
    [[caches]]\nkey = \"z:{id}\"\ntype = \"string\"\ntable = \"own.sessions\"\nvalue = \"data\"\n\
    expires_column = \"ends\"\nwrite = \"through\"\n\
    [[caches]]\nkey = \"t:{id:int}\"\ntype = \"set\"\ntable = \"own.tags\"\nvalue = \"tag\"\nwrite = \"through\"\n\
    [[caches]]\nkey = \"l:{id:int}\"\ntype = \"list\"\nvalue = \"v\"\nwrite = \"through\"\n\
    query = \"SELECT e.v FROM own.elements AS e JOIN own.heroes AS h USING (id) WHERE id = $1 ORDER BY at\"\n\
    watch = [{ table = \"own.elements\" }]\npush = \"INSERT INTO own.elements (id, v) VALUES ($1, $2)\"\n\
    remove = \"DELETE FROM own.elements WHERE id = $1 AND v = $2\"\n";

const TABLES: &str = "CREATE SCHEMA own;
    CREATE TABLE own.heroes (id int PRIMARY KEY, name text, hp int); INSERT INTO own.heroes VALUES (1, 'a', 1);
    CREATE TABLE own.sessions (id text PRIMARY KEY, data text, ends timestamptz);
    CREATE TABLE own.tags (id int, tag text, PRIMARY KEY (id, tag));
    CREATE TABLE own.elements (at serial, id int, v text); CREATE ROLE \"Side Car\" LOGIN";

#[test]
fn the_printed_grants_are_what_a_role_needs() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(TABLES);
    let builder = Sidecar::builder().redis(&redis).config(CONFIG).set("JOURNAL__FLUSH_INTERVAL", "20ms");
    let owner = postgres.url();
    for arguments in [&["migrate"][..], &["triggers", "--install"]] {
        let done = builder.execute_with("STORE__URL", &owner, arguments);
        assert!(done.status.success(), "{}", text(&done));
    }
    let grants = builder.execute_with("STORE__URL", &owner, &["triggers", "--grants", "Side Car"]);
    assert!(grants.status.success(), "{}", text(&grants));
    let role = owner.replace("postgres://postgres@", "postgres://Side%20Car@");
    let refused = text(&builder.execute_with("STORE__URL", &role, &["check", "--connect"]));
    let schema = "caches[0].key: the role Side Car lacks USAGE on the schema own: GRANT USAGE ON SCHEMA own TO \
                  \"Side Car\" (also for 'z:{id}', 't:{id:int}', 'l:{id:int}')";
    assert!(refused.contains(schema) && !refused.contains("permission denied"), "{refused}");
    postgres.sql("GRANT USAGE ON SCHEMA own, hearthside TO \"Side Car\"");
    let refused = text(&builder.execute_with("STORE__URL", &role, &["check", "--connect"]));
    let heroes = "the role Side Car lacks SELECT, INSERT, UPDATE, DELETE on own.heroes: \
                  GRANT SELECT, INSERT, UPDATE, DELETE ON own.heroes TO \"Side Car\"";
    for expected in [
        heroes,
        "GRANT SELECT, INSERT, DELETE ON own.elements TO",
        "GRANT SELECT, INSERT, UPDATE ON hearthside.journals TO \"Side Car\"",
        "GRANT SELECT, INSERT ON hearthside.flushed TO \"Side Car\"",
    ] {
        assert_eq!(refused.matches(expected).count(), 1, "{expected:?} in\n{refused}");
    }
    postgres.sql(&text(&grants));
    let builder = builder.set("STORE__URL", role).set("STORE__SWEEP_INTERVAL", "50ms").set("STORE__SWEEP_GRACE", "0s");
    let checked = builder.execute(&["check", "--connect"]);
    assert!(checked.status.success(), "{}", text(&checked));
    let sidecar = builder.start();
    let mut wire = sidecar.wire();
    for (request, reply) in [
        ("HSET h:1 name b", ":0\r\n"),
        ("HSET h:1 hp 5", ":0\r\n"),
        ("HSET h:2 name c", ":1\r\n"),
        ("DEL h:2", ":1\r\n"),
        ("SET z:a v PX 300", "+OK\r\n"),
        ("GET z:a", "$1\r\nv\r\n"),
        ("SADD t:1 a b", ":2\r\n"),
        ("SREM t:1 a", ":1\r\n"),
        ("RPUSH l:1 x y", ":2\r\n"),
        ("LREM l:1 0 x", ":1\r\n"),
        ("LLEN l:1", ":1\r\n"),
        ("HGET h:1 hp", "$1\r\n5\r\n"),
    ] {
        assert_eq!(wire.ask(request), reply, "{request}");
    }
    until("what was deferred is saved", || postgres.sql("SELECT hp FROM own.heroes WHERE id = 1") == "5");
    until("what has ended is swept", || metric(&sidecar, "hearthside_swept_total") > 0.0);
}

#[test]
fn what_several_mappings_lack_on_a_table_is_one_line_that_names_them() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE t (id int PRIMARY KEY, v text, w text); CREATE TABLE u (id int PRIMARY KEY, v text); \
         CREATE ROLE side LOGIN; GRANT SELECT ON t TO side",
    );
    let block = |key: &str, more: &str| {
        format!("[[caches]]\nkey = \"{key}:{{id:int}}\"\ntype = \"hash\"\nttl = \"1h\"\n{more}\n")
    };
    let query = "query = \"SELECT id, v FROM u WHERE id = $1\"\nwatch = [{ table = \"u\" }]";
    let config = block("a", "table = \"t\"\nfields = [\"v\"]")
        + &block("b", "table = \"t\"\nwrite = \"through\"")
        + &block("c", "table = \"public.t\"\nwrite = \"through\"")
        + &block("d", query)
        + &block("e", query);
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&config);
    let role = postgres.url().replace("postgres@", "side@");
    let told = text(&builder.execute_with("STORE__URL", &role, &["check", "--connect"]));
    for expected in [
        "caches[1].key: the role side lacks INSERT, UPDATE on public.t: GRANT INSERT, UPDATE ON public.t TO side \
         (also for 'c:{id:int}')\n",
        "caches[3].key: the role side lacks SELECT on public.u: GRANT SELECT ON public.u TO side (also for \
         'e:{id:int}')\n",
        "caches[0].watch: change trigger missing on t (DELETE, INSERT, TRUNCATE, UPDATE); install it with \
         `hearthside triggers --install` (also for 'b:{id:int}', 'c:{id:int}')\n",
        "caches[3].watch: change trigger missing on u (DELETE, INSERT, TRUNCATE, UPDATE); install it with \
         `hearthside triggers --install` (also for 'e:{id:int}')\n",
    ] {
        assert_eq!(told.matches(expected).count(), 1, "{expected:?} in\n{told}");
    }
    assert_eq!(told.lines().count(), 4, "{told}");
}

#[test]
fn what_an_import_needs_besides_is_a_note() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE TABLE p (id int PRIMARY KEY, v text); CREATE ROLE side");
    let config =
        "[[caches]]\nkey = \"p:{id:int}\"\ntype = \"string\"\ntable = \"p\"\nvalue = \"v\"\nwrite = \"through\"\n";
    let grants = |config: &str| {
        let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(config);
        text(&builder.execute(&["triggers", "--grants", "side"]))
    };
    let told = grants(config);
    assert!(told.contains("\nGRANT SELECT, INSERT, UPDATE ON public.p TO side;\n"), "{told}");
    assert!(
        told.contains("-- For `hearthside import` besides, until it is done:\n-- GRANT DELETE ON public.p TO side;\n")
    );
    assert!(!grants(&format!("{config}delete = \"row\"\n")).contains("import"), "it has that right");
}

#[test]
fn the_grants_for_a_query_name_the_views_and_tables_that_it_names() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE base (id int PRIMARY KEY, v text); CREATE VIEW inside AS SELECT * FROM base; \
         CREATE VIEW outside AS SELECT * FROM inside; \
         CREATE VIEW lent WITH (security_invoker = true) AS SELECT * FROM base; \
         CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); \
         CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (9); \
         INSERT INTO base VALUES (1, 'a'); INSERT INTO parts VALUES (1, 'b'); CREATE ROLE side LOGIN",
    );
    let block = |key: &str, from: &str, watched: &str| {
        format!(
            "[[caches]]\nkey = \"{key}:{{id:int}}\"\ntype = \"hash\"\n\
             query = \"SELECT id, v FROM {from} WHERE id = $1\"\nwatch = [{{ table = \"{watched}\" }}]\n"
        )
    };
    let over_views = block("a", "outside", "base") + &block("b", "parts", "parts");
    let grants = |config: &str| {
        let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(config);
        text(&builder.execute(&["triggers", "--grants", "side"]))
    };
    let printed = grants(&over_views);
    let named: Vec<&str> = printed.lines().filter(|line| line.starts_with("GRANT SELECT ON ")).collect();
    assert_eq!(named, ["GRANT SELECT ON public.outside TO side;", "GRANT SELECT ON public.parts TO side;"]);
    let lent = grants(&block("c", "lent", "base"));
    assert!(
        lent.contains("GRANT SELECT ON public.lent TO side;") && lent.contains("GRANT SELECT ON public.base TO side;"),
        "{lent}"
    );

    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&over_views).migrated();
    postgres.sql(&printed);
    let role = postgres.url().replace("postgres@", "side@");
    let checked = builder.execute_with("STORE__URL", &role, &["check", "--connect"]);
    assert!(checked.status.success(), "{}", text(&checked));
    let sidecar = builder.set("STORE__URL", role).start();
    let mut wire = sidecar.wire();
    assert_eq!((wire.ask("HGET a:1 v"), wire.ask("HGET b:1 v")), ("$1\r\na\r\n".into(), "$1\r\nb\r\n".into()));
}

#[test]
fn what_stands_behind_a_semicolon_in_a_query_is_refused_and_not_run() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE TABLE t (id int PRIMARY KEY, v text)");
    for behind in ["COMMIT; DROP TABLE t", "DROP TABLE t", "DROP TABLE t;"] {
        let config = format!(
            "[[caches]]\nkey = \"t:{{id:int}}\"\ntype = \"hash\"\nwatch = [{{ table = \"t\" }}]\n\
             query = \"SELECT id, v FROM t WHERE id = $1 ORDER BY 1; {behind}\"\n"
        );
        let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(&config);
        for arguments in [&["check", "--connect"][..], &["triggers", "--grants", "side"]] {
            let done = builder.execute(arguments);
            let said = text(&done);
            assert!(!done.status.success() && said.contains("multiple commands"), "{arguments:?}: {said}");
            assert_eq!(postgres.sql("SELECT count(*) FROM t"), "0");
        }
    }
}

/// What is taken from a role while a sidecar runs, what it is told, and what gives it back.
const TAKEN: [(&str, &str, &str); 4] = [
    (
        "REVOKE SELECT ON s.t FROM side",
        "lacks SELECT on s.t: GRANT SELECT ON s.t TO side",
        "GRANT SELECT ON s.t TO side",
    ),
    (
        "REVOKE USAGE ON SCHEMA s FROM side",
        "lacks USAGE on the schema s: GRANT USAGE ON SCHEMA s TO side",
        "GRANT USAGE ON SCHEMA s TO side",
    ),
    // It has the right as a member of another role.
    (
        "REVOKE SELECT ON s.t FROM side; GRANT SELECT ON s.t TO readers; REVOKE readers FROM side",
        "lacks SELECT on s.t: GRANT SELECT ON s.t TO side",
        "GRANT readers TO side",
    ),
    ("REVOKE readers FROM side", "lacks SELECT on s.t: GRANT SELECT ON s.t TO side", "GRANT SELECT ON s.t TO side"),
];

#[test]
fn a_right_to_read_that_is_taken_away_while_it_runs_is_named_everywhere() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v text); INSERT INTO s.t VALUES (1, 'a'); \
         CREATE TABLE u (id int PRIMARY KEY, v text); INSERT INTO u VALUES (1, 'a'); \
         CREATE ROLE readers; CREATE ROLE side LOGIN; ALTER ROLE side SET search_path = s, public; \
         GRANT USAGE ON SCHEMA s TO side; GRANT SELECT ON s.t, u TO side",
    );
    let block = |key: &str, more: &str| format!("[[caches]]\nkey = \"{key}:{{id:int}}\"\ntype = \"hash\"\n{more}\n");
    let config = block("t", "table = \"t\"")
        + &block("q", "query = \"SELECT id, v FROM t WHERE id = $1\"\nwatch = [{ table = \"t\" }]")
        + &block("u", "table = \"u\"");
    let side = postgres.url().replace("postgres@", "side@");
    let builder = Sidecar::builder().redis(&redis).config(&config).set("STORE__URL", &side);
    let owner = postgres.url() + "?options=-csearch_path%3Ds,public";
    for arguments in [&["migrate"][..], &["triggers", "--install"]] {
        let done = builder.execute_with("STORE__URL", &owner, arguments);
        assert!(done.status.success(), "{}", text(&done));
    }
    let sidecar = builder.expect(&[warnings::UNFIT, warnings::NO_TRIGGERS]).start();
    let mut wire = sidecar.wire();
    for (taken, expected, given) in TAKEN {
        for key in ["t:1", "q:1", "u:1"] {
            until("it is served", || wire.ask(&format!("HGET {key} v")) == "$1\r\na\r\n");
        }
        postgres.sql(taken);
        let up = |key: &str| metric(&sidecar, &format!("hearthside_mapping_up{{mapping=\"{key}:{{id:int}}\"}}"));
        until("it is seen", || up("t") == 0.0 && up("q") == 0.0);
        let (status, body) = request(&sidecar, "GET", "/readyz?verbose");
        assert!(status == 200 && body.contains(expected), "{taken}: missing {expected:?} in {body}");
        assert!(body.contains("mapping 't:{id:int}': does not fit") && !body.contains("no table"), "{taken}: {body}");
        let told = wire.ask("HGET t:1 v");
        assert!(told.contains(expected), "{taken}: {told}");
        assert_eq!(wire.ask("HGET u:1 v"), "$1\r\na\r\n", "everything else is served");
        postgres.sql(given);
    }
    until("it is served again", || wire.ask("HGET t:1 v") == "$1\r\na\r\n");
}

#[test]
fn a_role_with_rights_on_the_shown_columns_alone_is_served() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql(
        "CREATE TABLE t (id int PRIMARY KEY, v text, secret text); INSERT INTO t VALUES (1, 'a', 'b'); \
         CREATE ROLE side LOGIN; GRANT SELECT (id, v) ON t TO side",
    );
    let config = "[[caches]]\nkey = \"t:{id:int}\"\ntype = \"hash\"\ntable = \"t\"\nfields = [\"v\"]\n";
    let builder = Sidecar::builder().redis(&redis).postgres(&postgres).config(config).migrated();
    let builder = builder.set("STORE__URL", postgres.url().replace("postgres@", "side@"));
    let sidecar = builder.expect(&[warnings::UNFIT]).start();
    let mut wire = sidecar.wire();
    assert_eq!(wire.ask("HGET t:1 v"), "$1\r\na\r\n");
    postgres.sql("REVOKE SELECT (v) ON t FROM side");
    until("it is seen", || {
        wire.ask("HGET t:1 v").contains("lacks SELECT on public.t: GRANT SELECT ON public.t TO side")
    });
}
