//! The files below `src`, read so that words in comments and quotes are not taken for code.

use super::texts;

/// One source file.
pub struct Code {
    /// Its path from `src`: `cache/memory/loads.rs`.
    pub path: String,
    /// The code, without comments, quoted text and the module of its unit tests. Its lines stay where they are.
    pub bare: String,
}

/// A function of a file, and how many lines it has.
pub struct Function {
    pub name: String,
    pub lines: usize,
}

/// Every source file below `src`.
pub fn sources() -> Vec<Code> {
    let files = texts::files(&["src"]).into_iter().filter(|path| path.ends_with(".rs"));
    files
        .map(|file| Code { path: file["src/".len()..].to_owned(), bare: without_tests(&bare(&texts::read(&file))) })
        .collect()
}

impl Code {
    /// The top-level module that it belongs to.
    pub fn module(&self) -> &str {
        self.path.split('/').next().unwrap_or(&self.path).trim_end_matches(".rs")
    }

    /// The folder that it stands in.
    pub fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// How many modules are around it and it: 1 for `cache/mod.rs`, 2 for `cache/listing.rs`.
    pub fn depth(&self) -> usize {
        self.path.split('/').count() - usize::from(self.path.ends_with("/mod.rs"))
    }

    /// The names of the types that it declares, those of functions and implementations not among them.
    pub fn types(&self) -> impl Iterator<Item = &str> {
        self.bare.lines().filter_map(|line| {
            let line = line.strip_prefix("pub(super) ").or(line.strip_prefix("pub(crate) ")).unwrap_or(line);
            let line = line.strip_prefix("pub ").unwrap_or(line);
            let name = ["struct ", "enum ", "trait ", "type "].iter().find_map(|kind| line.strip_prefix(kind))?;
            name.split(|c: char| !c.is_alphanumeric()).next()
        })
    }

    /// The functions that have a body.
    pub fn functions(&self) -> Vec<Function> {
        self.bare.match_indices("fn ").filter_map(|(at, _)| function(&self.bare[..at], &self.bare[at + 3..])).collect()
    }
}

/// The function whose name begins `text`, behind `before` and the word `fn`.
fn function(before: &str, text: &str) -> Option<Function> {
    let name: String = text.chars().take_while(|&c| is_word(c)).collect();
    if name.is_empty() || before.ends_with(is_word) {
        return None;
    }
    let (mut depth, mut has_body) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => {
                has_body |= c == '{' && depth == 0;
                depth += 1;
            }
            ')' | ']' | '}' => depth -= 1,
            ';' if depth == 0 => return None,
            _ => {}
        }
        if c == '}' && depth == 0 && has_body {
            return Some(Function { name, lines: text[..at].matches('\n').count() + 1 });
        }
    }
    None
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The text before the module of its unit tests.
fn without_tests(code: &str) -> String {
    code.split("#[cfg(test)]\nmod tests {").next().unwrap_or(code).trim_end().to_owned()
}

/// The text without its comments, and with nothing in its quotes.
fn bare(text: &str) -> String {
    let (mut rest, mut bare) = (text, String::new());
    while let Some(next) = rest.chars().next() {
        let length = match dead(rest, bare.ends_with(is_word)) {
            Some(length) => {
                let comment = rest.starts_with('/');
                bare.push_str(if comment { "" } else { "\"\"" });
                bare.extend(rest[..length].matches('\n'));
                length
            }
            None => {
                bare.push(next);
                next.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    bare
}

/// The length of the comment or the quoted text that begins here, if one does.
fn dead(text: &str, behind_a_word: bool) -> Option<usize> {
    let up_to = |end: &str, from: usize| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("//") {
        return Some(up_to("\n", 0) - usize::from(text.contains('\n')));
    }
    if text.starts_with("/*") {
        return Some(up_to("*/", 2));
    }
    if let Some(raw) = text.strip_prefix('r').filter(|_| !behind_a_word) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            return Some(up_to(&format!("\"{}", "#".repeat(hashes)), hashes + 2));
        }
    }
    if let Some(string) = text.strip_prefix('"') {
        let mut escaped = false;
        let end = string.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        return Some(end.map_or(text.len(), |at| at + 2));
    }
    if text.starts_with("'\\") {
        return Some(up_to("'", 3));
    }
    // Else it is a lifetime.
    let inner = text.strip_prefix('\'')?.chars().next()?;
    text[1 + inner.len_utf8()..].starts_with('\'').then_some(2 + inner.len_utf8())
}

#[test]
fn what_is_quoted_or_commented_is_no_code() {
    let text = r####"fn a<'x>() -> [u8; 2] { f("} \" //", 'y', '\'', '"', r#"{"#) } // fn b() {}
/* } */ fn c() {
}
#[cfg(test)]
mod tests { fn d() {} }"####;
    let code = Code { path: "keys/glob.rs".to_owned(), bare: without_tests(&bare(text)) };
    let found: Vec<(String, usize)> = code.functions().into_iter().map(|one| (one.name, one.lines)).collect();
    assert_eq!(found, [("a".to_owned(), 1), ("c".to_owned(), 2)], "{}", code.bare);
    assert_eq!((code.module(), code.folder(), code.depth()), ("keys", "keys", 2));
}
