//! Parses the service's `/metrics` page.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub struct Metrics {
    samples: Vec<Sample>,
    families: BTreeMap<String, Family>,
}

#[derive(Debug)]
pub struct Sample {
    /// With its suffix.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
    /// The exemplar's trace id.
    pub trace_id: Option<String>,
}

/// Metadata of a metric.
#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    pub help: String,
    pub unit: Option<String>,
    /// Label names, without the buckets' `le`.
    pub labels: BTreeSet<String>,
    /// Every label with each of its values.
    pub values: BTreeSet<(String, String)>,
}

impl Metrics {
    /// Parses the OpenMetrics text format.
    pub fn read(text: &str) -> Self {
        assert!(text.ends_with("# EOF\n"), "the page has no EOF line: {text}");
        let mut page = Self { samples: Vec::new(), families: BTreeMap::new() };
        let mut current = String::new();
        for line in text.lines().filter(|line| *line != "# EOF") {
            match line.strip_prefix("# ") {
                Some(about) => {
                    current = page.describe(about).unwrap_or_else(|| panic!("invalid metadata line: {line}"))
                }
                None => {
                    let sample = sample(line).unwrap_or_else(|| panic!("not a sample: {line}"));
                    assert!(sample.name.starts_with(&current), "{line} follows the metadata of {current}");
                    page.families.get_mut(&current).expect("a sample before its metric").record(&sample);
                    page.samples.push(sample);
                }
            }
        }
        page
    }

    fn describe(&mut self, about: &str) -> Option<String> {
        let mut words = about.splitn(3, ' ');
        let (what, name, says) = (words.next()?, words.next()?.to_owned(), words.next()?.to_owned());
        let family = self.families.entry(name.clone()).or_default();
        match what {
            "HELP" => family.help = says,
            "TYPE" => family.kind = says,
            "UNIT" => family.unit = Some(says),
            _ => return None,
        }
        Some(name)
    }

    /// Samples of this name that have at least these labels.
    pub fn all<'a>(&'a self, name: &'a str, labels: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        let has = |sample: &Sample| {
            labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|is| is == value))
        };
        self.samples.iter().filter(move |sample| sample.name == name && has(sample))
    }

    /// The sum of the matching samples; 0 without any.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.all(name, labels).map(|sample| sample.value).sum()
    }

    /// The exemplars' trace ids of the matching samples.
    pub fn traces(&self, name: &str, labels: &[(&str, &str)]) -> BTreeSet<String> {
        self.all(name, labels).filter_map(|sample| sample.trace_id.clone()).collect()
    }

    /// Metadata by the name that queries use: a counter's ends in `_total`.
    pub fn families(&self) -> impl Iterator<Item = (String, &Family)> {
        let suffix = |family: &Family| if family.kind == "counter" { "_total" } else { "" };
        self.families.iter().map(move |(name, family)| (format!("{name}{}", suffix(family)), family))
    }
}

impl Family {
    fn record(&mut self, sample: &Sample) {
        let labels = || sample.labels.iter().filter(|(label, _)| *label != "le");
        self.labels.extend(labels().map(|(label, _)| label.clone()));
        self.values.extend(labels().map(|(label, value)| (label.clone(), value.clone())));
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (line, trace_id) = match line.split_once(" # {trace_id=\"") {
        Some((line, exemplar)) => {
            let (trace_id, rest) = exemplar.split_once("\"} ")?;
            let (value, time) = rest.split_once(' ')?;
            value.parse::<f64>().ok().zip(time.parse::<f64>().ok())?;
            (line, Some(trace_id.to_owned()))
        }
        None => (line, None),
    };
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (series, ""),
    };
    let mut read = BTreeMap::new();
    // Label values of this service contain no quotation mark and no backslash.
    for label in labels.split("\",").filter(|label| !label.is_empty()) {
        let (label, value) = label.split_once("=\"")?;
        read.insert(label.to_owned(), value.trim_end_matches('"').to_owned());
    }
    Some(Sample { name: name.to_owned(), labels: read, value: value.parse().ok()?, trace_id })
}

#[test]
fn openmetrics_text_is_parsed() {
    let page = "# HELP a What a is.\n# TYPE a counter\na_total{x=\"1\",y=\"b#2, c\"} 3\n\
                a_total{x=\"2\"} 0.5 # {trace_id=\"4bf9\"} 1.0 1795249190.5\n\
                # TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds -1\n# EOF\n";
    let metrics = Metrics::read(page);
    assert_eq!(metrics.value("a_total", &[("x", "1"), ("y", "b#2, c")]), 3.0);
    assert_eq!(metrics.value("a_total", &[]), 3.5);
    assert_eq!((metrics.value("b_seconds", &[]), metrics.value("c", &[])), (-1.0, 0.0));
    assert_eq!(metrics.traces("a_total", &[]), ["4bf9".to_owned()].into());
    let families: BTreeMap<_, _> = metrics.families().collect();
    let (a, b) = (families["a_total"], families["b_seconds"]);
    assert_eq!((a.kind.as_str(), a.help.as_str(), &a.unit), ("counter", "What a is.", &None));
    assert_eq!((b.kind.as_str(), b.unit.as_deref()), ("gauge", Some("seconds")));
    assert_eq!(a.labels, ["x".to_owned(), "y".to_owned()].into());
    assert!(a.values.contains(&("y".to_owned(), "b#2, c".to_owned())));
}
