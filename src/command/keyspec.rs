//! Where the keys of a command are, by Redis's key specifications.
//!
//! Source: <https://redis.io/docs/latest/develop/reference/key-specs/>

use crate::resp::number::parse_i64;

use super::Request;
use super::movable_keys::Walk;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Begin {
    Index(i64),
    Keyword(String, i64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Find {
    Range { last: i64, step: i64, limit: i64 },
    Keynum { index: i64, first: i64, step: i64 },
}

/// Where one group of a command's keys stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpec(How);

#[derive(Clone, Debug, PartialEq, Eq)]
enum How {
    /// One key at a fixed place, as most commands have it.
    One(usize),
    /// By another specification.
    Spec(Begin, Find),
    /// By the command's own options, where no specification says it.
    Walk(Walk),
}

impl KeySpec {
    /// The groups of the command `name`, whose specifications are `column` of the table.
    pub(super) fn of(name: &str, column: &str) -> Vec<Self> {
        match Walk::of(name) {
            Some(walk) => vec![Self(How::Walk(walk))],
            None => column.split(' ').filter_map(Self::parse).collect(),
        }
    }

    /// Reads `@1+range:0:1:0` or `STREAMS@1+range:-1:1:2`; `None` for a specification that the server
    /// itself calls unknown (`?`), as SORT's BY and GET patterns.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (begin, find) = text.split_once('+')?;
        let (word, start) = begin.split_once('@')?;
        let start = start.parse().ok()?;
        let begin = if word.is_empty() { Begin::Index(start) } else { Begin::Keyword(word.to_owned(), start) };
        let mut parts = find.split(':');
        let kind = parts.next()?;
        let numbers: Vec<i64> = parts.map_while(|n| n.parse().ok()).collect();
        let find = match (kind, numbers.as_slice()) {
            ("range", &[last, step, limit]) => Find::Range { last, step, limit },
            ("keynum", &[index, first, step]) => Find::Keynum { index, first, step },
            _ => return None,
        };
        Some(Self(match (begin, find) {
            (Begin::Index(first @ 1..), Find::Range { last: 0, .. }) => How::One(first as usize),
            (begin, find) => How::Spec(begin, find),
        }))
    }

    /// Where this group's key stands, if it is one key in a fixed place.
    pub(super) const fn fixed(&self) -> Option<usize> {
        if let How::One(at) = self.0 { Some(at) } else { None }
    }

    /// Where this group's first key stands, and the distance to the next one, if keys stand so up to the end.
    pub(super) const fn row(&self) -> Option<(usize, usize)> {
        match self.0 {
            How::Spec(Begin::Index(at @ 1..), Find::Range { last: -1, step: step @ 1.., limit: 0 | 1 }) => {
                Some((at as usize, step as usize))
            }
            _ => None,
        }
    }

    /// True when arguments from `end` on cannot move this group's keys.
    pub(super) fn is_fixed_before(&self, end: usize) -> bool {
        match &self.0 {
            How::Walk(_) | How::Spec(Begin::Keyword(..), _) => false,
            How::One(_) | How::Spec(Begin::Index(_), Find::Range { .. }) => true,
            How::Spec(Begin::Index(start), Find::Keynum { index, .. }) => start + index < end as i64,
        }
    }

    /// Visits the positions of this group's keys. Arguments that do not fit give none:
    /// the upstream answers such a request with its own error.
    pub(super) fn find(&self, request: &Request<'_>, visit: &mut impl FnMut(usize)) {
        match &self.0 {
            How::One(at) if *at < request.len() => visit(*at),
            How::One(_) => {}
            How::Spec(begin, find) => places(begin, find, request).for_each(visit),
            How::Walk(walk) => walk.visit(request, visit),
        }
    }
}

/// Where a specification's keys stand: nowhere in a request that is too short for them.
fn places(begin: &Begin, find: &Find, request: &Request<'_>) -> impl Iterator<Item = usize> {
    let argc = request.len() as i64;
    let range = begin.place(request, argc).and_then(|begin| find.range(request, begin, argc));
    let found = range.filter(|(first, last, step)| *first >= 1 && *last < argc && *step >= 1);
    let (first, last, step) = found.unwrap_or((1, 0, 1));
    (first..=last).step_by(step as usize).map(|at| at as usize)
}

impl Begin {
    fn place(&self, request: &Request<'_>, argc: i64) -> Option<i64> {
        match self {
            Self::Index(index) => Some(*index),
            Self::Keyword(word, start) if *start >= 0 => {
                (*start..argc - 1).find(|i| request.is(*i as usize, word)).map(|i| i + 1)
            }
            Self::Keyword(word, start) => {
                (2..=argc + start).rev().find(|i| request.is(*i as usize, word)).map(|i| i + 1)
            }
        }
    }
}

impl Find {
    fn range(&self, request: &Request<'_>, begin: i64, argc: i64) -> Option<(i64, i64, i64)> {
        match *self {
            Self::Range { last, step, .. } if last >= 0 => Some((begin, begin + last, step)),
            Self::Range { last, step, limit: 0 | 1 } => Some((begin, argc + last, step)),
            Self::Range { last, step, limit } => Some((begin, begin + (argc - begin) / limit + last, step)),
            Self::Keynum { index, first, step } => {
                let count = parse_i64(request.arg(usize::try_from(begin + index).ok()?))?;
                let first = begin + first;
                let last = count.checked_sub(1)?.checked_mul(step)?.checked_add(first)?;
                Some((first, last, step))
            }
        }
    }
}
