//! What the service counts, as its `/metrics` page says it.

use std::collections::BTreeMap;

/// The page, read.
#[derive(Debug)]
pub struct Metrics(Vec<Sample>);

/// A line of it.
#[derive(Debug)]
pub struct Sample {
    /// The metric, with its suffix.
    pub name: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl Metrics {
    /// Reads the OpenMetrics text format.
    pub fn read(text: &str) -> Self {
        assert!(text.ends_with("# EOF\n"), "the page has no end: {text}");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(lines.map(|line| sample(line).unwrap_or_else(|| panic!("not a sample: {line}"))).collect())
    }

    /// Everything of this name that has these labels, and maybe others.
    pub fn all<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        let has = |sample: &Sample| {
            labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|is| is == value))
        };
        self.0.iter().filter(move |sample| sample.name == name && has(sample))
    }

    /// The sum of them; 0 when there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.all(name, labels).map(|sample| sample.value).sum()
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let mut read = BTreeMap::new();
    // No value of ours holds a quotation mark or a backslash.
    for label in labels.split("\",").filter(|label| !label.is_empty()) {
        let (label, value) = label.split_once("=\"")?;
        read.insert(label.to_owned(), value.trim_end_matches('"').to_owned());
    }
    Some(Sample { name: name.to_owned(), labels: read, value: value.parse().ok()? })
}

#[test]
fn a_page_is_read() {
    let page = "# TYPE a counter\na_total{x=\"1\",y=\"b#2, c\"} 3\na_total{x=\"2\"} 0.5\nb -1\n# EOF\n";
    let metrics = Metrics::read(page);
    assert_eq!(metrics.value("a_total", &[("x", "1"), ("y", "b#2, c")]), 3.0);
    assert_eq!(metrics.value("a_total", &[]), 3.5);
    assert_eq!((metrics.value("b", &[]), metrics.value("c", &[])), (-1.0, 0.0));
}
