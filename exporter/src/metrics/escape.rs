//! How text is written in an exposition: the same rules for help and label values in both formats.

/// Appends a label value with `\`, `"` and line feeds escaped.
pub fn escape_label(value: &str, out: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str(r"\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str(r"\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn hostile_values_stay_one_label() {
        let mut out = String::new();
        super::escape_label("a\"b\\c\nd", &mut out);
        assert_eq!(out, r#"a\"b\\c\nd"#);
    }
}
