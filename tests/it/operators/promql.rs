//! Finds the series that a PromQL expression selects. It parses only as much of the language as that needs.

use std::fmt;

/// A metric name with its label matchers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Selector {
    pub name: String,
    /// Label, operator and value.
    pub matchers: Vec<(String, String, String)>,
}

/// Keywords followed by a list of labels.
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Other keywords.
const WORDS: [&str; 5] = ["and", "or", "unless", "bool", "offset"];

/// All selectors of an expression.
pub fn selectors(expression: &str) -> Vec<Selector> {
    let mut rest = expression;
    let mut found = Vec::new();
    while let Some(first) = rest.chars().next() {
        if first == '[' {
            rest = after(rest, ']');
        } else if first == '"' {
            rest = after(&rest[1..], '"');
        } else if first.is_ascii_digit() {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
            let (name, tail) = rest.split_at(end);
            rest = tail.trim_start();
            if GROUPINGS.contains(&name) {
                if rest.starts_with('(') {
                    rest = after(rest, ')');
                }
            } else if !WORDS.contains(&name) && !rest.starts_with('(') && !is_aggregation(name, rest) {
                let (matchers, tail) = matchers(rest);
                found.push(Selector { name: name.to_owned(), matchers });
                rest = tail;
            }
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    found
}

/// `sum by (…) (…)`: the operand follows the labels.
fn is_aggregation(name: &str, rest: &str) -> bool {
    ["sum", "max", "min", "count", "avg"].contains(&name) && GROUPINGS.iter().any(|word| rest.starts_with(word))
}

fn after(text: &str, end: char) -> &str {
    text.split_once(end).unwrap_or_else(|| panic!("no {end} in {text}")).1
}

fn matchers(text: &str) -> (Vec<(String, String, String)>, &str) {
    let Some(mut rest) = text.strip_prefix('{') else { return (Vec::new(), text) };
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', ',', '\n']);
        if let Some(tail) = rest.strip_prefix('}') {
            return (found, tail);
        }
        let (label, tail) = rest.split_at(rest.find(['=', '!']).unwrap());
        let (operator, tail) = tail.split_at(tail.find('"').unwrap());
        let (value, tail) = tail[1..].split_once('"').unwrap();
        found.push((label.trim().to_owned(), operator.trim().to_owned(), value.to_owned()));
        rest = tail;
    }
}

impl Selector {
    /// One selector per value that it names, matched or excluded. Values are plain words, or several separated by `|`;
    /// `.+` matches any.
    pub fn each_value(&self) -> Vec<Self> {
        let mut all = vec![Self { name: self.name.clone(), matchers: Vec::new() }];
        for (label, operator, value) in &self.matchers {
            if value == ".+" {
                continue;
            }
            let regex = operator.ends_with('~');
            assert!(regex || !value.contains('|'), "{self}");
            assert!(!value.contains(['(', '[', '*', '?', '+']) || !regex, "{self}: unsupported pattern");
            let positive = operator.starts_with('=');
            let one = |of: &Self, value: &str| {
                let mut of = of.clone();
                of.matchers.push((label.clone(), "=".to_owned(), value.to_owned()));
                of
            };
            let values = || value.split('|');
            let with = all.iter().flat_map(|of| values().map(|value| one(of, value)).collect::<Vec<_>>());
            if positive {
                all = with.collect();
            } else {
                let with: Vec<_> = with.collect();
                all.extend(with);
            }
        }
        all
    }

    /// Whether it requires this label value.
    pub fn requires(&self, label: &str, value: &str) -> bool {
        self.matchers.iter().any(|(of, _, is)| of == label && is == value)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matchers: Vec<_> =
            self.matchers.iter().map(|(label, operator, value)| format!("{label}{operator}\"{value}\"")).collect();
        write!(f, "{}{{{}}}", self.name, matchers.join(","))
    }
}

#[test]
fn selectors_are_found_in_expressions() {
    let found = |expression: &str| selectors(expression).iter().map(Selector::to_string).collect::<Vec<_>>();
    let expression = r#"sum by (job, le) (rate(a_total{x="1", y=~"b|c"}[10m])) / on (job) group_left () count(d) > 0.5
        and max without (z) (changes(e:f[3m] offset 1h)) >= bool 2e3 or time() - g unless absent(h{i!="j"})"#;
    assert_eq!(found(expression), [r#"a_total{x="1",y=~"b|c"}"#, "d{}", "e:f{}", "g{}", r#"h{i!="j"}"#]);
    let each =
        |expression: &str| selectors(expression)[0].each_value().iter().map(Selector::to_string).collect::<Vec<_>>();
    assert_eq!(each(r#"a{x="1", y=~"b|c", z=~".+"}"#), [r#"a{x="1",y="b"}"#, r#"a{x="1",y="c"}"#]);
    assert_eq!(each(r#"a{x!~"b|c"}"#), ["a{}", r#"a{x="b"}"#, r#"a{x="c"}"#]);
}
