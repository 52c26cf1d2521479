//! Validates settings that are well-formed but make no sense, alone or beside each other. Each fault says what to
//! write.

use std::time::Duration;

use super::exposure::open_to_all;
use super::{AuditKeys, AuthMode, ByteSize, Faults, Feed, Pooler, PubSubMode, Settings, addresses, log_level};

/// More threads than any machine has cores are useless.
const MOST_WORKERS: usize = 1024;
/// Shorter than this no answer comes over any network.
const LEAST_PATIENCE: Duration = Duration::from_millis(10);
/// Whether a replica is up to date is asked four times in that time.
const LEAST_LAG: Duration = Duration::from_millis(100);
/// A task that runs more often would do nothing else.
const LEAST_INTERVAL: Duration = Duration::from_millis(1);

pub(super) fn check(settings: &Settings, faults: &mut Faults) {
    counts(settings, faults);
    sizes(settings, faults);
    durations(settings, faults);
    pairs(settings, faults);
    tls(settings, faults);
    addresses::check(settings, faults);
    denied(settings, faults);
    if let Err(text) = log_level::check(&settings.log.level) {
        faults.add("log.level", text);
    }
    for address in open_to_all(settings) {
        let message = format!(
            "'{address}' is beyond loopback, and whoever reaches it may do everything. Set auth.mode, listen on \
             loopback or a Unix socket, or say security.allow_no_auth = true"
        );
        faults.add("server.listen", message);
    }
    audit(settings, faults);
    settings.traces.check(faults);
    let store = &settings.store.url;
    if !["postgres://", "postgresql://", "sqlite://"].iter().any(|scheme| store.starts_with(scheme)) {
        faults.add("store.url", "must begin with postgres:// or sqlite://");
    }
    feed_url(&settings.store, faults);
    if settings.store.feed == Feed::Outbox && store.starts_with("sqlite:") {
        faults
            .add("store.feed", "\"outbox\" is for Postgres, and store.url is SQLite, whose file is watched as a whole");
    }
}

fn audit(settings: &Settings, faults: &mut Faults) {
    let audit = &settings.audit;
    if audit.keys == AuditKeys::Hashed && audit.secret.is_empty() {
        faults.add("audit.secret", "is needed where keys are hashed: anybody could guess them (openssl rand -hex 32)");
    }
    for (setting, file) in [("journal.path", &settings.journal.path), ("cache.warm", &settings.cache.warm)] {
        if audit.file == *file && !file.as_os_str().is_empty() {
            faults.add("audit.file", format!("is the file of {setting}; lines would be written into it"));
        }
    }
    if audit.file.is_dir() {
        faults.add("audit.file", "is a folder; name a file in it");
    }
}

/// What a pooler cannot carry needs a way past it.
fn feed_url(store: &super::Store, faults: &mut Faults) {
    let (is_sqlite, url) = (store.url.starts_with("sqlite:"), &store.feed_url);
    let is_postgres = |url: &str| ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
    if !store.read_url.is_empty() && !is_postgres(&store.read_url) {
        faults.add("store.read_url", "must begin with postgres://");
    }
    if is_sqlite && (!url.is_empty() || store.pooler != Pooler::None) {
        faults.add("store.feed_url", "and store.pooler are for Postgres, and store.url is SQLite");
    } else if !url.is_empty() && !is_postgres(url) {
        faults.add("store.feed_url", "must begin with postgres://");
    } else if url.is_empty() && store.pooler != Pooler::None {
        faults.add("store.feed_url", "is needed behind a pooler, which carries no change feed: write the server's own");
    }
}

fn counts(settings: &Settings, faults: &mut Faults) {
    let limits = &settings.limits;
    for (path, number) in [
        ("upstream.lanes", settings.upstream.lanes),
        ("upstream.pinned_max", settings.upstream.pinned_max),
        ("store.max_connections", settings.store.max_connections as usize),
        ("store.breaker_failures", settings.store.breaker_failures as usize),
        ("limits.clients", limits.clients),
        ("limits.request_arguments", limits.request_arguments),
        ("journal.flush_rows", settings.journal.flush_rows),
        ("cache.warm_rate", settings.cache.warm_rate as usize),
        ("tracking.max_keys", settings.tracking.max_keys),
        ("verify.per_second", settings.verify.per_second as usize),
    ] {
        if number == 0 {
            faults.add(path, "must be at least 1");
        }
    }
    for (path, number) in [("server.workers", settings.server.workers), ("upstream.lanes", settings.upstream.lanes)] {
        if number > MOST_WORKERS {
            let cores = if path == "server.workers" { "; 0: one per core" } else { "" };
            faults.add(path, format!("must be at most {MOST_WORKERS}{cores}"));
        }
    }
    if settings.cache.ttl_jitter > 90 {
        faults.add("cache.ttl_jitter", "is a percentage of at most 90");
    }
}

/// With less than this nothing would be read, sent or kept.
fn sizes(settings: &Settings, faults: &mut Faults) {
    let (limits, kb, mb) = (&settings.limits, 1 << 10, 1 << 20);
    for (path, ByteSize(size), least) in [
        ("limits.request_argument", limits.request_argument, kb),
        ("limits.request", limits.request, 16 * kb),
        ("limits.pipeline", limits.pipeline, 16 * kb),
        ("limits.buffers", limits.buffers, mb),
        ("limits.client_output", limits.client_output, 16 * kb),
        ("pubsub.subscriber_output", settings.pubsub.subscriber_output, 16 * kb),
        ("upstream.queue_bytes", settings.upstream.queue_bytes, kb),
        ("cache.max_bytes", settings.cache.max_bytes, 64 * kb),
        ("journal.max_bytes", settings.journal.max_bytes, 4 * kb),
    ] {
        if size < least {
            faults.add(path, format!("must be at least \"{}\"", ByteSize(least)));
        }
    }
}

fn durations(settings: &Settings, faults: &mut Faults) {
    let (store, upstream, limits) = (&settings.store, &settings.upstream, &settings.limits);
    for (path, duration, least) in [
        ("store.poll_interval", store.poll_interval, LEAST_INTERVAL),
        ("store.schema_interval", store.schema_interval, LEAST_PATIENCE),
        ("store.heartbeat_interval", store.heartbeat_interval, LEAST_PATIENCE),
        ("store.query_timeout", store.query_timeout, LEAST_PATIENCE),
        ("store.queue_timeout", store.queue_timeout, LEAST_PATIENCE),
        ("store.connect_timeout", store.connect_timeout, LEAST_PATIENCE),
        ("upstream.connect_timeout", upstream.connect_timeout, LEAST_PATIENCE),
        ("upstream.queue_timeout", upstream.queue_timeout, LEAST_PATIENCE),
        ("upstream.ping_interval", upstream.ping_interval, LEAST_PATIENCE),
        ("upstream.ping_timeout", upstream.ping_timeout, LEAST_PATIENCE),
        ("upstream.read_lag", upstream.read_lag, LEAST_LAG),
        ("limits.client_output_timeout", limits.client_output_timeout, LEAST_PATIENCE),
        ("cache.max_staleness", settings.cache.max_staleness, LEAST_INTERVAL),
        ("journal.flush_interval", settings.journal.flush_interval, LEAST_INTERVAL),
    ] {
        if duration < least {
            faults.add(path, format!("must be at least \"{}ms\"", least.as_millis()));
        }
    }
    for (path, duration, least) in [
        ("store.sweep_interval", store.sweep_interval, LEAST_PATIENCE),
        ("upstream.command_timeout", upstream.command_timeout, LEAST_PATIENCE),
        ("cache.refresh", settings.cache.refresh, LEAST_PATIENCE),
    ] {
        if !duration.is_zero() && duration < least {
            faults.add(path, format!("must be at least \"{}ms\"; \"0s\": never", least.as_millis()));
        }
    }
}

/// Two settings of which one makes the other useless.
fn pairs(settings: &Settings, faults: &mut Faults) {
    let (store, limits) = (&settings.store, &settings.limits);
    let mut require = |sound: bool, path: &str, message: &str| {
        if !sound {
            faults.add(path, message);
        }
    };
    require(
        store.heartbeat_timeout > store.heartbeat_interval,
        "store.heartbeat_timeout",
        "must be longer than store.heartbeat_interval, or every heartbeat is a gap, which empties the cache; write \
         twice that or more",
    );
    require(
        store.load_pause < store.queue_timeout,
        "store.load_pause",
        "must be shorter than store.queue_timeout, which is how long a load waits for its turn",
    );
    let softs = [
        ("client_output_soft", limits.client_output_soft, limits.client_output_soft_time),
        ("subscriber_output_soft", limits.subscriber_output_soft, limits.subscriber_output_soft_time),
    ];
    for (name, ByteSize(size), time) in softs {
        let path = format!("limits.{name}_time");
        let message = format!("must be at least \"10ms\", or who is past limits.{name} for a moment is cut");
        require(size == 0 || time >= LEAST_PATIENCE, &path, &message);
    }
    require(
        limits.client_output_soft <= limits.client_output,
        "limits.client_output_soft",
        "must not be more than limits.client_output: past that a client is not read, and this is never reached",
    );
    let hides_logins = settings.pubsub.mode == PubSubMode::Shared && settings.auth.mode == AuthMode::Upstream;
    require(
        !hides_logins,
        "pubsub.mode",
        "\"shared\" would hide from the upstream who subscribes, which auth.mode = \"upstream\" is for",
    );
}

fn tls(settings: &Settings, faults: &mut Faults) {
    let has_tls = settings.server.listen.iter().any(|address| address.starts_with("rediss://"));
    if has_tls && settings.tls.cert_file.is_empty() {
        faults.add("tls.cert_file", "a rediss:// address of server.listen needs a certificate");
    }
    if settings.tls.cert_file.is_empty() != settings.tls.key_file.is_empty() {
        faults.add("tls.key_file", "a certificate and its key go together: set both, or neither");
    }
}

/// What can be no command, and would deny nothing. Modules' commands may have any name that one can write.
fn denied(settings: &Settings, faults: &mut Faults) {
    let is_word = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    for (i, entry) in settings.security.deny.iter().enumerate() {
        let words: Vec<&str> = entry.split_whitespace().collect();
        if !matches!(words.len(), 1 | 2) || !words.iter().all(|word| is_word(word)) {
            faults.add(
                format!("security.deny[{i}]"),
                format!("'{entry}' is no command; write its name, \"FLUSHALL\", or with a subcommand, \"CONFIG SET\""),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Settings, read};

    fn faults(text: &str) -> String {
        read("test.toml", text, std::iter::empty()).faults.to_string()
    }

    /// A setting with a value that would break the service, and what the fault says.
    const BREAK: &[(&str, &str)] = &[
        ("log.level = \"verbose\"", "log.level: 'verbose' is no level"),
        ("log.level = \"info,hearthside::cache=loud\"", "log.level: 'loud' is no level"),
        ("log.level = \"\"", "log.level: '' is no level"),
        ("limits.pipeline = \"0b\"", "limits.pipeline: must be at least \"16kb\""),
        ("limits.request = \"0b\"", "limits.request: must be at least \"16kb\""),
        ("limits.request_argument = \"0b\"", "limits.request_argument: must be at least \"1kb\""),
        ("limits.buffers = \"0b\"", "limits.buffers: must be at least \"1mb\""),
        ("limits.client_output = 1", "limits.client_output: must be at least \"16kb\""),
        ("limits.client_output_timeout = \"0s\"", "limits.client_output_timeout: must be at least \"10ms\""),
        ("limits.client_output_soft = \"1gb\"", "limits.client_output_soft: must not be more than"),
        (
            "limits.subscriber_output_soft_time = \"0s\"",
            "limits.subscriber_output_soft_time: must be at least \"10ms\"",
        ),
        ("cache.max_bytes = \"0b\"", "cache.max_bytes: must be at least \"64kb\""),
        ("journal.max_bytes = \"0b\"", "journal.max_bytes: must be at least \"4kb\""),
        ("pubsub.subscriber_output = \"0b\"", "pubsub.subscriber_output: must be at least \"16kb\""),
        ("upstream.queue_bytes = \"0b\"", "upstream.queue_bytes: must be at least \"1kb\""),
        ("upstream.queue_timeout = \"0s\"", "upstream.queue_timeout: must be at least \"10ms\""),
        ("upstream.ping_timeout = \"0s\"", "upstream.ping_timeout: must be at least \"10ms\""),
        ("upstream.command_timeout = \"1ms\"", "upstream.command_timeout: must be at least \"10ms\"; \"0s\": never"),
        ("upstream.lanes = 5000", "upstream.lanes: must be at most 1024"),
        ("store.query_timeout = \"1us\"", "store.query_timeout: must be at least \"10ms\""),
        ("store.poll_interval = \"1ns\"", "store.poll_interval: must be at least \"1ms\""),
        ("store.breaker_failures = 0", "store.breaker_failures: must be at least 1"),
        ("cache.warm_rate = 0", "cache.warm_rate: must be at least 1"),
        ("verify.per_second = 0", "verify.per_second: must be at least 1"),
        ("store.heartbeat_timeout = \"2s\"", "store.heartbeat_timeout: must be longer than store.heartbeat_interval"),
        ("server.workers = 100000", "server.workers: must be at most 1024; 0: one per core"),
        ("server.listen = [\"127.0.0.1\"]", "server.listen[0]: '127.0.0.1' has no port; write host:port"),
        ("server.listen = [\"127.0.0.1:99999\"]", "server.listen[0]: '127.0.0.1:99999': 99999 is no port"),
        (
            "server.listen = [\":6380\"]\nsecurity.allow_no_auth = true",
            "server.listen[0]: ':6380' has no host; write host:port",
        ),
        (
            "server.listen = [\"::1:6380\"]\nsecurity.allow_no_auth = true",
            "server.listen[0]: '::1:6380': write an IPv6 address in brackets",
        ),
        (
            "server.listen = [\"redis://127.0.0.1:1\"]\nsecurity.allow_no_auth = true",
            "server.listen[0]: 'redis://127.0.0.1:1' is no address",
        ),
        ("server.listen = [\"unix://\"]\nsecurity.allow_no_auth = true", "server.listen[0]: 'unix://' has no path"),
        (
            "server.listen = [\"127.0.0.1:1\", \"127.0.0.1:1\"]",
            "server.listen[1]: '127.0.0.1:1' is the same port as '127.0.0.1:1' of server.listen[0]",
        ),
        ("server.listen = [\"unix:///a\", \"unix:///a\"]", "server.listen[1]: 'unix:///a' is the same"),
        ("admin.listen = \"127.0.0.1:6380\"", "admin.listen: '127.0.0.1:6380' is the same port as"),
        ("audit.file = \"j\"\njournal.path = \"j\"", "audit.file: is the file of journal.path"),
        ("audit.file = \"/\"", "audit.file: is a folder"),
        ("admin.listen = \"127.0.0.1\"", "admin.listen: '127.0.0.1' has no port"),
        ("security.deny = [\"*\"]", "security.deny[0]: '*' is no command"),
        ("security.deny = [\"GET\", \"\"]", "security.deny[1]: '' is no command"),
        ("security.deny = [\"@admin\"]", "security.deny[0]: '@admin' is no command"),
        ("security.deny = [\"CONFIG|SET\"]", "security.deny[0]: 'CONFIG|SET' is no command"),
    ];

    #[test]
    fn settings_that_would_break_the_service_are_faults_that_say_what_to_write() {
        for (line, expected) in BREAK {
            let told = faults(line);
            assert!(told.starts_with(&format!("test.toml:1: {expected}")), "{line}: {told}");
            let others = told.lines().skip(1).filter(|other| !other.contains("is beyond loopback"));
            assert_eq!(others.count(), 0, "{line}: {told}");
        }
    }

    #[test]
    fn unusual_settings_that_work_are_none() {
        for line in [
            "log.level = \"warn\"",
            "log.level = \"OFF\"",
            "log.level = \"info,hearthside::cache=debug,sqlx=off,hearthside::store\"",
            "security.deny = [\"FT.SEARCH\", \"ft.config set\", \"my-command\", \" debug \"]",
            "server.listen = [\"127.0.0.1:0\", \"127.0.0.1:0\", \"[::1]:6380\", \"localhost:7000\", \"unix:///tmp/s\"]",
            "server.listen = [\"127.0.0.1:1\", \"127.0.0.2:1\"]",
            "admin.listen = \"\"",
            "limits.client_output_soft = \"0b\"\nlimits.client_output_soft_time = \"0s\"",
        ] {
            assert_eq!(faults(line), "", "{line}");
        }
        let mut defaults = super::Faults::default();
        super::check(&Settings::default(), &mut defaults);
        assert!(defaults.is_empty(), "{defaults}");
    }
}
