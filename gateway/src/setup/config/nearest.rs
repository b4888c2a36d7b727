//! The known word nearest to a mistyped one.

/// The nearest of `known`, if it is near enough: at most every third character differs, or the rest was left off.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    let far = 1 + length.min(24) / 3;
    // A word of any length costs nothing where no known one is about as long.
    let near = known.filter(|known| {
        !known.is_empty() && (known.starts_with(word) || known.chars().count().abs_diff(length) <= far)
    });
    let measured = near.map(|known| {
        let cut = word.len() >= 4 && known.starts_with(word);
        (if cut { 1 } else { strsim::levenshtein(word, known) }, known)
    });
    measured.filter(|&(distance, _)| distance <= far).min().map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_find_their_word_and_strangers_find_none() {
        let known = ["host", "port", "keep_alive_s", "client_id"];
        for (word, meant) in [
            ("hots", Some("host")),
            ("prot", Some("port")),
            ("keepalive_s", Some("keep_alive_s")),
            ("clientid", Some("client_id")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), meant, "{word}");
        }
    }
}
