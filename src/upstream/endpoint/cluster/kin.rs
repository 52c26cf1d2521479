//! Which of the nodes that were asked are nodes of the cluster: a host of `upstream.url` may belong to another one, and
//! a node may have been reset. What is put together of their views would send keys there.
//!
//! Nodes of one cluster name each other: views that have an id in common are of one cluster, and so is a view that
//! names a node that is known. A node that names nobody but itself, while others name it, has been reset.

use std::collections::HashSet;

use super::nodes::Seen;
use crate::upstream::endpoint::target::Host;

/// What the node there says.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'v> {
    pub(super) host: &'v Host,
    pub(super) nodes: &'v [Seen],
}

impl View<'_> {
    fn has_slots(&self) -> bool {
        self.nodes.iter().any(Seen::has_slots)
    }
}

/// Views of one cluster, by their places.
#[derive(Debug, Default)]
struct Kin<'v> {
    ids: HashSet<&'v str>,
    views: Vec<usize>,
    has_slots: bool,
}

/// What else there is to know.
#[derive(Clone, Copy)]
pub(super) struct Circumstances<'c> {
    /// The hosts of `upstream.url`.
    pub(super) hosts: &'c [Host],
    /// All of these have answered, or do not answer.
    pub(super) are_heard: bool,
    /// So many nodes are known.
    pub(super) knows: usize,
}

/// Whose views count.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    /// For each view, whether it does.
    pub(super) counts: Vec<bool>,
    /// It is another cluster than the one that was known.
    pub(super) is_another: bool,
}

impl Chosen {
    /// The views that do not count.
    pub(super) fn strangers<'s, 'v>(&'s self, views: &'s [View<'v>]) -> impl Iterator<Item = &'s View<'v>> {
        views.iter().zip(&self.counts).filter(|(_, counts)| !**counts).map(|(view, _)| view)
    }

    /// All hosts that those name which count.
    pub(super) fn named<'v>(&self, views: &[View<'v>]) -> impl Iterator<Item = &'v Host> {
        let counting = views.iter().zip(&self.counts).filter(|(_, counts)| **counts);
        counting.flat_map(|(view, _)| view.nodes).map(|seen| &seen.host)
    }

    /// What those that count say of each other, and not of strangers: a node that was reset is named by the others
    /// still, by its id or by its address.
    pub(super) fn seen<'v>(&self, views: &[View<'v>]) -> impl Iterator<Item = &'v Seen> {
        let strangers: Vec<View<'v>> = self.strangers(views).copied().collect();
        let selves: HashSet<&str> = strangers
            .iter()
            .flat_map(|view| view.nodes)
            .filter(|seen| seen.is_itself)
            .map(|seen| seen.id.as_str())
            .collect();
        let hosts: HashSet<&Host> = strangers.iter().map(|view| view.host).collect();
        let counting: Vec<View<'v>> =
            views.iter().zip(&self.counts).filter(|(_, counts)| **counts).map(|(view, _)| *view).collect();
        let seen = counting.into_iter().flat_map(|view| view.nodes);
        seen.filter(move |seen| !selves.contains(seen.id.as_str()) && !hosts.contains(&seen.host))
    }
}

/// Chooses the cluster that the known nodes are of. If there are none, or if nobody names them any more, it is the one
/// that most hosts of `upstream.url` speak for: more than half of them, or, at the beginning, the most of those that
/// answer, and among equals the one that is named first. `None` while that cannot be told.
pub(super) fn choose(
    views: &[View<'_>],
    is_known: impl Fn(&str) -> bool,
    circumstances: Circumstances<'_>,
) -> Option<Chosen> {
    let Circumstances { hosts, are_heard, knows } = circumstances;
    let clusters = clusters(views);
    let chosen = |clusters: &[&Kin<'_>], is_another| {
        let counts = (0..views.len()).map(|at| clusters.iter().any(|cluster| cluster.views.contains(&at)));
        Some(Chosen { counts: counts.collect(), is_another })
    };
    let was_reset = |cluster: &Kin<'_>| cluster.ids.len() == 1 && !cluster.has_slots && knows > 1;
    let is_known = |cluster: &&Kin<'_>| cluster.ids.iter().any(|id| is_known(id)) && !was_reset(cluster);
    let known: Vec<&Kin<'_>> = clusters.iter().filter(is_known).collect();
    let have_slots = clusters.iter().any(|cluster| cluster.has_slots);
    if known.iter().any(|cluster| cluster.has_slots || !have_slots) {
        return chosen(&known, false);
    }
    let speaks_for = |cluster: &Kin<'_>, host: &Host| cluster.views.iter().any(|at| views[*at].host == host);
    let votes = |cluster: &Kin<'_>| hosts.iter().filter(|host| speaks_for(cluster, host)).count();
    let first = |cluster: &Kin<'_>| hosts.iter().position(|host| speaks_for(cluster, host));
    // The least of these wins.
    let rank = |cluster: &&Kin<'_>| {
        (!cluster.has_slots, std::cmp::Reverse(votes(cluster)), first(cluster).unwrap_or(usize::MAX))
    };
    let best = clusters.iter().min_by_key(rank)?;
    let is_most = best.has_slots && votes(best) * 2 > hosts.len();
    let is_sure = is_most || are_heard && knows == 0;
    if is_sure { chosen(&[best], knows > 0) } else { None }
}

/// Which views are of one cluster. Those of nodes that were reset are of none.
fn clusters<'v>(views: &[View<'v>]) -> Vec<Kin<'v>> {
    let mut clusters: Vec<Kin<'v>> = Vec::new();
    let is_alone = |view: &View<'_>| view.nodes.len() < 2;
    for (at, view) in views.iter().enumerate().filter(|(_, view)| !is_alone(view)) {
        let mut whole = Kin { views: vec![at], has_slots: view.has_slots(), ..Kin::default() };
        whole.ids.extend(view.nodes.iter().map(|seen| seen.id.as_str()));
        // It may be what those have in common that were apart.
        let parts: Vec<_> = clusters.extract_if(.., |cluster| !cluster.ids.is_disjoint(&whole.ids)).collect();
        for part in parts {
            whole.views.extend(part.views);
            whole.ids.extend(part.ids);
            whole.has_slots |= part.has_slots;
        }
        clusters.push(whole);
    }
    for (at, view) in views.iter().enumerate().filter(|(_, view)| is_alone(view)) {
        let Some(itself) = view.nodes.first() else { continue };
        let id = itself.id.as_str();
        match clusters.iter_mut().find(|cluster| cluster.ids.contains(id)) {
            // Asked by two names.
            Some(cluster) if cluster.ids.len() == 1 => cluster.views.push(at),
            Some(_) => {}
            None => clusters.push(Kin { ids: [id].into(), views: vec![at], has_slots: view.has_slots() }),
        }
    }
    clusters
}

#[cfg(test)]
mod tests {
    use super::super::nodes::{Seen, read};
    use super::{Chosen, Circumstances, Host, View, choose};

    fn host(port: u16) -> Host {
        Host { name: "h".into(), port }
    }

    const A: &str = "aa h:1@2 myself,master - 0 0 5 connected 0-9\nbb h:2@3 master - 0 0 6 connected 10-19";
    const B: &str = "aa h:1@2 master - 0 0 5 connected 0-9\nbb h:2@3 myself,master - 0 0 6 connected 10-19";
    /// Nodes of another cluster, of which one owns everything, and one that knows nobody.
    const OTHER: &str = "xx h:3@4 myself,master - 0 0 99 connected 0-16383";
    const RESET: &str = "bb h:2@3 myself,master - 0 0 0 connected";
    const NEW: &str = "cc h:2@3 myself,master - 0 0 0 connected";

    /// Whose views count, of those that these ports give, where nodes with these ids are known.
    fn chosen(told: &[(u16, &str)], hosts: &[u16], known: &[&str], are_heard: bool) -> Option<(Vec<bool>, bool)> {
        let views: Vec<(Host, Vec<Seen>)> =
            told.iter().map(|(port, text)| (host(*port), read(text, &host(*port), false))).collect();
        let views: Vec<View<'_>> = views.iter().map(|(host, nodes)| View { host, nodes }).collect();
        let hosts: Vec<Host> = hosts.iter().map(|port| host(*port)).collect();
        let circumstances = Circumstances { hosts: &hosts, are_heard, knows: known.len() };
        let told = choose(&views, |id| known.contains(&id), circumstances);
        told.map(|Chosen { counts, is_another }| (counts, is_another))
    }

    #[test]
    fn whoever_names_a_known_node_counts() {
        let known = ["aa", "bb"];
        assert_eq!(chosen(&[(1, A), (3, OTHER)], &[3, 1], &known, true), Some((vec![true, false], false)));
        assert_eq!(chosen(&[(1, A), (2, RESET)], &[1, 2], &known, true), Some((vec![true, false], false)));
        assert_eq!(chosen(&[(1, A), (2, NEW)], &[1, 2], &known, true), Some((vec![true, false], false)));
        assert_eq!(chosen(&[(2, RESET)], &[1, 2], &known, true), None, "nobody else is there");
        let joined = "bb h:2@3 master - 0 0 6 connected\ncc h:4@5 myself,master - 0 0 0 connected";
        assert_eq!(chosen(&[(2, B), (4, joined)], &[2], &["bb"], true), Some((vec![true, true], false)));
    }

    #[test]
    fn at_the_beginning_most_hosts_decide_and_then_the_first() {
        assert_eq!(chosen(&[(3, OTHER)], &[1, 2, 3], &[], false), None, "the others may have more to say");
        assert_eq!(chosen(&[(1, A), (2, B)], &[3, 1, 2], &[], false), Some((vec![true, true], false)));
        assert_eq!(chosen(&[(1, A), (3, OTHER)], &[1, 3], &[], true), Some((vec![true, false], false)));
        assert_eq!(chosen(&[(1, A), (3, OTHER)], &[3, 1], &[], true), Some((vec![false, true], false)));
        assert_eq!(chosen(&[(2, NEW), (1, A)], &[2, 1], &[], true), Some((vec![false, true], false)), "it has slots");
        assert_eq!(chosen(&[(2, NEW)], &[2], &[], true), Some((vec![true], false)));
    }

    #[test]
    fn a_cluster_that_was_built_again_is_taken_when_most_hosts_are_of_it() {
        let known = ["yy", "zz"];
        assert_eq!(chosen(&[(1, A), (2, B)], &[1, 2, 3], &known, false), Some((vec![true, true], true)));
        assert_eq!(chosen(&[(3, OTHER)], &[1, 2, 3], &known, true), None);
        assert_eq!(chosen(&[(2, NEW)], &[2], &known, true), None, "it has no slots yet");
    }
}
