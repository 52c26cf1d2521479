//! What one node of a cluster says of all of them: reads the answer to CLUSTER NODES, and puts the views of several
//! nodes together.
//!
//! Nodes learn from each other with a delay, so they may disagree about who owns a slot. Each claim has the number of
//! its owner's configuration (its epoch), which a cluster never gives twice: the claim with the highest one is the
//! newest.
//!
//! Sources: <https://redis.io/docs/latest/commands/cluster-nodes/>,
//! <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#configuration-epoch>

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

use crate::command::SLOTS;
use crate::upstream::endpoint::target::Host;

/// One node, as one of them sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: String,
    /// Where it is reached.
    pub(super) host: Host,
    /// What else redirections may call it.
    pub(super) alias: Option<Host>,
    pub(super) is_master: bool,
    /// The others agree that it does not answer.
    pub(super) has_failed: bool,
    /// The id of its master, of a replica.
    pub(super) master: Option<String>,
    /// The number of its configuration.
    pub(super) epoch: u64,
    /// It says so of itself.
    pub(super) is_itself: bool,
    slots: Vec<RangeInclusive<u16>>,
    /// Slots on their way, of which it tells of itself only.
    pub(super) moving: Vec<Moving>,
}

/// A slot on its way to another node, or from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moving {
    pub(super) slot: u16,
    /// The node that says so is to have it.
    pub(super) arrives: bool,
}

impl Seen {
    pub(super) const fn has_slots(&self) -> bool {
        self.is_master && !self.slots.is_empty()
    }
}

/// Reads an answer to CLUSTER NODES that was given by the node at `asked`; nodes without an address are left out. Those
/// that have a name are reached by the name, or by their address.
pub(super) fn read(answer: &str, asked: &Host, by_name: bool) -> Vec<Seen> {
    answer.lines().filter_map(|line| read_line(line, asked, by_name)).collect()
}

fn read_line(line: &str, asked: &Host, by_name: bool) -> Option<Seen> {
    let mut fields = line.split(' ');
    let (id, address, flags, master) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let epoch = fields.nth(2)?.parse().ok()?;
    let flags: Vec<&str> = flags.split(',').collect();
    let has = |flag| flags.contains(&flag);
    if has("noaddr") || has("handshake") {
        return None;
    }
    // Behind the state of the link. What is in brackets is about slots that are on their way.
    let (moving, slots): (Vec<&str>, Vec<&str>) = fields.skip(1).partition(|slots| slots.starts_with('['));
    let (host, alias) = match (read_address(address, asked)?, read_name(address)) {
        (host, Some(name)) if by_name => (Host { name: name.to_owned(), ..host.clone() }, Some(host)),
        (host, name) => (host.clone(), name.map(|name| Host { name: name.to_owned(), ..host })),
    };
    Some(Seen {
        id: id.to_owned(),
        host,
        alias,
        is_master: has("master"),
        has_failed: has("fail"),
        master: (master != "-").then(|| master.to_owned()),
        epoch,
        is_itself: has("myself"),
        slots: slots.into_iter().filter_map(read_slots).collect(),
        moving: moving.into_iter().filter_map(read_moving).collect(),
    })
}

/// `ip:port@busport,hostname`, of which all but the port may be missing.
fn read_address(text: &str, asked: &Host) -> Option<Host> {
    let plain = text.split([',', '@']).next()?;
    let (name, port) = plain.rsplit_once(':')?;
    let name = if name.is_empty() { &asked.name } else { name };
    Some(Host { name: name.to_owned(), port: port.parse().ok().filter(|port| *port > 0)? })
}

/// The name in such a text, behind which newer servers have more.
fn read_name(text: &str) -> Option<&str> {
    text.split(',').nth(1).filter(|name| !name.is_empty() && !name.contains('='))
}

/// `[slot->-to]` or `[slot-<-from]`.
fn read_moving(text: &str) -> Option<Moving> {
    let (slot, rest) = text.strip_prefix('[')?.split_once('-')?;
    let slot = slot.parse().ok().filter(|slot| *slot < SLOTS)?;
    Some(Moving { slot, arrives: rest.starts_with('<') })
}

fn read_slots(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let slots = first.parse().ok()?..=last.parse().ok()?;
    (*slots.end() < SLOTS).then_some(slots)
}

/// A cluster, as all of its nodes that were heard see it together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    /// Each node once, by its id.
    pub(super) nodes: Vec<Seen>,
    /// The place in `nodes` of each slot's owner.
    pub(super) owners: Vec<Option<usize>>,
}

/// What was seen of one node.
struct Sight<'v> {
    newest: &'v Seen,
    has_failed: bool,
    is_heard: bool,
    moving: BTreeSet<Moving>,
}

impl<'v> Sight<'v> {
    const fn of(seen: &'v Seen) -> Self {
        Self { newest: seen, has_failed: false, is_heard: false, moving: BTreeSet::new() }
    }

    fn add(&mut self, seen: &'v Seen) {
        // What a node says of itself is what the others will hear.
        if (seen.epoch, seen.is_itself) > (self.newest.epoch, self.newest.is_itself) {
            self.newest = seen;
        }
        self.has_failed |= seen.has_failed;
        self.is_heard |= seen.is_itself;
        self.moving.extend(&seen.moving);
    }

    fn told(self) -> Seen {
        let has_failed = self.has_failed && !self.is_heard;
        Seen { has_failed, moving: self.moving.into_iter().collect(), ..self.newest.clone() }
    }
}

/// Puts together what was seen of all nodes.
pub(super) fn picture<'v>(seen: impl Iterator<Item = &'v Seen>) -> Picture {
    let mut sights: HashMap<&str, Sight<'v>> = HashMap::new();
    for seen in seen {
        sights.entry(&seen.id).or_insert_with(|| Sight::of(seen)).add(seen);
    }
    let mut nodes: Vec<Seen> = sights.into_values().map(Sight::told).collect();
    nodes.sort_by(|one, other| one.host.cmp(&other.host));
    let owners = owners(&nodes);
    Picture { nodes, owners }
}

fn owners(nodes: &[Seen]) -> Vec<Option<usize>> {
    let mut owners: Vec<Option<usize>> = vec![None; usize::from(SLOTS)];
    for (at, node) in nodes.iter().enumerate().filter(|(_, node)| node.is_master) {
        for slot in node.slots.iter().cloned().flatten() {
            let owner = &mut owners[usize::from(slot)];
            // What a node says of itself counts for more than what others have heard of one that is silent.
            let claim = |at: usize| (nodes[at].is_itself, nodes[at].epoch);
            if owner.is_none_or(|known| claim(known) < claim(at)) {
                *owner = Some(at);
            }
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::{Host, Seen, picture, read};

    const FIRST: &str = "\
aaaa 127.0.0.1:7001@17001 myself,master - 0 0 5 connected 0-5460 [93->-bbbb]
bbbb 127.0.0.1:7002@17002,two.example.org master - 0 1 2 connected 5461-10922 16383
cccc :0@0 master,noaddr - 1 1 3 disconnected 10923
dddd ::1:7004@17004 slave,fail aaaa 1 1 5 connected
";

    fn view(answer: &str) -> Vec<Seen> {
        read(answer, &Host { name: "asked".into(), port: 1 }, false)
    }

    #[test]
    fn an_answer_is_read() {
        let seen = view(FIRST);
        let told: Vec<_> = seen.iter().map(|node| (node.id.as_str(), node.host.to_string(), node.has_failed)).collect();
        let address = |port| format!("127.0.0.1:{port}");
        assert_eq!(
            told,
            [("aaaa", address(7001), false), ("bbbb", address(7002), false), ("dddd", "[::1]:7004".into(), true)]
        );
        assert_eq!(
            (seen[1].slots.clone(), seen[2].master.as_deref()),
            (vec![5461..=10922, 16383..=16383], Some("aaaa"))
        );
        let itself = view("aaaa :7001@17001 myself,master - 0 0 1 connected");
        assert_eq!(itself[0].host, Host { name: "asked".into(), port: 7001 }, "a node may not know its own address");
    }

    #[test]
    fn a_node_has_an_address_and_a_name() {
        let of = |by_name| {
            let seen = read(FIRST, &Host { name: "asked".into(), port: 1 }, by_name);
            [&seen[1].host, seen[1].alias.as_ref().expect("a name")].map(Host::to_string)
        };
        assert_eq!(of(false), ["127.0.0.1:7002", "two.example.org:7002"]);
        assert_eq!(of(true), ["two.example.org:7002", "127.0.0.1:7002"]);
        let unnamed =
            view("aaaa h:1@2,,shard-id=abc myself,master - 0 0 1 connected\nbbbb h:2@3,shard-id=a master - 0 0 1 c");
        assert_eq!([&unnamed[0].alias, &unnamed[1].alias], [&None, &None]);
    }

    #[test]
    fn a_slot_that_two_names_of_a_node_tell_of_moves_once() {
        let told = view("aaaa h:1@2 myself,master - 0 0 5 connected 0-9 [9->-bbbb]");
        assert_eq!(picture(told.iter().chain(&told)).nodes[0].moving.len(), 1);
    }

    #[test]
    fn the_newest_claim_owns_a_slot() {
        let before = view(
            "aaaa h:1@2 myself,master - 0 0 5 connected 0-9\n\
             bbbb h:2@3 master - 0 0 2 connected 10-19",
        );
        let after = view(
            "aaaa h:1@2 master - 0 0 5 connected 0-9\n\
             bbbb h:2@3 myself,master - 0 0 6 connected 9-19",
        );
        for views in [[&before[..], &after[..]], [&after[..], &before[..]]] {
            let told = picture(views.into_iter().flatten());
            let owner = |slot: usize| told.owners[slot].map(|at| told.nodes[at].id.as_str());
            assert_eq!([owner(8), owner(9), owner(19), owner(20)], [Some("aaaa"), Some("bbbb"), Some("bbbb"), None]);
        }
    }

    #[test]
    fn a_replica_that_takes_over_is_the_master() {
        let stale = view(
            "aaaa h:1@2 myself,master - 0 0 5 connected 0-9\n\
             bbbb h:2@3 slave aaaa 0 0 5 connected",
        );
        let newer = view(
            "aaaa h:1@2 master,fail - 0 0 5 connected\n\
             bbbb h:2@3 myself,master - 0 0 6 connected 0-9",
        );
        let told = picture(stale.iter().chain(&newer));
        assert_eq!(told.owners[0].map(|at| told.nodes[at].id.as_str()), Some("bbbb"));
        assert!(!told.nodes[0].has_failed, "it was heard");
        let told = picture(newer.iter());
        assert!(told.nodes[0].has_failed);
    }
}
