//! The figures of this process in a registry of its own, and two kinds of label sets, both bounded.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use super::catalogue::{self, Kind, Metric};

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// Labels of one series.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// A registry of its own, not the global one of `metrics`: a second host in one process counts for itself.
pub(super) struct Registry(PrometheusRecorder);

impl Registry {
    pub(super) fn new() -> Self {
        let mut builder = PrometheusBuilder::new();
        for metric in catalogue::ALL {
            if let Kind::Histogram(bounds) = metric.kind {
                let matcher = Matcher::Full(metric.name.to_owned());
                builder = builder
                    .set_buckets_for_metric(matcher, bounds)
                    .expect("every histogram has bounds");
            }
        }
        let recorder = builder.build_recorder();
        for Metric { name, kind, help } in catalogue::ALL {
            match kind {
                Kind::Counter => recorder.describe_counter((*name).into(), None, (*help).into()),
                Kind::Gauge => recorder.describe_gauge((*name).into(), None, (*help).into()),
                Kind::Histogram(_) => {
                    recorder.describe_histogram((*name).into(), None, (*help).into())
                }
            }
        }
        Self(recorder)
    }

    pub(super) fn counter(&self, metric: &Metric, labels: Labels<'_>) -> Counter {
        self.0.register_counter(&key(metric, labels), &METADATA)
    }

    pub(super) fn gauge(&self, metric: &Metric, labels: Labels<'_>) -> Gauge {
        self.0.register_gauge(&key(metric, labels), &METADATA)
    }

    pub(super) fn histogram(&self, metric: &Metric, labels: Labels<'_>) -> Histogram {
        self.0.register_histogram(&key(metric, labels), &METADATA)
    }

    /// One counter for each value of a label, all of them there from the start: a rate needs the 0 before the 1.
    pub(super) fn counters(
        &self,
        metric: &Metric,
        label: &'static str,
        values: &[&'static str],
    ) -> Counters {
        self.counters_with(metric, &[], label, values)
    }

    pub(super) fn counters_with(
        &self,
        metric: &Metric,
        labels: Labels<'_>,
        label: &'static str,
        values: &[&'static str],
    ) -> Counters {
        let counter = |value| self.counter(metric, &[labels, &[(label, value)]].concat());
        Counters(
            values
                .iter()
                .map(|value| (*value, counter(value)))
                .collect(),
        )
    }

    /// All figures as Prometheus reads them.
    pub(super) fn text(&self) -> String {
        self.0.handle().render()
    }

    /// Sums up what histograms have gathered. Without it they would grow from one scrape to the next.
    pub(super) fn gather(&self) {
        self.0.handle().run_upkeep();
    }
}

fn key(metric: &Metric, labels: Labels<'_>) -> Key {
    Key::from_parts(
        metric.name,
        labels
            .iter()
            .map(|(name, value)| Label::new(*name, (*value).to_owned()))
            .collect::<Vec<_>>(),
    )
}

/// Counters of a closed set of values.
pub(super) struct Counters(Vec<(&'static str, Counter)>);

impl Counters {
    /// Adds one for a value of the set.
    pub(super) fn count(&self, value: &str) {
        self.add(value, 1);
    }

    /// Adds to the counter of a value of the set.
    pub(super) fn add(&self, value: &str, number: u64) {
        let counter = self.0.iter().find(|(known, _)| *known == value);
        // A defect that tests shall find. In a release a lost count is better than a lost process.
        debug_assert!(counter.is_some(), "{value} is no value of this label");
        if let Some((_, counter)) = counter {
            counter.increment(number);
        }
    }
}

/// Figures by a name that the system does not choose, for at most so many names: all further ones share the last entry.
pub(super) struct ByName<T> {
    max_names: usize,
    known: RwLock<HashMap<String, Arc<T>>>,
}

/// The name that stands for all beyond the bound.
const OTHER: &str = "(other)";

impl<T> ByName<T> {
    pub(super) fn new(max_names: usize) -> Self {
        Self {
            max_names,
            known: RwLock::default(),
        }
    }

    /// The figures of a name, made when it comes for the first time.
    pub(super) fn of(&self, name: &str, make: impl FnOnce(&str) -> T) -> Arc<T> {
        // Read first: nearly every name is known, and readers do not wait for each other.
        if let Some(found) = self
            .known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
        {
            return found.clone();
        }
        // Looked up again: another thread may have made it before this lock was free.
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let name = if known.contains_key(name) || known.len() < self.max_names {
            name
        } else {
            OTHER
        };
        known
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(make(name)))
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_bound_share_one_series() {
        let registry = Registry::new();
        let names = ByName::new(2);
        for number in 0..100 {
            let calls = names.of(&format!("plugin-{number}"), |name| {
                registry.counter(&catalogue::PLUGIN_CALLS, &[("plugin", name)])
            });
            calls.increment(1);
        }
        let text = registry.text();
        let mut series: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("wharf_plugin_calls_total"))
            .collect();
        series.sort_unstable();
        let expected = [
            r#"wharf_plugin_calls_total{plugin="(other)"} 98"#,
            r#"wharf_plugin_calls_total{plugin="plugin-0"} 1"#,
            r#"wharf_plugin_calls_total{plugin="plugin-1"} 1"#,
        ];
        assert_eq!(series, expected);
    }

    #[test]
    fn names_follow_the_habits_of_prometheus() {
        for metric in catalogue::ALL {
            assert!(metric.name.starts_with("wharf_"), "{}", metric.name);
            let is_counter = matches!(metric.kind, Kind::Counter);
            assert_eq!(
                is_counter,
                metric.name.ends_with("_total"),
                "{}",
                metric.name
            );
            if let Kind::Histogram(bounds) = metric.kind {
                assert!(
                    metric.name.ends_with("_seconds") && bounds.is_sorted(),
                    "{}",
                    metric.name
                );
            }
        }
    }
}
