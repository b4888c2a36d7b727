//! A program's text without what only people read: a test that looks for a name in it must not find it in a comment.

/// Without the module of tests at its end; one in a file of its own is only named, and what follows is the program's.
pub(crate) fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests {").map_or(text, |end| &text[..end])
}

/// Without comments, and with every string empty.
pub(crate) fn without_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| string(rest)).or_else(|| character(rest));
        if let Some(skipped) = skipped {
            // A name before it does not run into one behind it.
            out.push(' ');
            rest = &rest[skipped..];
        } else {
            // `r#"` is no end of a name such as `for`.
            let word = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let taken = word.max(first.len_utf8());
            out.push_str(&rest[..taken]);
            rest = &rest[taken..];
        }
    }
    out
}

/// Whether `path` is in the text, and not a part of a longer name.
pub(crate) fn has_word(text: &str, path: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(path)
        .any(|(at, _)| !text[..at].ends_with(word) && !text[at + path.len()..].starts_with(word))
}

/// The length of the comment that the text begins with.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    text.starts_with("/*").then(|| text.find("*/").map_or(text.len(), |at| at + 2))
}

/// The same of a string.
fn string(text: &str) -> Option<usize> {
    let plain = text.strip_prefix('b').unwrap_or(text);
    let before = text.len() - plain.len();
    if let Some(raw) = plain.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let inside = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", &raw[..hashes]);
        let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
        return Some(before + 1 + hashes + 1 + length);
    }
    quoted(plain, '"').map(|length| before + length)
}

/// The same of a character; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        return quoted(text, '\'');
    }
    inside[first.len_utf8()..].starts_with('\'').then(|| first.len_utf8() + 2)
}

fn quoted(text: &str, quote: char) -> Option<usize> {
    let inside = text.strip_prefix(quote)?;
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        if c == quote && !escaped {
            return Some(at + 2);
        }
        escaped = c == '\\' && !escaped;
    }
    Some(text.len())
}

#[test]
fn words_of_comments_and_strings_are_not_the_programs() {
    let text =
        "a.b // c.d\n/* e.f */ g(\"h.i \\\" j.k\"); l('\"', '\\'', b\"m.n\") r#\"o \" p.q\"# for<'a> s.t";
    let code = without_words(text);
    for there in ["a.b", "g", "l", "for", "s.t"] {
        assert!(has_word(&code, there), "{there} in {code}");
    }
    for gone in ["c.d", "e.f", "h.i", "j.k", "m.n", "p.q", "o"] {
        assert!(!has_word(&code, gone), "{gone} in {code}");
    }
    assert!(!has_word("class.named", "class.name") && !has_word("my_class.name", "class.name"));
    let text = "a\n#[cfg(test)]\nmod tests;\nb\n#[cfg(test)]\nmod tests {\n c }";
    assert!(without_tests(text).ends_with("b\n"));
}
