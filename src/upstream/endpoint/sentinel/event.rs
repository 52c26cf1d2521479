//! What a sentinel tells by itself: an event, about which service, and who is its master.
//!
//! Source: <https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/#pubsub-messages>

use crate::upstream::endpoint::target::Host;

/// Of a failover that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// A replica is about to become the master.
    Begins,
    /// It did not.
    Fails,
}

impl Stage {
    /// What an event's channel says of a failover.
    pub(super) fn of(channel: &str) -> Option<Self> {
        match channel {
            "+failover-state-select-slave"
            | "+failover-state-send-slaveof-noone"
            | "+failover-state-wait-promotion" => Some(Self::Begins),
            _ if channel.starts_with("-failover-abort") => Some(Self::Fails),
            _ => None,
        }
    }
}

/// The master that an event about this service names; `None` if it is about something else. It is the old one of an
/// event that tells of a new one.
pub(super) fn master_of(service: &str, channel: &str, text: &str) -> Option<Host> {
    let words: Vec<&str> = text.split(' ').collect();
    // "slave 10.0.0.2:6379 10.0.0.2 6379 @ game 10.0.0.1 6379", "master game 10.0.0.1 6379",
    // "game 10.0.0.1 6379 10.0.0.2 6379"
    let named = match words.iter().position(|word| *word == "@") {
        Some(at) => &words[at + 1..],
        None if channel == "+switch-master" => &words[..],
        None => words.split_first()?.1,
    };
    let [name, host, port, ..] = named else { return None };
    (*name == service).then_some(Host { name: (*host).to_owned(), port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::{Host, Stage, master_of};

    #[test]
    fn events_name_the_service_and_its_master() {
        let one = Host { name: "10.0.0.1".into(), port: 6379 };
        for (channel, text) in [
            ("+failover-state-send-slaveof-noone", "slave 10.0.0.2:6379 10.0.0.2 6379 @ game 10.0.0.1 6379"),
            ("-failover-abort-not-elected", "master game 10.0.0.1 6379"),
            ("+switch-master", "game 10.0.0.1 6379 10.0.0.2 6379"),
            ("+odown", "master game 10.0.0.1 6379 #quorum 2/2"),
        ] {
            assert_eq!(master_of("game", channel, text), Some(one.clone()), "{text}");
            assert_eq!(master_of("master", channel, text), None, "{text}");
            assert_eq!(master_of("slave", channel, text), None, "{text}");
        }
        for text in ["", "master", "7", "a b c d e f"] {
            assert_eq!(master_of("game", "+new-epoch", text), None, "{text}");
        }
        assert_eq!(Stage::of("-failover-abort-no-good-slave"), Some(Stage::Fails));
        assert_eq!(Stage::of("+switch-master"), None);
    }
}
