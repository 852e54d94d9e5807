//! A scrape of a host's metrics, parsed strictly by the text format (version 0.0.4).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

use crate::{Answer, client};

/// One metric with its help text and its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its help text.
    pub help: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
}

/// The labels of a series, by name.
pub type LabelSet = BTreeMap<String, String>;

/// All that was told at one moment.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// The metrics by name.
    pub families: BTreeMap<String, Family>,
    /// The values by the name of the sample and its labels.
    pub samples: BTreeMap<(String, LabelSet), f64>,
}

impl Scrape {
    /// Scrapes `<base>/metrics`.
    ///
    /// # Errors
    /// If nobody answers, or not in the text format.
    pub async fn from(base: &str) -> Result<Self> {
        let answer = Answer::to(client().get(format!("{base}/metrics"))).await?;
        ensure!(
            answer.status == 200,
            "/metrics was answered {} {}",
            answer.status,
            answer.text
        );
        ensure!(
            answer
                .header("content-type")
                .starts_with("text/plain; version=0.0.4"),
            "{:?}",
            answer.headers
        );
        Self::parse(&answer.text).with_context(|| answer.text.clone())
    }

    /// Reads the text format.
    ///
    /// # Errors
    /// On the first line that is not as it should be.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(text.ends_with('\n'), "the last line does not end");
        let mut scrape = Self::default();
        let (mut help, mut family) = (None, None);
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, text) = rest.split_once(' ').context("a metric without help")?;
                ensure!(help.is_none() && !text.is_empty(), "{line}");
                help = Some((name.to_owned(), text.to_owned()));
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').context("a metric without type")?;
                let (helped, help) = help.take().with_context(|| format!("{name} has no help"))?;
                ensure!(helped == name, "the help of {helped} stands at {name}");
                ensure!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                let new = Family {
                    help,
                    kind: kind.to_owned(),
                };
                ensure!(
                    scrape.families.insert(name.to_owned(), new).is_none(),
                    "{name} comes twice"
                );
                family = Some((name.to_owned(), kind.to_owned()));
            } else {
                let (name, labels, value) = sample(line).with_context(|| line.to_owned())?;
                let (family, kind) = family
                    .as_ref()
                    .with_context(|| format!("{name} has no type"))?;
                let suffix = name
                    .strip_prefix(family.as_str())
                    .with_context(|| format!("{name} among {family}"))?;
                let right = if kind == "histogram" {
                    &["_bucket", "_sum", "_count"][..]
                } else {
                    &[""]
                };
                ensure!(right.contains(&suffix), "{name} is no sample of a {kind}");
                ensure!(labels.contains_key("le") == (suffix == "_bucket"), "{line}");
                ensure!(
                    scrape.samples.insert((name, labels), value).is_none(),
                    "twice: {line}"
                );
            }
        }
        ensure!(help.is_none(), "help without a metric");
        scrape.check_histograms()?;
        Ok(scrape)
    }

    fn check_histograms(&self) -> Result<()> {
        for ((name, labels), count) in &self.samples {
            let Some(family) = name
                .strip_suffix("_count")
                .filter(|name| self.families.contains_key(*name))
            else {
                continue;
            };
            let mut buckets: Vec<(f64, f64)> = Vec::new();
            for ((sample, its), value) in &self.samples {
                let mut others = its.clone();
                if let (true, Some(bound)) =
                    (*sample == format!("{family}_bucket"), others.remove("le"))
                    && others == *labels
                {
                    buckets.push((number(&bound)?, *value));
                }
            }
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            ensure!(
                buckets.is_sorted_by(|a, b| a.1 <= b.1),
                "{family}{labels:?} does not rise: {buckets:?}"
            );
            ensure!(
                buckets.last() == Some(&(f64::INFINITY, *count)),
                "{family}{labels:?}: {count} and {buckets:?}"
            );
        }
        Ok(())
    }

    /// The value of one series.
    ///
    /// # Panics
    /// If there is no such series.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels: LabelSet = labels
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        let value = self.samples.get(&(name.to_owned(), labels.clone()));
        *value.unwrap_or_else(|| panic!("no {name} {labels:?} among {:?}", self.series_of(name)))
    }

    /// The series of one sample name: labels and value.
    pub fn series_of(&self, name: &str) -> Vec<(&LabelSet, f64)> {
        self.samples
            .iter()
            .filter(|((its, _), _)| its == name)
            .map(|((_, labels), value)| (labels, *value))
            .collect()
    }

    /// Every series, without its value.
    pub fn series(&self) -> BTreeSet<(String, LabelSet)> {
        self.samples.keys().cloned().collect()
    }
}

fn number(text: &str) -> Result<f64> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "NaN" => Ok(f64::NAN),
        _ => text.parse().with_context(|| format!("{text} is no number")),
    }
}

/// `name{label="value",...} number`
fn sample(line: &str) -> Result<(String, LabelSet, f64)> {
    let (series, value) = line.rsplit_once(' ').context("no value")?;
    let (name, mut rest) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').context("labels do not end")?),
        None => (series, ""),
    };
    let is_name = |name: &str| {
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    ensure!(!name.is_empty() && is_name(name), "{name:?} is no name");
    let mut labels = LabelSet::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").context("a label without a value")?;
        ensure!(!label.is_empty() && is_name(label), "{label:?} is no label");
        let (value, after) = after.split_once('"').context("a value does not end")?;
        if value.contains('\\') {
            bail!("no value of ours needs escaping: {value}");
        }
        ensure!(
            labels.insert(label.to_owned(), value.to_owned()).is_none(),
            "{label} comes twice"
        );
        rest = match after.strip_prefix(',') {
            Some(more) if !more.is_empty() => more,
            None if after.is_empty() => after,
            _ => bail!("{after:?} after a label"),
        };
    }
    Ok((name.to_owned(), labels, number(value)?))
}

#[cfg(test)]
mod tests {
    use super::Scrape;

    #[test]
    fn the_format_is_held_to() {
        let good = "# HELP a_total how many\n# TYPE a_total counter\na_total{x=\"1\",y=\"z\"} 3\na_total 0\n\n";
        let scrape = Scrape::parse(good).expect("right");
        assert_eq!(scrape.value("a_total", &[("y", "z"), ("x", "1")]), 3.0);
        assert_eq!(scrape.families["a_total"].help, "how many");
        let histogram = "# HELP h help\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 9\nh_count 3\n";
        Scrape::parse(histogram).expect("right");
        for wrong in [
            good.trim_end().to_owned(),
            good.replace("# HELP a_total how many\n", ""),
            good.replace("# TYPE a_total counter\n", ""),
            good.replace("a_total 0", "b_total 0"),
            good.replace("a_total 0", "a_total{x=\"1\",y=\"z\"} 4"),
            good.replace("} 3", "} three"),
            good.replace("\"1\",", "\"1\""),
            good.replace("x=\"1\"", "x=1"),
            format!("{good}{good}"),
            histogram.replace("h_count 3", "h_count 4"),
            histogram.replace("le=\"1\"} 2", "le=\"1\"} 4"),
            histogram.replace("h_bucket{le=\"1\"} 2\n", "h 2\n"),
        ] {
            assert!(Scrape::parse(&wrong).is_err(), "{wrong}");
        }
    }
}
