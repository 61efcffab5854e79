//! A scanner of `PromQL`: the selectors, aggregations and divisions of an expression that Prometheus accepts.
//!
//! It does not validate expressions; `promtool` and Prometheus do.

/// A selector of a metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Selector {
    pub(super) metric: String,
    /// The text in braces: labels, operators and values.
    pub(super) matchers: String,
    /// The text in brackets.
    pub(super) range: Option<String>,
    /// The functions around the selector, innermost first.
    pub(super) within: Vec<String>,
    /// Whether the selector is a divisor without a comparison that excludes 0.
    pub(super) is_bare_divisor: bool,
}

/// `sum`, `topk` and their like.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Aggregation {
    pub(super) operator: String,
    /// `by` or `without`, and the labels.
    pub(super) clause: Option<(String, Vec<String>)>,
}

/// The parts of an expression.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Parts {
    pub(super) selectors: Vec<Selector>,
    pub(super) aggregations: Vec<Aggregation>,
    pub(super) has_comparison: bool,
}

const AGGREGATIONS: &[&str] = &["sum", "min", "max", "avg", "count", "topk", "bottomk", "quantile", "stddev", "group"];
const OPERATORS: &[&str] = &["and", "or", "unless", "bool", "offset", "inf", "nan"];
const CLAUSES: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];

/// A token: a word, a string with its quotes, or a sign.
fn tokens(expr: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = expr.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |character: char| character.is_ascii_alphanumeric() || "_:.$".contains(character);
        let length = match first {
            '"' | '\'' => rest.get(1..).and_then(|inside| inside.find(first)).map_or(rest.len(), |end| end + 2),
            '=' | '!' | '<' | '>' => 1 + usize::from(rest.get(1..2).is_some_and(|next| "=~".contains(next))),
            first if is_word(first) => rest.find(|character| !is_word(character)).unwrap_or(rest.len()),
            first => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

/// Scans an expression.
pub(super) fn scan(expr: &str) -> Parts {
    let mut scanner = Scanner { tokens: tokens(expr), ..Scanner::default() };
    while scanner.step() {}
    scanner.parts
}

#[derive(Default)]
struct Scanner<'a> {
    tokens: Vec<&'a str>,
    position: usize,
    /// The open parentheses: what stands before them, and whether the group is a divisor.
    open: Vec<(String, bool)>,
    /// Whether the next operand is divided by.
    divides: bool,
    parts: Parts,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> &'a str {
        self.tokens.get(self.position).copied().unwrap_or_default()
    }

    fn take(&mut self) -> &'a str {
        let token = self.peek();
        self.position += 1;
        token
    }

    /// Takes the next token, which opens a group, and returns the tokens up to `close`.
    fn enclosed(&mut self, close: &str) -> Vec<&'a str> {
        self.take();
        let rest = self.tokens.get(self.position..).unwrap_or_default();
        let inside: Vec<&str> = rest.iter().copied().take_while(|token| *token != close).collect();
        self.position += inside.len() + 1;
        inside
    }

    fn step(&mut self) -> bool {
        let token = self.take();
        match token {
            "" => return false,
            "(" => self.open_group(String::new()),
            ")" => drop(self.open.pop()),
            "/" => self.divides = true,
            "==" | "!=" | "<" | ">" | "<=" | ">=" => self.compare(token),
            "@" => {
                // `end()` or a number.
                self.take();
                if self.peek() == "(" {
                    self.enclosed(")");
                }
            }
            word if word.starts_with(|first: char| first.is_ascii_alphabetic()) => self.word(word),
            _ => {}
        }
        true
    }

    fn open_group(&mut self, before: String) {
        self.open.push((before, std::mem::take(&mut self.divides)));
    }

    /// Handles a comparison. A selector in a group that excludes 0 is no bare divisor.
    fn compare(&mut self, operator: &str) {
        self.parts.has_comparison = true;
        if self.open.last().is_some_and(|(_, divisor)| *divisor) && operator == ">" {
            let depth = self.open.len();
            let selectors = self.parts.selectors.iter_mut().rev();
            selectors.take_while(|one| one.within.len() >= depth).for_each(|one| one.is_bare_divisor = false);
        }
    }

    fn word(&mut self, word: &str) {
        if CLAUSES.contains(&word) {
            let labels = self.enclosed(")").into_iter().filter(|token| *token != ",").map(str::to_owned).collect();
            if let ("by" | "without", Some(aggregation)) = (word, self.parts.aggregations.last_mut()) {
                aggregation.clause = Some((word.to_owned(), labels));
            }
        } else if AGGREGATIONS.contains(&word) {
            self.parts.aggregations.push(Aggregation { operator: word.to_owned(), clause: None });
            if CLAUSES.contains(&self.peek()) {
                let clause = self.take();
                self.word(clause);
            }
            self.take();
            self.open_group(word.to_owned());
        } else if self.peek() == "(" && !OPERATORS.contains(&word) {
            self.take();
            self.open_group(word.to_owned());
        } else if !OPERATORS.contains(&word) {
            self.selector(word);
        }
    }

    fn selector(&mut self, metric: &str) {
        let matchers = if self.peek() == "{" { self.enclosed("}").concat() } else { String::new() };
        let range = (self.peek() == "[").then(|| self.enclosed("]").concat());
        let is_bare_divisor = std::mem::take(&mut self.divides) || self.open.iter().any(|(_, divisor)| *divisor);
        let within = self.open.iter().rev().map(|(function, _)| function.clone()).collect();
        self.parts.selectors.push(Selector { metric: metric.to_owned(), matchers, range, within, is_bare_divisor });
    }
}

#[cfg(test)]
mod tests {
    use super::{Aggregation, scan};

    #[test]
    fn selectors_come_with_their_matchers_ranges_and_functions() {
        let parts = scan(
            "sum without (cpu) (rate(a_total{id!=\"/\",job=~\"$job\"}[5m])) / on (job) (b:c > 0) and d @ end() offset 5m",
        );
        let names: Vec<_> = parts.selectors.iter().map(|one| one.metric.as_str()).collect();
        assert_eq!(names, ["a_total", "b:c", "d"]);
        assert_eq!(parts.selectors[0].matchers, "id!=\"/\",job=~\"$job\"");
        assert_eq!(parts.selectors[0].range.as_deref(), Some("5m"));
        assert_eq!(parts.selectors[0].within, ["rate", "sum"]);
        let clause = Some(("without".to_owned(), vec!["cpu".to_owned()]));
        assert_eq!(parts.aggregations, [Aggregation { operator: "sum".to_owned(), clause }]);
        assert!(parts.has_comparison);
    }

    #[test]
    fn a_divisor_is_bare_unless_its_group_leaves_out_zero() {
        let bare = |expr: &str| scan(expr).selectors.into_iter().map(|one| one.is_bare_divisor).collect::<Vec<_>>();
        assert_eq!(bare("a / b"), [false, true]);
        assert_eq!(bare("a / on (job) b + c"), [false, true, false]);
        assert_eq!(bare("a / (b > 0)"), [false, false]);
        assert_eq!(bare("a / (sum(rate(b[5m])) > 0)"), [false, false]);
        assert_eq!(bare("a / (b + c) > 0.9"), [false, true, true]);
        assert_eq!(bare("a / (b > 1)"), [false, false]);
        assert_eq!(bare("a / (b < 1)"), [false, true]);
    }
}
