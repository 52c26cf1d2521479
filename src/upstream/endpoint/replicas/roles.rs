//! Which of several plain servers is the primary: by what each says of itself (pure).

use std::collections::BTreeMap;

use super::said::Said;
use crate::upstream::endpoint::target::Host;

/// What is known of each server, in the order of `upstream.url`: nothing yet, no answer, or what it said last.
pub(super) type Heard = BTreeMap<Host, Option<Option<Said>>>;

/// The primary, where this one is `now`. It stays for as long as it says so itself. The first one is chosen when all
/// have answered, or failed to; another one when this one says that it is none, or does not answer.
pub(super) fn primary<'a>(hosts: &'a [Host], heard: &Heard, now: Option<&Host>) -> Option<&'a Host> {
    let said = |host: &Host| heard.get(host).and_then(Option::as_ref);
    let is_master = |host: &Host| said(host).is_some_and(|said| said.as_ref().is_some_and(|said| said.is_master));
    let may_choose = match now {
        Some(now) if is_master(now) => return hosts.iter().find(|host| *host == now),
        Some(now) => said(now).is_some(),
        None => hosts.iter().all(|host| said(host).is_some()),
    };
    if !may_choose {
        return None;
    }
    let followers = |host: &&Host| said(host).and_then(Option::as_ref).map_or(0, |said| said.followers);
    // Of several that follow nobody, the first one of those that most follow.
    hosts.iter().rev().filter(|host| is_master(host)).max_by_key(followers)
}

#[cfg(test)]
mod tests {
    use super::{Heard, Host, Said, primary};

    fn host(name: &str) -> Host {
        Host { name: name.into(), port: 1 }
    }

    /// `a` to `c` as they were heard: `?` not yet, `-` silent, `r` a replica, a digit: a master that so many follow.
    fn chosen(heard: &str, now: Option<&str>) -> String {
        let hosts = ["a", "b", "c"].map(host);
        let said = |letter: char| match letter {
            '?' => None,
            '-' => Some(None),
            'r' => Some(Some(Said::default())),
            digit => {
                let followers = digit.to_digit(10).expect("a digit") as usize;
                Some(Some(Said { is_master: true, followers, ..Said::default() }))
            }
        };
        let heard: Heard = hosts.iter().cloned().zip(heard.chars().map(said)).collect();
        primary(&hosts, &heard, now.map(host).as_ref()).map_or_else(String::new, |host| host.name.clone())
    }

    #[test]
    fn the_one_that_says_so_is_the_primary() {
        for (heard, now, expected) in [
            ("1rr", None, "a"),
            ("?1r", None, ""),
            ("-1r", None, "b"),
            ("rrr", None, ""),
            ("020", None, "b"),
            ("00r", None, "a"),
            ("0r2", Some("a"), "a"),
            ("rr1", Some("a"), "c"),
            ("-1r", Some("a"), "b"),
            ("-rr", Some("a"), ""),
            ("?1r", Some("a"), ""),
        ] {
            assert_eq!(chosen(heard, now), expected, "{heard} {now:?}");
        }
    }
}
