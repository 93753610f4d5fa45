use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use howdah_clock::now;
use howdah_types::BootTime;
use parking_lot::Mutex;

use crate::objects::ClusterKey;

/// Upper bounds of the histogram of passes.
const BOUNDS: [(&str, Duration); 8] = [
    ("0.005", Duration::from_millis(5)),
    ("0.025", Duration::from_millis(25)),
    ("0.1", Duration::from_millis(100)),
    ("0.5", Duration::from_millis(500)),
    ("2", Duration::from_secs(2)),
    ("10", Duration::from_secs(10)),
    ("60", Duration::from_secs(60)),
    ("+Inf", Duration::MAX),
];

/// What the operator has done, in numbers: it counts over all terms of one process.
#[derive(Default)]
pub struct Meter(Mutex<Numbers>);

#[derive(Default)]
struct Numbers {
    /// Clusters of which a change was seen and that had no pass since.
    waiting: BTreeSet<ClusterKey>,
    running: u64,
    passes: u64,
    buckets: [u64; BOUNDS.len()],
    spent: Duration,
    failures: BTreeMap<&'static str, u64>,
    last: Option<BootTime>,
    phases: BTreeMap<ClusterKey, String>,
}

impl Meter {
    pub(crate) fn changed<'a>(&self, clusters: impl Iterator<Item = &'a ClusterKey>) {
        let mut numbers = self.0.lock();
        // Others are not ours, or have had no pass yet: their manifest's own event brings it.
        let ours: Vec<ClusterKey> = clusters
            .filter(|key| numbers.phases.contains_key(key))
            .cloned()
            .collect();
        numbers.waiting.extend(ours);
    }

    /// A pass begins; it ends when the returned value is dropped.
    pub(crate) fn pass(&self, cluster: &ClusterKey) -> Pass<'_> {
        let mut numbers = self.0.lock();
        numbers.waiting.remove(cluster);
        numbers.running += 1;
        Pass {
            meter: self,
            since: now(),
        }
    }

    pub(crate) fn failed(&self, reason: &'static str) {
        *self.0.lock().failures.entry(reason).or_default() += 1;
    }

    pub(crate) fn phase(&self, cluster: &ClusterKey, phase: &str) {
        let mut numbers = self.0.lock();
        match numbers.phases.get_mut(cluster) {
            Some(known) if known == phase => {}
            Some(known) => phase.clone_into(known),
            None => {
                numbers.phases.insert(cluster.clone(), phase.to_owned());
            }
        }
    }

    pub(crate) fn forget(&self, cluster: &ClusterKey) {
        let mut numbers = self.0.lock();
        numbers.phases.remove(cluster);
        numbers.waiting.remove(cluster);
    }

    /// A term ends: what this process knew of the clusters is no longer so.
    pub fn end_of_term(&self) {
        let mut numbers = self.0.lock();
        numbers.phases.clear();
        numbers.waiting.clear();
    }

    /// Clusters that wait for a pass.
    pub fn queued(&self) -> usize {
        self.0.lock().waiting.len()
    }

    /// How long ago the last pass ended.
    pub fn since_last_pass(&self) -> Option<Duration> {
        let last = self.0.lock().last?;
        Some(last.until(now()))
    }

    /// The numbers in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        let numbers = self.0.lock();
        let mut out = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, lines: &[(String, String)]| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in lines {
                let _ = writeln!(out, "{name}{labels} {value}");
            }
        };
        let one = |value: u64| vec![(String::new(), value.to_string())];
        metric(
            "howdah_operator_queue_length",
            "gauge",
            "Clusters that have changed and wait for a pass.",
            &one(u64::try_from(numbers.waiting.len()).unwrap_or(u64::MAX)),
        );
        metric(
            "howdah_operator_passes_running",
            "gauge",
            "Passes that run now.",
            &one(numbers.running),
        );
        let failures: Vec<_> = numbers
            .failures
            .iter()
            .map(|(reason, count)| (format!("{{reason=\"{reason}\"}}"), count.to_string()))
            .collect();
        metric(
            "howdah_operator_pass_failures_total",
            "counter",
            "Passes that did not get through, by reason.",
            &failures,
        );
        let mut phases: BTreeMap<&str, u64> = BTreeMap::new();
        for phase in numbers.phases.values() {
            *phases.entry(phase).or_default() += 1;
        }
        let phases: Vec<_> = phases
            .iter()
            .map(|(phase, count)| (format!("{{phase=\"{phase}\"}}"), count.to_string()))
            .collect();
        metric(
            "howdah_operator_clusters",
            "gauge",
            "Clusters by the phase in their status.",
            &phases,
        );
        let name = "howdah_operator_pass_duration_seconds";
        let _ = writeln!(
            out,
            "# HELP {name} How long passes take.\n# TYPE {name} histogram"
        );
        let mut sum = 0;
        for ((bound, _), count) in BOUNDS.iter().zip(numbers.buckets) {
            sum += count;
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {sum}");
        }
        let _ = writeln!(
            out,
            "{name}_sum {}\n{name}_count {}",
            numbers.spent.as_secs_f64(),
            numbers.passes
        );
        out
    }
}

/// A pass that runs.
pub(crate) struct Pass<'a> {
    meter: &'a Meter,
    since: BootTime,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let (ended, mut numbers) = (now(), self.meter.0.lock());
        let took = self.since.until(ended);
        let bucket = BOUNDS.iter().position(|(_, bound)| took <= *bound);
        if let Some(bucket) = bucket.and_then(|at| numbers.buckets.get_mut(at)) {
            *bucket += 1;
        }
        numbers.running = numbers.running.saturating_sub(1);
        numbers.passes += 1;
        numbers.spent += took;
        numbers.last = Some(ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_counted() {
        let meter = Meter::default();
        let key = |name: &str| ClusterKey {
            namespace: "ns".into(),
            name: name.into(),
        };
        for name in ["a", "b"] {
            meter.phase(&key(name), "Creating");
        }
        meter.changed([key("a"), key("b"), key("not-ours")].iter());
        drop(meter.pass(&key("a")));
        meter.failed("api_forbidden");
        meter.phase(&key("a"), "Running");
        let text = meter.prometheus();
        for line in [
            "howdah_operator_queue_length 1",
            "howdah_operator_pass_failures_total{reason=\"api_forbidden\"} 1",
            "howdah_operator_clusters{phase=\"Running\"} 1",
            "howdah_operator_pass_duration_seconds_bucket{le=\"+Inf\"} 1",
            "howdah_operator_pass_duration_seconds_count 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(meter.since_last_pass().is_some());
        meter.end_of_term();
        assert_eq!(meter.queued(), 0);
    }
}
