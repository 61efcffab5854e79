//! The parser behind [`Exposition`](super::Exposition): text in, families out, the first broken rule as an error.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

use super::{Family, Format, Sample};

/// Parses line by line.
pub(super) fn families(text: &str, format: Format) -> Result<Vec<Family>> {
    ensure!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
    let mut parser = Parser { format, families: Vec::new(), series: BTreeSet::new(), ended: false };
    for (number, line) in text.split_terminator('\n').enumerate() {
        parser.line(line).with_context(|| format!("line {}: {line:.200}", number + 1))?;
    }
    ensure!(format == Format::Text || parser.ended, "no # EOF at the end");
    Ok(parser.families)
}

struct Parser {
    format: Format,
    families: Vec<Family>,
    series: BTreeSet<String>,
    ended: bool,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<()> {
        ensure!(!self.ended, "text after # EOF");
        ensure!(!line.is_empty(), "an empty line");
        ensure!(!line.ends_with('\r'), "a carriage return before the end of the line");
        if line == "# EOF" && self.format == Format::OpenMetrics {
            self.ended = true;
            return Ok(());
        }
        match line.strip_prefix("# ") {
            Some(comment) => self.comment(comment),
            None => self.sample(line),
        }
    }

    fn comment(&mut self, comment: &str) -> Result<()> {
        let mut words = comment.splitn(3, ' ');
        let (keyword, name) = (words.next().unwrap_or_default(), words.next().context("no name")?);
        let rest = words.next().unwrap_or_default();
        ensure!(is_metric_name(name), "{name:?} is no metric name");
        let family = self.family(name)?;
        ensure!(family.samples.is_empty(), "# {keyword} after samples of {name}");
        match keyword {
            "HELP" => {
                ensure!(family.help.is_empty(), "a second # HELP for {name}");
                family.help = unescape(rest)?;
                ensure!(!family.help.trim().is_empty(), "no help for {name}");
            }
            "TYPE" => {
                ensure!(family.kind.is_empty(), "a second # TYPE for {name}");
                rest.clone_into(&mut family.kind);
                self.kind_is_known(rest)?;
            }
            "UNIT" => {
                ensure!(family.unit.is_none(), "a second # UNIT for {name}");
                ensure!(name.ends_with(&format!("_{rest}")), "{name} does not end in its unit {rest}");
                family.unit = Some(rest.to_owned());
            }
            _ => bail!("a comment that is neither HELP nor TYPE nor UNIT"),
        }
        Ok(())
    }

    fn kind_is_known(&self, kind: &str) -> Result<()> {
        let text = ["counter", "gauge", "histogram", "summary", "untyped"];
        let open = ["counter", "gauge", "histogram", "summary", "unknown", "info", "stateset", "gaugehistogram"];
        let known = if self.format == Format::Text { text.as_slice() } else { open.as_slice() };
        ensure!(known.contains(&kind), "{kind:?} is no type in this format");
        Ok(())
    }

    /// The family of a comment line: the last one, or a new one.
    fn family(&mut self, name: &str) -> Result<&mut Family> {
        if self.families.last().is_none_or(|last| last.name != name) {
            ensure!(self.families.iter().all(|family| family.name != name), "the family {name} comes a second time");
            self.families.push(Family { name: name.to_owned(), ..Family::default() });
        }
        self.families.last_mut().context("no family")
    }

    fn sample(&mut self, line: &str) -> Result<()> {
        let sample = sample(line)?;
        let format = self.format;
        let family = self.families.last_mut().context("a sample before any # TYPE")?;
        ensure!(!family.kind.is_empty() && !family.help.is_empty(), "a family without # TYPE or # HELP");
        ensure!(
            belongs(&sample.name, family, format),
            "{} does not belong to {} {}",
            sample.name,
            family.kind,
            family.name
        );
        if family.kind == "counter" {
            ensure!(sample.value >= 0.0, "a counter that is negative or not a number");
        }
        // A label with an empty value is the same series as one without the label.
        let mut labels = sample.labels.clone();
        labels.retain(|_, value| !value.is_empty());
        ensure!(self.series.insert(format!("{} {labels:?}", sample.name)), "a series that comes twice");
        family.samples.push(sample);
        Ok(())
    }
}

fn belongs(sample: &str, family: &Family, format: Format) -> bool {
    let Some(suffix) = sample.strip_prefix(family.name.as_str()) else { return false };
    match (family.kind.as_str(), format) {
        ("counter", Format::OpenMetrics) => matches!(suffix, "_total" | "_created"),
        ("histogram", _) => matches!(suffix, "_bucket" | "_sum" | "_count" | "_created"),
        ("summary", _) => matches!(suffix, "" | "_sum" | "_count"),
        ("info", _) => suffix == "_info",
        _ => suffix.is_empty(),
    }
}

fn sample(line: &str) -> Result<Sample> {
    let name_end = line.find(['{', ' ']).context("neither labels nor a value")?;
    let (name, rest) = line.split_at(name_end);
    ensure!(is_metric_name(name), "{name:?} is no metric name");
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let text = rest.strip_prefix(' ').context("no space before the value")?;
    ensure!(!text.contains(' '), "a timestamp or an exemplar");
    Ok(Sample { name: name.to_owned(), labels, text: text.to_owned(), value: number(text)? })
}

fn number(text: &str) -> Result<f64> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        _ => {
            ensure!(
                text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e')),
                "{text:?} is no number"
            );
            text.parse().with_context(|| format!("{text:?} is no number"))
        }
    }
}

/// Labels after the opening brace, and what follows the closing one.
fn labels(mut rest: &str) -> Result<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    if let Some(after) = rest.strip_prefix('}') {
        return Ok((labels, after));
    }
    loop {
        let (name, after) = rest.split_once("=\"").context("a label without a value")?;
        ensure!(is_label_name(name), "{name:?} is no label name");
        let end = closing_quote(after).context("a label value without an end")?;
        let (value, after) = after.split_at(end);
        ensure!(labels.insert(name.to_owned(), unescape(value)?).is_none(), "the label {name} comes twice");
        match after.get(1..2) {
            Some(",") => rest = after.get(2..).unwrap_or_default(),
            Some("}") => return Ok((labels, after.get(2..).unwrap_or_default())),
            _ => bail!("neither , nor }} after the label {name}"),
        }
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

fn unescape(text: &str) -> Result<String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some(quoted @ ('\\' | '"')) => quoted,
                other => bail!("the escape \\{other:?}"),
            },
            other => other,
        });
    }
    Ok(plain)
}

fn is_metric_name(name: &str) -> bool {
    is_name(name, |byte| byte == b':')
}

fn is_label_name(name: &str) -> bool {
    is_name(name, |_| false) && !name.starts_with("__")
}

fn is_name(name: &str, also: impl Fn(u8) -> bool) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || also(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &str) -> Result<Vec<Family>> {
        families(&format!("# HELP a_total A.\n# TYPE a_total counter\n{body}"), Format::Text)
    }

    #[test]
    fn labels_are_unescaped() {
        let families = text("a_total{x=\"q\\\"\\\\\\n}\",y=\"\"} 1.50\n").unwrap();
        let sample = &families[0].samples[0];
        assert_eq!((sample.label("x"), sample.text.as_str()), ("q\"\\\n}", "1.50"));
    }

    #[test]
    fn every_broken_rule_is_found() {
        for (body, rule) in [
            ("a_total 1\na_total 2\n", "comes twice"),
            ("a_total{x=\"\"} 1\na_total 2\n", "comes twice"),
            ("a_total 1 1700000000000\n", "timestamp"),
            ("a_total -1\n", "negative"),
            ("a_total NaN\n", "negative"),
            ("b_total 1\n", "does not belong"),
            ("a_total{x=\"1\",x=\"2\"} 1\n", "comes twice"),
            ("a_total{x=\"\\t\"} 1\n", "escape"),
            ("a_total{9=\"\"} 1\n", "label name"),
            ("a_total inf\n", "no number"),
            ("a_total 1", "no end"),
            ("\na_total 1\n", "empty line"),
            ("# HELP b B.\n# TYPE b gauge\nb 1\n# HELP a_total A.\n", "a second time"),
            ("# HELP b B.\nb 1\n", "without # TYPE"),
        ] {
            let error = format!("{:#}", text(body).expect_err(body));
            assert!(error.contains(rule), "{body:?}: {error}");
        }
    }

    #[test]
    fn openmetrics_has_its_own_rules() {
        let good = "# HELP a_bytes A.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total 1\n# EOF\n";
        families(good, Format::OpenMetrics).unwrap();
        for bad in [
            good.replace("# EOF\n", ""),
            good.replace("a_bytes_total", "a_bytes"),
            good.replace("UNIT a_bytes bytes", "UNIT a_bytes seconds"),
            format!("{good}a_bytes_total 2\n"),
        ] {
            assert!(families(&bad, Format::OpenMetrics).is_err(), "{bad}");
        }
    }
}
