//! Reads `upstream.url`: where the upstream is, the login, TLS and the database. The only door to the `redis` crate's
//! reader of URLs, to which each host is given alone.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use super::target::{Access, Address, Host, Target};
use super::tls::{self, Tls};
use super::topology::{Hosts, Members, Sentinels, Topology};
use crate::config;

/// What is behind a URL.
#[derive(Clone, Copy)]
enum Kind {
    Single,
    Sentinel,
    Cluster,
}

/// What is there, without `://`: its scheme, whether it is encrypted, and what is behind it.
const SCHEMES: [(&str, bool, Kind); 12] = [
    ("redis", false, Kind::Single),
    ("valkey", false, Kind::Single),
    ("rediss", true, Kind::Single),
    ("valkeys", true, Kind::Single),
    ("redis+sentinel", false, Kind::Sentinel),
    ("valkey+sentinel", false, Kind::Sentinel),
    ("rediss+sentinel", true, Kind::Sentinel),
    ("valkeys+sentinel", true, Kind::Sentinel),
    ("redis+cluster", false, Kind::Cluster),
    ("valkey+cluster", false, Kind::Cluster),
    ("rediss+cluster", true, Kind::Cluster),
    ("valkeys+cluster", true, Kind::Cluster),
];
/// Of a Unix socket; the `redis` crate reads what follows.
const UNIX: [&str; 3] = ["unix:", "redis+unix:", "valkey+unix:"];

const FORMS: &str = "write redis://[user:password@]host:port[/db], rediss://, unix:///path, \
     redis+sentinel://host:port,.../service or redis+cluster://host:port,...";
const SENTINEL_FORM: &str = "write redis+sentinel://[user:password@]host:port,host:port.../service[/db]";
const HOSTS_FORM: &str = "write redis://[user:password@]host:port,host:port...[/db]";
const CLUSTER_FORM: &str = "write redis+cluster://[user:password@]host:port,host:port...";
/// The port of a sentinel, and of a server.
const SENTINEL_PORT: u16 = 26379;
const SERVER_PORT: u16 = 6379;

impl Topology {
    /// Reads `[upstream]`'s `url`, and what belongs to it.
    ///
    /// # Errors
    /// What is wrong with them; never the password.
    pub fn parse(settings: &config::Upstream) -> Result<Self, String> {
        let url = settings.url.as_str();
        if UNIX.iter().any(|scheme| url.starts_with(scheme)) {
            return single(url, None).map(Self::Single);
        }
        let known = url.split_once("://").and_then(|(scheme, rest)| {
            SCHEMES.iter().find(|(name, ..)| name.eq_ignore_ascii_case(scheme)).map(|known| (known, rest))
        });
        let Some((&(_, is_tls, kind), rest)) = known else {
            return Err(
                "must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// (or with \
                        rediss+... for TLS)"
                    .into(),
            );
        };
        if rest.ends_with("#insecure") {
            return Err("'#insecure' is not supported; say what must be verified in upstream.tls_verify".into());
        }
        if let Some((_, query)) = rest.split_once('?')
            && let Some(db) = query.split('&').find_map(|part| part.strip_prefix("db="))
        {
            let text = "'?db=' is for unix:// only, and nobody would read it; write the database behind a slash: /";
            return Err(format!("{text}{db}"));
        }
        let tls = is_tls.then(|| tls::client(settings)).transpose()?;
        match kind {
            Kind::Sentinel => sentinels(rest, settings, tls).map(Self::Sentinels),
            Kind::Cluster => cluster(rest, tls).map(Self::Cluster),
            Kind::Single if names_several(rest) => hosts(rest, tls).map(Self::Hosts),
            Kind::Single => single(&format!("redis://{rest}"), tls).map(Self::Single),
        }
    }
}

/// The `redis` crate's reading.
fn read(url: &str, forms: &str) -> Result<ConnectionInfo, String> {
    url.into_connection_info().map_err(|error| {
        let text = error.to_string().replace("- InvalidClientConfig", "");
        format!("cannot be read ({}); {forms}", text.trim())
    })
}

fn address(info: &ConnectionInfo) -> Result<Address, String> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => Ok(Address::Net(Host { name: host.clone(), port: *port })),
        ConnectionAddr::Unix(path) => Ok(Address::Unix(path.clone())),
        _ => Err(format!("cannot be read; {FORMS}")),
    }
}

fn single(url: &str, tls: Option<Tls>) -> Result<Target, String> {
    let info = read(url, FORMS)?;
    let access = Access { login: info.redis_settings().clone(), tls };
    Ok(Target::new(address(&info)?, Arc::new(access)))
}

/// There is more than one host behind the login.
fn names_several(rest: &str) -> bool {
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    authority.rsplit('@').next().is_some_and(|hosts| hosts.contains(','))
}

/// A primary and its replicas: `[user:password@]host:port,host:port...[/db]`.
fn hosts(rest: &str, tls: Option<Tls>) -> Result<Hosts, String> {
    let (hosts, access) = read_list(rest, tls, HOSTS_FORM)?;
    Ok(Hosts { hosts, access })
}

/// What stands behind the scheme of sentinels: `[user:password@]host:port,host:port.../service[/db]`.
fn sentinels(rest: &str, settings: &config::Upstream, tls: Option<Tls>) -> Result<Sentinels, String> {
    if rest.contains(['?', '#']) {
        return Err(format!("has nothing behind the service and the database; {SENTINEL_FORM}"));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = authority.rsplit_once('@').map_or(("", authority), |(login, hosts)| (login, hosts));
    let (service, db) = path.split_once('/').unwrap_or((path, ""));
    let service = percent_decode_str(service).decode_utf8_lossy().into_owned();
    if service.is_empty() {
        return Err(format!("names no service that the sentinels watch over; {SENTINEL_FORM}"));
    }
    let master = read(&format!("redis://{login}@localhost/{db}"), SENTINEL_FORM)?.redis_settings().clone();
    let hosts = read_hosts(hosts, SENTINEL_PORT, SENTINEL_FORM)?;
    Ok(Sentinels {
        hosts,
        service,
        access: Arc::new(Access { login: sentinel_login(settings), tls: tls.clone() }),
        master: Arc::new(Access { login: master, tls }),
    })
}

/// What stands behind the scheme of a cluster: `[user:password@]host:port,host:port...`, and perhaps `/0`.
fn cluster(rest: &str, tls: Option<Tls>) -> Result<Members, String> {
    let (hosts, access) = read_list(rest, tls, CLUSTER_FORM)?;
    Ok(Members { hosts, access })
}

/// Servers that have one login.
fn read_list(rest: &str, tls: Option<Tls>, form: &str) -> Result<(Vec<Host>, Arc<Access>), String> {
    if rest.contains(['?', '#']) {
        return Err(format!("has nothing behind the hosts; {form}"));
    }
    let (authority, db) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = authority.rsplit_once('@').map_or(("", authority), |(login, hosts)| (login, hosts));
    let login = read(&format!("redis://{login}@localhost/{db}"), form)?.redis_settings().clone();
    Ok((read_hosts(hosts, SERVER_PORT, form)?, Arc::new(Access { login, tls })))
}

/// Hosts with commas between them; one that names no port has this one.
fn read_hosts(text: &str, port: u16, form: &str) -> Result<Vec<Host>, String> {
    let read_host = |text: &str| {
        // What follows an IPv6 address is behind its bracket.
        let has_port = text.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        let url = if has_port { format!("redis://{text}") } else { format!("redis://{text}:{port}") };
        match address(&read(&url, form)?)? {
            Address::Net(host) => Ok(host),
            Address::Unix(_) => Err(format!("cannot be read; {form}")),
        }
    };
    text.split(',').map(read_host).collect()
}

fn sentinel_login(settings: &config::Upstream) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default();
    if !settings.sentinel_username.is_empty() {
        login = login.set_username(&settings.sentinel_username);
    }
    if !settings.sentinel_password.is_empty() {
        login = login.set_password(&settings.sentinel_password);
    }
    login
}

#[cfg(test)]
mod tests {
    use super::{Address, Host, Sentinels, Target, Topology};
    use crate::config;

    fn parse(url: &str) -> Result<Topology, String> {
        Topology::parse(&config::Upstream { url: url.into(), ..Default::default() })
    }

    fn single(url: &str) -> Target {
        match parse(url) {
            Ok(Topology::Single(target)) => target,
            other => panic!("{url}: {other:?}"),
        }
    }

    fn sentinels(url: &str) -> Sentinels {
        match parse(url) {
            Ok(Topology::Sentinels(sentinels)) => sentinels,
            other => panic!("{url}: {other:?}"),
        }
    }

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.into(), port }
    }

    #[test]
    fn urls_are_read_and_never_tell_secrets() {
        let target = single("redis://ann:s3cret@example.org:7000/3");
        assert_eq!(target.address, Address::Net(host("example.org", 7000)));
        let login = &target.access.login;
        assert_eq!((login.username(), login.password(), login.db()), (Some("ann"), Some("s3cret"), 3));
        assert_eq!(target.name(), "redis://example.org:7000");
        assert_eq!(single("unix:///run/redis.sock").address, Address::Unix("/run/redis.sock".into()));
        assert_eq!(single("rediss://example.org").name(), "rediss://example.org:6379");
        for url in ["redis://127.0.0.1:7000?db=2", "rediss://127.0.0.1:7000/?protocol=resp3&db=2"] {
            assert!(parse(url).expect_err("refused").contains("behind a slash: /2"), "{url}");
        }
        assert_eq!(single("unix:///run/redis.sock?db=2").db(), 2);
        for url in
            ["http://ann:s3cret@example.org", "redis://ann:s3cret@example.org:port", "redis+sentinel://:s3cret@h"]
        {
            let error = parse(url).expect_err("refused");
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert!(!format!("{target:?}").contains("s3cret"));
    }

    #[test]
    fn several_servers_are_read() {
        let Ok(Topology::Hosts(read)) = parse("redis://ann:s3cr,et@one:7000,[::1]:7001,two/3") else {
            panic!("no list")
        };
        assert_eq!(read.hosts, [host("one", 7000), host("::1", 7001), host("two", 6379)]);
        assert_eq!((read.access.login.password(), read.access.login.db()), (Some("s3cr,et"), 3));
        assert_eq!(read.name(), "redis://one:7000,[::1]:7001,two:6379");
        let primary = read.primary(host("two", 1));
        assert!(primary.must_be_master && !read.target(host("one", 1)).must_be_master);
        assert_eq!(single("redis://ann:s3cr,et@one:7000").address, Address::Net(host("one", 7000)));
        assert!(parse("redis://one,two?db=1").expect_err("refused").contains("behind a slash"));
        assert!(parse("redis://one,two?protocol=3").expect_err("refused").contains("host:port,host:port"));
    }

    #[test]
    fn sentinels_are_read() {
        let read = sentinels("redis+sentinel://ann:s3%2Fcret@one:7000,[::1]:7001,two/my%20game/3");
        assert_eq!(read.hosts, [host("one", 7000), host("::1", 7001), host("two", 26379)]);
        assert_eq!((read.service.as_str(), read.master.login.db()), ("my game", 3));
        assert_eq!((read.master.login.username(), read.master.login.password()), (Some("ann"), Some("s3/cret")));
        assert_eq!(read.access.login.password(), None);
        assert_eq!(read.name(), "redis+sentinel://one:7000,[::1]:7001,two:26379/my game");
        let master = read.master(host("10.0.0.1", 6379));
        assert!(master.must_be_master && master.name() == "redis://10.0.0.1:6379");
        assert!(sentinels("rediss+sentinel://one/game").access.tls.is_some());
        assert_eq!(sentinels("redis+sentinel://one,two/game").master.login.username(), None);
        for wrong in [
            "redis+sentinel://one",
            "redis+sentinel://one/",
            "redis+sentinel:///game",
            "redis+sentinel://one/game/x",
            "redis+sentinel://one/game?protocol=3",
        ] {
            assert!(parse(wrong).expect_err("refused").contains(super::SENTINEL_FORM), "{wrong}");
        }
    }
}
