//! Reads a statement's words: which may be names, and which are parameters. Knows the ways of SQL to write strings,
//! quoted names and comments, and nothing of its grammar. Pure.
//!
//! Source: <https://www.postgresql.org/docs/current/sql-syntax-lexical.html>

/// Words of a statement that may name a table, with their schema where they have one. Some will be columns, functions
/// or keywords: those are no tables, or do no harm.
pub(super) fn names_in(sql: &str) -> Vec<String> {
    let (mut names, mut rest) = (Vec::new(), sql);
    while !rest.is_empty() {
        let (name, behind) = rest.split_at(name_length(rest));
        let is_escaping = name.eq_ignore_ascii_case("e");
        names.extend(Some(name.to_owned()).filter(|name| is_name(name)));
        rest = &behind[passed_over(behind, is_escaping)..];
    }
    names
}

/// The length of the name with which a text begins.
pub(super) fn name_length(text: &str) -> usize {
    let mut is_quoted = false;
    let end = text.find(|c: char| {
        is_quoted ^= c == '"';
        let is_part = is_quoted || c.is_alphanumeric() || "_.\"".contains(c);
        !is_part
    });
    end.unwrap_or(text.len())
}

/// The length of what a text begins with that is no name: a comment, a string, or one character. `is_escaping`: in the
/// string a backslash makes the next character one of its own.
fn passed_over(text: &str, is_escaping: bool) -> usize {
    let up_to = |end: &str, begun: usize| text[begun..].find(end).map_or(text.len(), |at| begun + at + end.len());
    match text.chars().next() {
        Some('-') if text.starts_with("--") => up_to("\n", 2),
        Some('/') if text.starts_with("/*") => comment_length(text),
        Some('\'') if is_escaping => escaped_length(text),
        Some('\'') => up_to("'", 1),
        Some('$') => dollar_tag(text).map_or(1, |tag| up_to(tag, tag.len())),
        first => first.map_or(0, char::len_utf8),
    }
}

/// The length of the comment with which a text begins; others may stand in it.
fn comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while let Some(found) = text[at..].find(['/', '*']) {
        at += found;
        let (step, deeper) = match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at += step;
        depth += deeper;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of a string in which a backslash may stand before a quote, or another quote: `E'it\'s'`, `E'it''s'`.
fn escaped_length(text: &str) -> usize {
    let (mut is_escaped, mut chars) = (false, text.char_indices().skip(1).peekable());
    while let Some((at, c)) = chars.next() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '\'' if chars.next_if(|(_, next)| *next == '\'').is_none() => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The `$tag$` with which a text begins; `$1` is a parameter.
fn dollar_tag(text: &str) -> Option<&str> {
    let tag = text[1..].split_once('$')?.0;
    let is_tag = tag.chars().all(|c| c.is_alphanumeric() || c == '_') && !tag.starts_with(|c: char| c.is_ascii_digit());
    is_tag.then(|| &text[..tag.len() + 2])
}

/// `table` or `schema.table`; never a number.
fn is_name(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() <= 2 && parts.iter().all(|part| part.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '"'))
}

/// The statement with another text in place of each parameter `$1`, `$2`, ...
pub(super) fn with_parameters(sql: &str, replace: impl Fn(usize) -> String) -> String {
    let (mut replaced, mut rest) = (String::with_capacity(sql.len()), sql);
    while !rest.is_empty() {
        let mut end = name_length(rest);
        let is_escaping = rest[..end].eq_ignore_ascii_case("e");
        if let Some((number, length)) = parameter(&rest[end..]).filter(|_| end == 0) {
            replaced.push_str(&replace(number));
            rest = &rest[length..];
            continue;
        }
        // A dollar sign in a name belongs to it.
        let is_in_name = end > 0 && rest[end..].starts_with('$');
        end += if is_in_name { 1 } else { passed_over(&rest[end..], is_escaping) };
        replaced.push_str(&rest[..end]);
        rest = &rest[end..];
    }
    replaced
}

/// The number of the parameter with which a text begins, and its length.
fn parameter(text: &str) -> Option<(usize, usize)> {
    let digits = text.strip_prefix('$')?;
    let length = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    Some((digits[..length].parse().ok()?, length + 1))
}

#[cfg(test)]
mod tests {
    use super::{names_in, with_parameters};

    #[test]
    fn every_table_of_a_statement_is_among_its_names() {
        let names = names_in(
            "WITH x AS (SELECT * FROM game.items i JOIN \"My Table\" USING (id)) \
             SELECT 'no.thing', 1.5 FROM x, s.\"T\" WHERE a = $1",
        );
        for table in ["game.items", "\"My Table\"", "s.\"T\"", "x"] {
            assert!(names.iter().any(|name| name == table), "{table}: {names:?}");
        }
        assert!(names.iter().all(|name| !name.contains("thing") && !name.starts_with('1')), "{names:?}");
    }

    #[test]
    fn comments_and_strings_hide_no_table() {
        for before in
            ["-- the player's row\n", "/* it's */", "SELECT E'it\\'s', 'it''s', $1, $$it's$$, $q$it's$$$q$, \"it's\" "]
        {
            let names = names_in(&format!("{before}FROM players"));
            assert!(names.contains(&"players".to_owned()), "{before}: {names:?}");
            assert!(!names.iter().any(|name| name == "s"), "{before}: {names:?}");
        }
        assert_eq!(names_in("it's -- no end"), ["it"]);
    }

    #[test]
    fn a_parameter_is_replaced_wherever_it_is_one() {
        for (sql, replaced) in [
            ("a = $1 AND b=$2::text", "a = <1> AND b=<2>::text"),
            ("$12$1", "<12><1>"),
            ("'$1' \"$1\" a$1 E'\\'$1' $q$ $1 $q$ $1", "'$1' \"$1\" a$1 E'\\'$1' $q$ $1 $q$ <1>"),
            ("E'it''s \\'$1' || $1", "E'it''s \\'$1' || <1>"),
            ("-- $1\n$1 /* $1 /* ' */ $1 */ $1", "-- $1\n<1> /* $1 /* ' */ $1 */ <1>"),
            ("f($1)||ä$1||'ä'||$1", "f(<1>)||ä$1||'ä'||<1>"),
        ] {
            assert_eq!(with_parameters(sql, |number| format!("<{number}>")), replaced);
        }
    }
}
