//! Suggests the command that a mistyped name probably means.

use super::table::all;

/// The command, as it is written in settings, that `name` (`COMMAND` or `CONTAINER SUBCOMMAND`, in any case) nearly is;
/// `None` if it is one, or is like none. A module's command, which has a dot in its name, is like none.
#[must_use]
pub fn suggestion(name: &str) -> Option<String> {
    let wanted = name.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_uppercase();
    if wanted.contains('.') {
        return None;
    }
    let known = all().map(|spec| spec.name.replace('|', " ").to_ascii_uppercase());
    let most = if wanted.len() < 5 { 1 } else { 2 };
    let nearest = known.map(|known| (distance(&wanted, &known), known)).min()?;
    (1..=most).contains(&nearest.0).then_some(nearest.1)
}

/// Letters that are missing, too many, others or changed about (optimal string alignment).
/// Source: <https://en.wikipedia.org/wiki/Damerau%E2%80%93Levenshtein_distance>
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut rows: Vec<Vec<usize>> = vec![(0..=other.len()).collect()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let differs = usize::from(one[i - 1] != other[j - 1]);
            let mut least = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + differs);
            if i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::suggestion;

    #[test]
    fn a_name_that_is_nearly_a_command_is_told_and_others_are_left_alone() {
        for (name, expected) in [
            ("FLUSHAL", Some("FLUSHALL")),
            ("flushlal", Some("FLUSHALL")),
            ("CONFIG SETT", Some("CONFIG SET")),
            ("config  stet", Some("CONFIG SET")),
            ("GTE", Some("GET")),
            ("FLUSHALL", None),
            ("config set", None),
            ("CONFIG", None),
            ("FT.SEARCH", None),
            ("JSON.GET", None),
            ("REPLICATE-ME", None),
            ("CLIENT NEWER", None),
        ] {
            assert_eq!(suggestion(name).as_deref(), expected, "{name}");
        }
    }
}
