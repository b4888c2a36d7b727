//! The known word that a mistyped one most likely meant.

/// The nearest of `known`, if it is near enough: at most every third character differs, or the rest was left off.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let far = 1 + word.chars().count().min(24) / 3;
    let measured = known.filter(|known| !known.is_empty()).map(|known| {
        let cut = word.len() >= 4 && known.starts_with(word);
        (if cut { 1 } else { distance(word, known) }, known)
    });
    measured.filter(|&(distance, _)| distance <= far).min().map(|(_, known)| known)
}

/// Characters to insert, delete or replace to turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(100).enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
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

    #[test]
    fn distance_counts_single_changes() {
        for (a, b, expected) in [("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
