//! Reads the text exposition: samples with their labels still as text, because the same text comes again at each poll.

/// Calls `visit(family, labels, value)` for each sample. Skips comments and what is no finite number.
pub(super) fn each_sample<'a>(text: &'a str, mut visit: impl FnMut(&'a str, &'a str, f64)) {
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        if !value.is_finite() {
            continue;
        }
        let (family, labels) = series.split_once('{').unwrap_or((series, ""));
        visit(family, labels.strip_suffix('}').unwrap_or(labels), value);
    }
}

/// Returns the labels of `a="b",c="d"` with the escapes of the text format undone.
pub(crate) fn labels(text: &str) -> Vec<(&str, String)> {
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some((name, value)) = rest.split_once("=\"") {
        let mut unescaped = String::new();
        let mut letters = value.char_indices();
        let mut end = value.len();
        while let Some((index, letter)) = letters.next() {
            match letter {
                '"' => {
                    end = index + 1;
                    break;
                }
                '\\' => match letters.next() {
                    Some((_, 'n')) => unescaped.push('\n'),
                    Some((_, other)) => unescaped.push(other),
                    None => {}
                },
                other => unescaped.push(other),
            }
        }
        labels.push((name.trim_start_matches(','), unescaped));
        rest = value.get(end..).unwrap_or_default();
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_lose_their_escapes_and_may_hold_any_sign() {
        let text = r#"id="/docker/a",name="a\"b\\c\n} 1,x=\"",image="""#;
        let expected = [("id", "/docker/a"), ("name", "a\"b\\c\n} 1,x=\""), ("image", "")];
        let labels = labels(text);
        assert_eq!(labels.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_no_sample_is_skipped() {
        let text = "# HELP a b\na 1\na{b=\"} 2\"} 3\n\nnonsense\nb NaN\nb +Inf\nc{ 4\n";
        let mut samples = Vec::new();
        each_sample(text, |family, labels, value| samples.push((family, labels, value.to_string())));
        let expected = [("a", "", "1"), ("a", "b=\"} 2\"", "3"), ("c", "", "4")];
        assert_eq!(samples.iter().map(|(a, b, c)| (*a, *b, c.as_str())).collect::<Vec<_>>(), expected);
    }
}
