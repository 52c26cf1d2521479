//! How long it holds what a client says by CLIENT CACHING.

use super::cast::are_told_the_same;
use super::place::Place;

const STORIES: &[&[&str]] = &[
    // Beside a WATCH, what was said is over behind the next command, too.
    &[
        "a HELLO 3",
        "w SET s:1 one",
        "w SET s:2 one",
        "w SET plain one",
        "a CLIENT TRACKING ON OPTOUT",
        "a WATCH watched",
        "a CLIENT CACHING NO",
        "a GET s:1",
        "a GET s:2",
        "a GET plain",
        "w SET s:1 two",
        "w SET s:2 two",
        "a !",
        "w SET plain two",
        "a !",
        "a CLIENT CACHING NO",
        "a WATCH other",
        "a GET s:1",
        "w SET s:1 three",
        "a !",
        "a CLIENT CACHING NO",
        "a MULTI",
        "a GET s:1",
        "a EXEC",
        "a GET s:2",
        "w SET s:1 four",
        "w SET s:2 four",
        "a !",
    ],
    // A MULTI that is refused is such a command.
    &[
        "a HELLO 3",
        "w SET s:1 one",
        "w SET plain one",
        "a CLIENT TRACKING ON OPTOUT",
        "a CLIENT CACHING NO",
        "a MULTI now",
        "a GET s:1",
        "a GET plain",
        "w SET s:1 two",
        "a !",
        "w SET plain two",
        "a !",
        "a WATCH watched",
        "a CLIENT CACHING NO",
        "a MULTI now",
        "a GET s:1",
        "w SET s:1 three",
        "a !",
    ],
    // The commands of CLIENT are none: what was said goes on behind them, whatever the sidecar says to the upstream for
    // them.
    &[
        "a HELLO 3",
        "w SET s:1 one",
        "w SET plain one",
        "a CLIENT TRACKING ON OPTIN",
        "a CLIENT CACHING YES",
        "a CLIENT SETNAME reader",
        "a GET plain",
        "w SET plain two",
        "a !",
        "a CLIENT CACHING YES",
        "a CLIENT SETNAME another",
        "a CLIENT GETNAME",
        "a CLIENT NO-EVICT on",
        "a GET plain",
        "w SET plain three",
        "a !",
        "a CLIENT CACHING YES",
        "a CLIENT SETNAME a-third",
        "a GET s:1",
        "w SET s:1 two",
        "a !",
        "a CLIENT CACHING YES",
        "a HELLO 3 SETNAME a-fourth",
        "a GET plain",
        "w SET plain four",
        "a !",
    ],
];

#[test]
fn what_was_said_of_one_request_is_over_behind_it_as_in_redis() {
    let place = Place::new();
    are_told_the_same(&place, STORIES);
}
