//! CLIENT LIST, INFO and KILL: the same clients at a server and behind the sidecar, the same questions about them, and
//! the same ones gone afterwards.

use crate::support::redis::{Redis, SERVERS, Server};
use crate::support::sidecar::Sidecar;
use crate::support::until;
use crate::support::wire::{Wire, line};

/// Some clients, each in another state, by their names. The first one asks.
struct Scene {
    port: u16,
    clients: Vec<(&'static str, Wire)>,
}

/// What each does after it has said its name.
const CLIENTS: [(&str, &[&str]); 7] = [
    ("ann", &[]),
    ("bob", &["SET a 1", "GET a"]),
    ("dan", &["HELLO 3", "SELECT 2"]),
    ("sub", &["SUBSCRIBE c"]),
    ("mul", &["WATCH a b", "MULTI", "SET a 2"]),
    ("trk", &["HELLO 3", "CLIENT TRACKING ON BCAST"]),
    ("blk", &[]),
];

/// The values of a field of all lines.
fn values(list: &str, field: &str) -> Vec<String> {
    let lines = list.lines().filter(|line| line.starts_with("id="));
    lines.map(|line| value(line, field).unwrap_or_default()).collect()
}

fn value(line: &str, field: &str) -> Option<String> {
    line.split(' ').find_map(|part| part.strip_prefix(field)?.strip_prefix('=')).map(str::to_owned)
}

fn of<'a>(list: &'a str, name: &str) -> &'a str {
    list.lines().find(|line| line.contains(&format!(" name={name} "))).unwrap_or_default()
}

/// A server turns the list of its clients now and then, and who asks from outside may still be in it.
fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}

impl Scene {
    fn at(port: u16) -> Self {
        let mut clients = Vec::new();
        for (name, requests) in CLIENTS {
            let mut wire = Wire::tcp(port);
            wire.ask(&format!("CLIENT SETNAME {name}"));
            for request in requests {
                wire.ask(request);
            }
            if name == "blk" {
                wire.send(&line("BLPOP nosuch 0"));
            }
            clients.push((name, wire));
        }
        let mut scene = Self { port, clients };
        until("one waits", || of(&scene.list(), "blk").contains(" flags=b "));
        scene
    }

    fn ann(&mut self) -> &mut Wire {
        &mut self.clients[0].1
    }

    fn list(&mut self) -> String {
        self.ann().ask("CLIENT LIST")
    }

    /// A request of the first client, in which `{name}` is an id, `{name@}` an address, and `{@}` the server's.
    fn ask(&mut self, request: &str) -> String {
        let list = self.list();
        let mut text = request.replace("{@}", &format!("127.0.0.1:{}", self.port));
        for (name, _) in CLIENTS {
            let told = |field| value(of(&list, name), field).unwrap_or_default();
            text = text.replace(&format!("{{{name}}}"), &told("id")).replace(&format!("{{{name}@}}"), &told("addr"));
        }
        self.ann().ask(&text)
    }

    /// Who is there, as somebody else sees it.
    fn names(&self) -> Vec<String> {
        sorted(values(&Wire::tcp(self.port).ask("CLIENT LIST"), "name"))
    }
}

struct Pair {
    server: Server,
    sidecar: Sidecar,
    redis: Redis,
    twin: Redis,
}

impl Pair {
    fn of(server: Server) -> Self {
        let (redis, twin) = (Redis::of(server, &[]), Redis::of(server, &[]));
        let sidecar = Sidecar::builder().redis(&redis).start();
        super::is_known(&sidecar, &twin);
        Self { server, sidecar, redis, twin }
    }

    fn scenes(&self) -> [Scene; 2] {
        [self.sidecar.port, self.twin.port].map(|port| {
            until("the last ones are gone", || values(&Wire::tcp(port).ask("CLIENT LIST"), "name") == [""]);
            Scene::at(port)
        })
    }
}

/// Asked of both, with all clients there again each time: what is killed is seen by who is left.
const QUESTIONS: &str = "
LIST TYPE normal|LIST TYPE pubsub|LIST TYPE replica|LIST TYPE slave|LIST TYPE master|LIST TYPE primary|LIST TYPE foo
LIST TYPE|LIST ID|LIST ID {bob}|LIST ID {dan} {bob} {dan}|LIST ID {bob} x|LIST ID x|LIST ID 0|LIST ID -1|LIST FOO bar
LIST ID 99999999999999999999|LIST id {bob} TYPE normal|LIST TYPE normal ID {bob}|LIST TYPE pubsub ID {bob}|LIST NAME
LIST USER default|LIST USER nosuch|LIST SKIPME yes|LIST SKIPME no|LIST SKIPME maybe|LIST MAXAGE 0|LIST MAXAGE x
LIST MAXAGE 99999|LIST IDLE 99999|LIST IDLE 0|LIST IDLE x|LIST FLAGS N|LIST FLAGS P|LIST FLAGS tB|LIST FLAGS PN
LIST FLAGS Z|LIST NOT-FLAGS N|LIST NOT-FLAGS Zx|LIST NAME bob|LIST NAME nosuch|LIST NOT-NAME bob|LIST LIB-NAME x
LIST NOT-LIB-NAME x|LIST LIB-VER y|LIST DB 2|LIST DB 0|LIST DB x|LIST DB -1|LIST NOT-DB 0|LIST CAPA r|LIST CAPA x
LIST NOT-CAPA r|LIST NOT-CAPA x|LIST IP 127.0.0.1|LIST IP 127.0.0.2|LIST NOT-IP 127.0.0.1|LIST ADDR {bob@}
LIST NOT-ADDR {bob@}|LIST LADDR {@}|LIST NOT-LADDR {@}|LIST NOT-ID {bob} {dan}|LIST NOT-ID {bob} x|LIST NOT-TYPE pubsub
LIST ID {bob} ID {dan}|LIST NOT-ID {bob} NOT-ID {dan}|LIST TYPE normal TYPE pubsub|LIST NAME bob NAME dan|LIST NOT-USER default
LIST NOT-SKIPME yes|LIST NOT-MAXAGE 5|LIST NOT-IDLE 5|LIST NAME bob SKIPME|LIST NOT-TYPE foo|LIST FLAGS b NOT-NAME bob
LIST NAME bob DB 0 TYPE normal IP 127.0.0.1 SKIPME yes USER default
KILL|KILL ID|KILL TYPE|KILL 1.1.1.1:1|KILL {bob@}|KILL {ann@}|KILL ID {bob}|KILL ID {ann}|KILL ID {ann} SKIPME no
KILL ID {ann} SKIPME yes|KILL ID 0|KILL ID x|KILL ID -1|KILL ID 99999999999999999999|KILL ID {bob} {dan}|KILL ID {bob} x
KILL ID {bob} ID {dan}|KILL TYPE normal|KILL TYPE normal SKIPME no|KILL TYPE normal SKIPME yes|KILL TYPE pubsub
KILL TYPE master|KILL TYPE primary|KILL TYPE replica|KILL TYPE foo|KILL TYPE pubsub TYPE normal|KILL SKIPME yes
KILL SKIPME no|KILL SKIPME no SKIPME yes|KILL SKIPME yes SKIPME no|KILL SKIPME maybe|KILL USER default|KILL USER nosuch
KILL USER nosuch SKIPME no|KILL USER default SKIPME no|KILL USER nosuch ID {bob}|KILL USER other|KILL USER other ID {bob}
KILL ADDR {bob@}|KILL ADDR {ann@}|KILL ADDR {ann@} SKIPME no|KILL ADDR {bob@} LADDR|KILL ADDR|KILL LADDR {@}
KILL LADDR 1.1.1.1:1|KILL ADDR {bob@} LADDR {@}|KILL ADDR {bob@} LADDR 1.1.1.1:1|KILL ADDR {bob@} ID {bob} TYPE normal
KILL MAXAGE 0|KILL MAXAGE x|KILL MAXAGE -5|KILL MAXAGE 99999|KILL FOO bar|KILL TYPE normal FOO|KILL addr {bob@} type pubsub
KILL NAME bob|KILL NOT-NAME bob|KILL FLAGS x|KILL DB 2|KILL IP 127.0.0.1|KILL IDLE 99999|KILL NOT-TYPE normal|KILL LIB-NAME x
KILL FLAGS b SKIPME no|KILL NOT-ID {bob} NOT-FLAGS P|KILL CAPA r|KILL NOT-USER default
";

/// The names that a reply lists, or what else it says.
fn told(reply: &str, in_order: bool) -> Vec<String> {
    match reply.starts_with('$') {
        true if in_order => values(reply, "name"),
        true => sorted(values(reply, "name")),
        false => vec![reply.to_owned()],
    }
}

/// Waits until those who left are not counted any more.
fn only_their_own(scenes: &mut [Scene; 2]) {
    let has_its_own = |scene: &mut Scene| values(&scene.ask("CLIENT LIST"), "id").len() == CLIENTS.len();
    until("who left is not counted any more", || scenes.iter_mut().all(has_its_own));
}

fn questions(server: Server) {
    let pair = Pair::of(server);
    for redis in [&pair.redis, &pair.twin] {
        redis.wire().ask("ACL SETUSER other on nopass +@all");
    }
    let mut scenes = pair.scenes();
    for question in QUESTIONS.split(['|', '\n']).filter(|question| !question.is_empty()) {
        only_their_own(&mut scenes);
        let in_order = question.starts_with("LIST ID") && server != Server::Valkey91;
        let [ours, theirs] = scenes.each_mut().map(|scene| told(&scene.ask(&format!("CLIENT {question}")), in_order));
        assert_eq!(ours, theirs, "{question} on {:?}", pair.server);
        if !question.starts_with("KILL") {
            continue;
        }
        let [ours, theirs] = &scenes;
        until(&format!("the same are left after {question}"), || ours.names() == theirs.names());
        if ours.names().len() < CLIENTS.len() + 1 {
            drop(scenes);
            scenes = pair.scenes();
        }
    }
}

#[test]
fn the_same_clients_are_listed_and_killed_on_the_installed_server() {
    questions(Server::Installed);
}

#[test]
fn the_same_clients_are_listed_and_killed_on_redis_8_2() {
    questions(Server::Redis82);
}

#[test]
fn the_same_clients_are_listed_and_killed_on_valkey_9_1() {
    questions(Server::Valkey91);
}

/// What must be equal; the others are about each one's own memory, sockets and threads.
const EQUAL: [&str; 16] = [
    "name", "flags", "capa", "db", "sub", "psub", "ssub", "multi", "watch", "events", "cmd", "user", "redir", "resp",
    "lib-name", "lib-ver",
];

#[test]
fn lines_have_the_fields_of_the_server_in_its_order_and_say_the_same() {
    for server in SERVERS {
        let pair = Pair::of(server);
        let mut scenes = pair.scenes();
        let [ours, theirs] = scenes.each_mut().map(Scene::list);
        let names = |line: &str| -> Vec<String> {
            line.split(' ').filter_map(|part| part.split_once('=')).map(|(name, _)| name.to_owned()).collect()
        };
        for (name, _) in CLIENTS {
            let [ours, theirs] = [&ours, &theirs].map(|list| of(list, name));
            assert_eq!(names(ours), names(theirs), "{server:?}");
            for field in EQUAL {
                assert_eq!(value(ours, field), value(theirs, field), "{field} of {name} on {server:?}");
            }
            if matches!(name, "bob" | "dan") {
                for field in ["tot-net-in", "tot-cmds"] {
                    assert_eq!(value(ours, field), value(theirs, field), "{field} of {name} on {server:?}");
                }
            }
            if name == "ann" {
                assert_eq!(value(ours, "argv-mem"), value(theirs, "argv-mem"), "on {server:?}");
            }
        }
        let [ours, theirs] = scenes.each_mut().map(|scene| scene.ask("CLIENT INFO"));
        assert_eq!(names(of(&ours, "ann")), names(of(&theirs, "ann")));
        assert_eq!(value(&ours, "cmd"), value(&theirs, "cmd"));
        assert!(ours.ends_with("\n\r\n") && theirs.ends_with("\n\r\n"), "{ours}");
    }
}

/// The lines of INFO that say how many clients there are of each kind.
const COUNTED: [&str; 6] =
    ["connected_clients", "maxclients", "blocked_clients", "tracking_clients", "pubsub_clients", "watching_clients"];

#[test]
fn info_counts_the_same_clients() {
    for server in SERVERS {
        let pair = Pair::of(server);
        let mut scenes = pair.scenes();
        for request in ["INFO clients", "INFO", "INFO everything", "INFO clients stats", "INFO CLIENTS server"] {
            let counted = |scene: &mut Scene| -> Vec<String> {
                let told = scene.ask(request);
                let is_counted = |line: &&str| COUNTED.iter().any(|name| line.starts_with(&format!("{name}:")));
                told.lines().filter(is_counted).map(str::to_owned).collect()
            };
            let mut both = || scenes.each_mut().map(counted);
            until(&format!("{request} counts alike on {server:?}"), || {
                let [ours, theirs] = both();
                ours == theirs && ours.len() >= 4
            });
        }
        let [ours, theirs] = scenes.each_mut().map(|scene| scene.ask("INFO stats"));
        let names = |told: &str| -> Vec<String> {
            told.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_owned()).collect()
        };
        assert_eq!(names(&ours), names(&theirs));
        let [ours, theirs] = scenes.each_mut().map(|scene| scene.ask("INFO keyspace"));
        assert_eq!(ours.split('=').next(), theirs.split('=').next());
    }
}

#[test]
fn who_ends_itself_is_answered_and_then_closed() {
    for server in SERVERS {
        let pair = Pair::of(server);
        let mut scenes = pair.scenes();
        for request in ["ID {} SKIPME no", "ADDR {@} SKIPME no", "{@}", "TYPE normal SKIPME no"] {
            only_their_own(&mut scenes);
            let rest = |scene: &Scene| {
                let mut wire = Wire::tcp(scene.port);
                let told = wire.ask("CLIENT INFO");
                let field = |name| value(told.lines().nth(1).unwrap_or_default(), name).unwrap_or_default();
                let text = request.replace("{@}", &field("addr")).replace("{}", &field("id"));
                wire.send(&[line("SET a 1"), line(&format!("CLIENT KILL {text}")), line("SET a 2")].concat());
                String::from_utf8_lossy(&wire.rest()).into_owned()
            };
            let [ours, theirs] = [&scenes[0], &scenes[1]].map(rest);
            assert_eq!(ours, theirs, "{request} on {server:?}");
            assert_eq!(Wire::tcp(pair.sidecar.port).ask("GET a"), "$1\r\n1\r\n", "what came behind is not done");
        }
    }
}

#[test]
fn a_line_says_what_is_held_for_its_client() {
    let redis = Redis::start();
    let sidecar = Sidecar::builder().redis(&redis).start();
    let mut wire = sidecar.wire();
    let mut line_of = |name: &str| of(&wire.ask("CLIENT LIST"), name).to_owned();
    let number = |line: &str, field: &str| value(line, field).and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    let mut half = sidecar.wire();
    half.ask("CLIENT SETNAME half");
    half.send(b"*2\r\n$3\r\nGET\r\n$100\r\nabc");
    until("the half request is shown", || number(&line_of("half"), "qbuf") == 22);
    let mut deaf = Wire::of(crate::support::wire::connect_narrow(sidecar.port));
    deaf.ask("CLIENT SETNAME deaf");
    assert_eq!(number(&line_of("deaf"), "omem"), 0);
    redis.wire().ask(&format!("SET long {}", "x".repeat(3_000_000)));
    deaf.send(&[line("GET long"), line("GET long")].concat());
    let mut told = String::new();
    until("what it does not read is shown", || {
        told = line_of("deaf");
        number(&told, "omem") + number(&told, "obl") > 200_000 && told.contains(" events=rw ")
    });
    assert!(number(&told, "tot-mem") > number(&told, "omem") && number(&told, "rbp") > 0, "{told}");
    assert_eq!(deaf.frame().len(), 3_000_012);
    assert_eq!(deaf.frame().len(), 3_000_012);
    until("it has read all", || {
        told = line_of("deaf");
        number(&told, "omem") + number(&told, "obl") == 0 && told.contains(" events=r ")
    });
    let mut held = sidecar.wire();
    held.ask("CLIENT SETNAME held");
    held.send(&line("BLPOP nosuch 0"));
    until("it waits", || line_of("held").contains(" flags=b "));
    assert!(number(&line_of("held"), "tot-mem") > 0);
}

#[test]
fn a_user_whom_only_the_upstream_knows_is_asked_for_there() {
    let redis = Redis::start();
    redis.wire().ask("ACL SETUSER other on >secret +@all ~*");
    let sidecar = Sidecar::builder().redis(&redis).set("AUTH__MODE", "upstream").start();
    let (mut wire, mut other) = (sidecar.wire(), sidecar.wire());
    assert_eq!(wire.ask("CLIENT KILL USER nosuch"), "-ERR No such user 'nosuch'\r\n");
    assert_eq!(wire.ask("CLIENT KILL USER other"), ":0\r\n");
    assert_eq!(other.ask("AUTH other secret"), "+OK\r\n");
    assert_eq!(wire.ask("CLIENT KILL USER other"), ":1\r\n");
    assert!(other.try_frame().is_none());
    assert_eq!(wire.ask("CLIENT KILL USER default"), ":0\r\n", "not the one that asks");
}
