//! Names that others choose, as they are shown: they may be any bytes, and as long as a request.

/// The beginning of a text, at most so many bytes of it, which cuts no character in two.
#[must_use]
pub fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// A name as text, with bytes that are no UTF-8 as `\xff`; of a longer one than so many bytes the beginning, and `...`.
#[must_use]
pub fn shown(name: &[u8], most: usize) -> String {
    let begin = &name[..name.len().min(most)];
    let is_cut = begin.len() < name.len();
    let text = match std::str::from_utf8(begin) {
        Ok(text) => text.to_owned(),
        // The last character is cut in two.
        Err(error) if is_cut && error.error_len().is_none() => {
            String::from_utf8_lossy(&begin[..error.valid_up_to()]).into_owned()
        }
        Err(_) => begin.escape_ascii().to_string(),
    };
    if !is_cut && text.len() <= most { text } else { format!("{}...", cut(&text, most)) }
}

#[cfg(test)]
mod tests {
    use super::{cut, shown};

    #[test]
    fn a_name_is_shown_whole_or_by_whole_characters_of_its_beginning() {
        assert_eq!(cut("ääää", 5), "ää");
        for (name, text) in [
            (&b"hero:1"[..], "hero:1"),
            ("ääää".as_bytes(), "ääää"),
            ("äääää".as_bytes(), "ääää..."),
            ("aääää".as_bytes(), "aäää..."),
            (b"a\xffb", r"a\xffb"),
            (b"\xff\xff\xff", r"\xff\xff..."),
            (b"", ""),
        ] {
            assert_eq!(shown(name, 8), text);
        }
    }
}
