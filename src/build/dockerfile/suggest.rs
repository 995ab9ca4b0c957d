//! What may have been meant by a mistyped word.

/// No word that anybody means is longer, in bytes.
const LONGEST: usize = 256;

/// The word of `known` that is nearest to `word`, if it is near enough to be a slip of the fingers: one change for
/// short words, two for longer ones, letter case left aside.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let word = word.to_lowercase();
    let limit = if word.chars().count() <= 3 { 1 } else { 2 };
    known
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The Levenshtein distance of two words, with a swap of neighbours counted as one change.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut rows = vec![(0..=right.len()).collect::<Vec<usize>>()];
    for (i, from) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in right.iter().enumerate() {
            let above = rows[i][j + 1] + 1;
            let before = row[j] + 1;
            let replaced = rows[i][j] + usize::from(from != to);
            let mut best = above.min(before).min(replaced);
            if i > 0 && j > 0 && left[i - 1] == *to && right[j - 1] == *from {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["RUN", "COPY", "ENTRYPOINT", "HEALTHCHECK"];
        assert_eq!(nearest("rnu", known), Some("RUN"));
        assert_eq!(nearest("CPOY", known), Some("COPY"));
        assert_eq!(nearest("entripoint", known), Some("ENTRYPOINT"));
        assert_eq!(nearest("apt-get", known), None);
        assert_eq!(nearest("XYZ", known), None);
    }
}
