//! How a cluster serves a command: which of its nodes get it, and what becomes of their replies. Servers say it among
//! their tips. Where they differ, the newest one has corrected the others: what a command does, and so how it may be
//! spread, is the same in all of them. So `commands.tsv` has what the newest says, and no upstream changes that.
//!
//! Source: <https://redis.io/docs/latest/develop/reference/command-tips/>

/// Which nodes of a cluster get a command, and how their replies become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Which nodes get it.
    pub request: RequestPolicy,
    /// How their replies become one.
    pub response: ResponsePolicy,
}

/// Which nodes of a cluster get a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestPolicy {
    /// No tip: the node that has the slot of its keys; any node, if it names none.
    #[default]
    Default,
    /// `all_nodes`: every node, replicas too.
    AllNodes,
    /// `all_shards`: every master.
    AllShards,
    /// `multi_shard`: every master that has some of its keys, each with its own.
    MultiShard,
    /// `special`: none of these, so whoever sends it must know the command.
    Special,
}

/// How the replies of several nodes become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResponsePolicy {
    /// No tip: all replies in one, in the order of the keys that they belong to; in any order, if there are none.
    #[default]
    Default,
    /// `one_succeeded`: the first reply that is no error; an error, if all are.
    OneSucceeded,
    /// `all_succeeded`: one of the replies; an error, if any is.
    AllSucceeded,
    /// `agg_logical_and`: 1 if all replies are 1, otherwise 0; of lists, element by element.
    And,
    /// `agg_logical_or`: 1 if one reply is 1, otherwise 0; of lists, element by element.
    Or,
    /// `agg_min`: the smallest number.
    Min,
    /// `agg_max`: the largest number.
    Max,
    /// `agg_sum`: the sum of the numbers.
    Sum,
    /// `special`: none of these, so whoever joins them must know the command.
    Special,
}

impl Policy {
    /// What these tips say. A policy that is not known here is a special one.
    pub(super) fn of<'a>(tips: impl Iterator<Item = &'a str>) -> Self {
        tips.fold(Self::default(), |policy, tip| match tip.split_once(':') {
            Some(("request_policy", request)) => Self { request: RequestPolicy::of(request), ..policy },
            Some(("response_policy", response)) => Self { response: ResponsePolicy::of(response), ..policy },
            _ => policy,
        })
    }
}

impl RequestPolicy {
    fn of(text: &str) -> Self {
        match text {
            "all_nodes" => Self::AllNodes,
            "all_shards" => Self::AllShards,
            "multi_shard" => Self::MultiShard,
            _ => Self::Special,
        }
    }
}

impl ResponsePolicy {
    fn of(text: &str) -> Self {
        match text {
            "one_succeeded" => Self::OneSucceeded,
            "all_succeeded" => Self::AllSucceeded,
            "agg_logical_and" => Self::And,
            "agg_logical_or" => Self::Or,
            "agg_min" => Self::Min,
            "agg_max" => Self::Max,
            "agg_sum" => Self::Sum,
            _ => Self::Special,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Policy, RequestPolicy, ResponsePolicy};
    use crate::command::lookup;

    #[test]
    fn tips_are_read_in_any_order_and_others_are_nothing() {
        for (tips, request, response) in [
            (&[][..], RequestPolicy::Default, ResponsePolicy::Default),
            (&["nondeterministic_output", "Policy", ""], RequestPolicy::Default, ResponsePolicy::Default),
            (&["request_policy:multi_shard"], RequestPolicy::MultiShard, ResponsePolicy::Default),
            (&["response_policy:agg_min", "request_policy:all_shards"], RequestPolicy::AllShards, ResponsePolicy::Min),
            (&["response_policy:agg_max"], RequestPolicy::Default, ResponsePolicy::Max),
            (&["response_policy:agg_logical_or"], RequestPolicy::Default, ResponsePolicy::Or),
            (&["request_policy:by_moon", "response_policy:"], RequestPolicy::Special, ResponsePolicy::Special),
        ] {
            assert_eq!(Policy::of(tips.iter().copied()), Policy { request, response }, "{tips:?}");
        }
    }

    #[test]
    fn the_table_says_which_nodes_of_a_cluster_get_a_command() {
        let both = |request, response| Policy { request, response };
        for (name, sub, expected) in [
            ("get", "a", Policy::default()),
            ("eval", "", Policy::default()),
            ("mget", "a", both(RequestPolicy::MultiShard, ResponsePolicy::Default)),
            ("del", "a", both(RequestPolicy::MultiShard, ResponsePolicy::Sum)),
            ("script", "load", both(RequestPolicy::AllNodes, ResponsePolicy::AllSucceeded)),
            ("script", "exists", both(RequestPolicy::AllShards, ResponsePolicy::And)),
            ("function", "kill", both(RequestPolicy::AllShards, ResponsePolicy::OneSucceeded)),
            ("config", "set", both(RequestPolicy::AllNodes, ResponsePolicy::AllSucceeded)),
            ("wait", "1", both(RequestPolicy::AllShards, ResponsePolicy::Min)),
            ("scan", "0", both(RequestPolicy::Special, ResponsePolicy::Special)),
            // What Redis 7.0 says of these is taken back by later servers.
            ("msetnx", "a", Policy::default()),
            ("latency", "reset", both(RequestPolicy::AllNodes, ResponsePolicy::Sum)),
        ] {
            let spec = lookup(name.as_bytes(), sub.as_bytes()).expect("a known command");
            assert_eq!(spec.policy, expected, "{name} {sub}");
        }
    }
}
