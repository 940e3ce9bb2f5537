//! Suggestions: the known word that an unknown one probably stands for.

/// The candidate that was probably meant: one that differs only in case, or in edits of at most a third of the word's
/// length.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let bound = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= bound.saturating_mul(4))
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The help text of a suggestion; `None` if no candidate is near.
pub fn did_you_mean<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

fn distance(word: &str, candidate: &str) -> usize {
    if word.eq_ignore_ascii_case(candidate) {
        return 0;
    }
    strsim::osa_distance(word, candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_stay_within_a_small_distance() {
        assert_eq!(nearest("writter", ["reader", "writer"]), Some("writer"));
        assert_eq!(nearest("Writer", ["writer"]), Some("writer"));
        assert_eq!(nearest("ab", ["xy", "abc"]), Some("abc"));
        assert_eq!(nearest("publish", ["consume"]), None);
    }
}
