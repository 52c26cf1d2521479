//! What `hearthside check` says of addresses: plain, it asks nobody; with `--connect`, who does not answer is named.

use std::net::TcpListener;
use std::process::Output;

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::sidecar::{Builder, Sidecar};
use crate::support::{free_port, until};

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn connect(builder: &Builder) -> String {
    let output = builder.execute(&["check", "--connect"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    told(&output)
}

/// A listener that nobody is to reach.
fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    listener.set_nonblocking(true).expect("a socket");
    let port = listener.local_addr().expect("bound").port();
    (listener, port)
}

#[test]
fn a_plain_check_asks_none_of_the_addresses_by_number_or_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 store.example feed.example redis.example\n").expect("written");
    for [store, feed, redis] in [["127.0.0.1"; 3], ["store.example", "feed.example", "redis.example"]] {
        let all = [listener(), listener(), listener(), listener(), listener()];
        let ports: Vec<u16> = all.iter().map(|(_, port)| *port).collect();
        let builder = Sidecar::builder()
            .set("STORE__URL", format!("postgres://u@{store}:{}/d?sslmode=disable", ports[0]))
            .set("STORE__FEED_URL", format!("postgres://u@{feed}:{}/d?sslmode=disable", ports[1]))
            .set("UPSTREAM__URL", format!("redis://{redis}:{}", ports[2]))
            .set("SERVER__LISTEN", format!("127.0.0.1:{}", ports[3]))
            .set("ADMIN__LISTEN", format!("127.0.0.1:{}", ports[4]))
            .environment("NSS_WRAPPER_HOSTS", hosts.display().to_string());
        let builder = if store == "127.0.0.1" { builder } else { builder.preload("libnss_wrapper.so") };
        let output = builder.execute(&["check"]);
        assert!(output.status.success(), "{}", told(&output));
        for (i, (listener, _)) in all.iter().enumerate() {
            assert!(listener.accept().is_err(), "somebody came to address {i}");
        }
        // The names lead to the listeners: who asks comes to them.
        let output = builder.set("UPSTREAM__CONNECT_TIMEOUT", "100ms").set("STORE__CONNECT_TIMEOUT", "100ms");
        assert_eq!(output.execute(&["check", "--connect"]).status.code(), Some(2));
        assert!(all[0].0.accept().is_ok() && all[2].0.accept().is_ok(), "{store}");
    }
}

#[test]
fn who_does_not_answer_is_named_with_host_and_port() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    let port = free_port();
    let both = || Sidecar::builder().redis(&redis).postgres(&postgres);
    for (host, how) in [("127.0.0.1", "refused"), ("nowhere.invalid", "")] {
        let url = |scheme: &str| format!("{scheme}://u:secret@{host}:{port}");
        let store = connect(&both().set("STORE__URL", url("postgres")));
        let feed = connect(&both().set("STORE__FEED_URL", url("postgres")));
        let upstream = connect(&both().set("UPSTREAM__URL", url("redis")));
        for (told, expected) in [
            (store, format!("store.url: the store does not answer: {host}:{port}: ")),
            (feed, format!("the store does not answer: store.feed_url: {host}:{port}: ")),
            (upstream, format!("upstream.url: redis://{host}:{port} does not answer: ")),
        ] {
            assert!(told.contains(&expected) && told.contains(how), "{expected}: {told}");
            assert!(!told.contains("secret"), "{told}");
        }
    }
}

#[test]
fn a_refused_login_and_a_database_that_is_not_there_are_named_without_the_password() {
    let (redis, postgres) = (Redis::start(), Postgres::start());
    postgres.sql("CREATE ROLE side LOGIN PASSWORD 'right'");
    let file = postgres.sql("SHOW hba_file");
    postgres.sql(&format!("COPY (VALUES ('host all side all scram-sha-256'), ('host all all all trust')) TO '{file}'"));
    postgres.sql("SELECT pg_reload_conf()");
    let at = format!("127.0.0.1:{}", postgres.port);
    let over = |login: &str, database: &str| {
        let url = format!("postgres://{login}@{at}/{database}");
        Sidecar::builder().redis(&redis).postgres(&postgres).set("STORE__URL", url)
    };
    until("the rule for logins is in force", || {
        told(&over("side:mistyped", "postgres").execute(&["check", "--connect"])).contains("password")
    });
    for (builder, expected) in [
        (over("side:mistyped", "postgres"), format!("{at}: password authentication failed for user \"side\"")),
        (over("nobody:mistyped", "postgres"), format!("{at}: role \"nobody\" does not exist")),
        (over("postgres", "nowhere"), format!("{at}: database \"nowhere\" does not exist")),
        (
            over("side:right", "postgres").set("STORE__FEED_URL", format!("postgres://side:mistyped@{at}/postgres")),
            format!("store.feed_url: {at}: password authentication failed for user \"side\""),
        ),
    ] {
        let told = connect(&builder);
        assert!(told.contains("store.url: ") && told.contains(&expected), "{expected}: {told}");
        assert!(!told.contains("mistyped"), "{told}");
    }
}

#[test]
fn lists_of_hosts_and_a_ttl_below_a_millisecond_are_refused_where_they_stand() {
    let check = |url: &str, feed_url: &str| {
        let builder = Sidecar::builder().set("STORE__URL", url).set("STORE__FEED_URL", feed_url);
        told(&builder.execute(&["check"]))
    };
    let (one, several) = ("postgres://u@127.0.0.1/d", "postgres://u:secret@a.example:5432,b.example/d");
    let why = "STORE__FEED_URL: store.feed_url: names several hosts, and must lead to one server";
    assert!(check(one, several).contains(why), "{}", check(one, several));
    for (parameters, why) in [
        ("target_session_attrs=master", "target_session_attrs is \"master\", and can be any, read-write"),
        ("load_balance_hosts=always", "load_balance_hosts is \"always\", and can be disable or random"),
        ("hostaddr=10.0.0.1", "hostaddr, which is not supported"),
        ("port=1,2,3", "names 2 hosts and 3 ports"),
    ] {
        let told = check(&format!("{several}?{parameters}"), "");
        assert!(told.contains("STORE__URL: store.url: ") && told.contains(why), "{parameters}: {told}");
        assert!(!told.contains("secret"), "{told}");
    }
    let told_of_both = check(several, one);
    assert!(told_of_both.contains("several hosts are followed only without store.pooler"), "{told_of_both}");
    for value in ["999us", "1ns", "0s"] {
        let config = format!("[[caches]]\nkey = \"a:{{id}}\"\ntype = \"hash\"\ntable = \"t\"\nttl = \"{value}\"\n");
        let told = told(&Sidecar::builder().config(&config).execute(&["check"]));
        assert!(told.contains("config.toml:5: caches[0].ttl: must be at least \"1ms\""), "{value}: {told}");
    }
}
