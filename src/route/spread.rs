//! Requests that more than one node of a cluster must answer, by what the command table says of each command. Pure.

use crate::command::{Request, RequestPolicy, ResponsePolicy, Spec};

/// How several nodes serve a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Each slot's keys by themselves, one of so many words.
    Slots(usize, Joint),
    /// Every master, or every node.
    Nodes(Reach, Joint),
    /// One of the masters that have keys.
    Random,
}

/// The nodes that a request reaches which names no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every master.
    Masters,
    /// The replicas, too.
    All,
}

/// How several replies become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are the policies of the command table")]
pub enum Joint {
    Listed,
    /// All elements, each once.
    Distinct,
    /// Names, each with its count.
    Counted,
    AllSucceeded,
    OneSucceeded,
    And,
    Or,
    Min,
    Max,
    Sum,
}

/// What servers do not say of commands, or what is not meant for a client that sees one server.
const BESIDE_TIPS: &[(&str, Option<(Reach, Joint)>)] = &[
    ("acl|load", Some((Reach::All, Joint::AllSucceeded))),
    ("bgrewriteaof", Some((Reach::Masters, Joint::AllSucceeded))),
    ("bgsave", Some((Reach::Masters, Joint::AllSucceeded))),
    ("lastsave", Some((Reach::Masters, Joint::Min))),
    ("module|load", Some((Reach::All, Joint::AllSucceeded))),
    ("module|loadex", Some((Reach::All, Joint::AllSucceeded))),
    ("module|unload", Some((Reach::All, Joint::AllSucceeded))),
    ("ping", None),
    ("pubsub|channels", Some((Reach::All, Joint::Distinct))),
    ("pubsub|numpat", Some((Reach::All, Joint::Sum))),
    ("pubsub|numsub", Some((Reach::All, Joint::Counted))),
    ("pubsub|shardchannels", Some((Reach::All, Joint::Distinct))),
    ("pubsub|shardnumsub", Some((Reach::All, Joint::Counted))),
    ("save", Some((Reach::Masters, Joint::AllSucceeded))),
];

impl Spread {
    /// How a request is served that names no keys, if not by one node.
    #[must_use]
    pub fn by_nodes(spec: &Spec) -> Option<Self> {
        if spec.name == "randomkey" {
            return Some(Self::Random);
        }
        if let Some((_, known)) = BESIDE_TIPS.iter().find(|(name, _)| *name == spec.name) {
            return known.map(|(reach, joint)| Self::Nodes(reach, joint));
        }
        let reach = match spec.policy.request {
            RequestPolicy::AllNodes => Reach::All,
            RequestPolicy::AllShards => Reach::Masters,
            RequestPolicy::Default | RequestPolicy::MultiShard | RequestPolicy::Special => return None,
        };
        Joint::of(spec.policy.response).map(|joint| Self::Nodes(reach, joint))
    }

    /// How a request is served whose keys are in several slots, if each slot's keys can be served by themselves. What
    /// must be done at once, or not at all, cannot, nor can what names more than keys and their values.
    #[must_use]
    pub fn by_slots(request: &Request<'_>, spec: &Spec) -> Option<Self> {
        if spec.policy.request != RequestPolicy::MultiShard {
            return None;
        }
        let (joint, keys) = (Joint::of(spec.policy.response)?, request.key_positions(spec));
        let words = (request.len() - 1).checked_div(keys.len())?;
        let are_all = words * keys.len() == request.len() - 1;
        let are_in_order = keys.iter().enumerate().all(|(nth, at)| *at == 1 + nth * words);
        (are_all && are_in_order).then_some(Self::Slots(words, joint))
    }

    /// True when several keys change at once where one node has all of them.
    #[must_use]
    pub const fn is_atomic(self) -> bool {
        matches!(self, Self::Slots(_, Joint::AllSucceeded))
    }
}

impl Joint {
    const fn of(policy: ResponsePolicy) -> Option<Self> {
        Some(match policy {
            ResponsePolicy::Default => Self::Listed,
            ResponsePolicy::OneSucceeded => Self::OneSucceeded,
            ResponsePolicy::AllSucceeded => Self::AllSucceeded,
            ResponsePolicy::And => Self::And,
            ResponsePolicy::Or => Self::Or,
            ResponsePolicy::Min => Self::Min,
            ResponsePolicy::Max => Self::Max,
            ResponsePolicy::Sum => Self::Sum,
            ResponsePolicy::Special => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Joint, Reach, Spread};
    use crate::command::{OwnedRequest, lookup};

    fn spread(line: &str) -> Option<Spread> {
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let request = OwnedRequest::from_words(&words);
        let spec = lookup(&words[0], words.get(1).map_or(b"", |word| &word[..])).expect("a known command");
        Spread::by_slots(&request.view(), spec).or_else(|| Spread::by_nodes(spec))
    }

    #[test]
    fn a_command_goes_where_the_table_says() {
        for (line, expected) in [
            ("del a b", Some(Spread::Slots(1, Joint::Sum))),
            ("mget a b", Some(Spread::Slots(1, Joint::Listed))),
            ("mset a 1 b 2", Some(Spread::Slots(2, Joint::AllSucceeded))),
            ("mset a 1 b", None),
            ("msetnx a 1 b 2", None),
            ("msetex 2 a 1 b 2 EX 5", None),
            ("rename a b", None),
            ("pubsub numsub a", Some(Spread::Nodes(Reach::All, Joint::Counted))),
            ("dbsize", Some(Spread::Nodes(Reach::Masters, Joint::Sum))),
            ("script load x", Some(Spread::Nodes(Reach::All, Joint::AllSucceeded))),
            ("script exists x", Some(Spread::Nodes(Reach::Masters, Joint::And))),
            ("function load x", Some(Spread::Nodes(Reach::Masters, Joint::AllSucceeded))),
            ("function stats", None),
            ("config get x", None),
            ("bgsave", Some(Spread::Nodes(Reach::Masters, Joint::AllSucceeded))),
            ("randomkey", Some(Spread::Random)),
            ("ping", None),
            ("time", None),
        ] {
            assert_eq!(spread(line), expected, "{line}");
        }
    }
}
