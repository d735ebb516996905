//! Counts of values by how large they are: atomics only, over bounds that never change.

use std::fmt::Write;

use super::Counter;

/// What the bounds of a histogram are, and how its values are shown.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scale {
    /// The upper bounds of its buckets, each in its bucket, in ascending order. Above the last one is
    /// one more bucket. All values are whole numbers, so that nothing is rounded while counting.
    pub bounds: &'static [u64],
    /// So many of what is counted are one of what is shown: 1000 for milliseconds shown as seconds.
    pub per_unit: f64,
}

/// Values counted by their size. Counting takes a search among some dozen bounds and two additions.
#[derive(Debug)]
pub struct Histogram {
    scale: Scale,
    counts: Box<[Counter]>,
    sum: Counter,
}

/// What a [`Histogram`] had counted at one time, or between two.
#[derive(Clone, PartialEq, Debug)]
pub struct Buckets {
    scale: Scale,
    /// One for each bound, and one for what is above all of them; each without those before it.
    counts: Vec<u64>,
    sum: u64,
}

impl Histogram {
    /// One that has counted nothing.
    pub fn new(scale: Scale) -> Histogram {
        let counts = (0..=scale.bounds.len()).map(|_| Counter::default());
        Histogram {
            scale,
            counts: counts.collect(),
            sum: Counter::default(),
        }
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        // In each bucket is what is at most its bound.
        let bucket = self.scale.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.inc();
        }
        self.sum.add(value);
    }

    /// What it has counted since the start. While others count, a value may be in the sum and not
    /// yet in a bucket, or the other way round.
    pub fn buckets(&self) -> Buckets {
        Buckets {
            scale: self.scale,
            counts: self.counts.iter().map(Counter::get).collect(),
            sum: self.sum.get(),
        }
    }
}

impl Buckets {
    /// Of values that are all there now.
    pub fn of(scale: Scale, values: impl IntoIterator<Item = u64>) -> Buckets {
        let histogram = Histogram::new(scale);
        values
            .into_iter()
            .for_each(|value| histogram.observe(value));
        histogram.buckets()
    }

    /// What was counted after `earlier`, a snapshot of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Buckets) -> Buckets {
        let pairs = self.counts.iter().zip(&earlier.counts);
        Buckets {
            scale: self.scale,
            counts: pairs.map(|(now, then)| now.saturating_sub(*then)).collect(),
            sum: self.sum.saturating_sub(earlier.sum),
        }
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum, in the unit that is shown.
    pub fn sum(&self) -> f64 {
        self.sum as f64 / self.scale.per_unit
    }

    /// About the value that a part of `q` (0 to 1) of all values do not exceed, in the unit that is
    /// shown: within a bucket values are taken to be spread evenly, as Prometheus does. None without
    /// values; for values above the last bound, that bound.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * count as f64;
        let (mut below, mut lower) = (0, 0);
        for (bound, count) in self.scale.bounds.iter().zip(&self.counts) {
            if *count > 0 && (below + count) as f64 >= rank {
                let part = ((rank - below as f64) / *count as f64).clamp(0.0, 1.0);
                let value = lower as f64 + (bound - lower) as f64 * part;
                return Some(value / self.scale.per_unit);
            }
            below += count;
            lower = *bound;
        }
        Some(lower as f64 / self.scale.per_unit)
    }

    /// The samples of a metric of this name in the text form of Prometheus; `labels` as they are
    /// written, such as `route="xrpc"`, or nothing.
    pub fn render(&self, out: &mut String, name: &str, labels: &str) {
        let comma = if labels.is_empty() { "" } else { "," };
        let bounds = self.scale.bounds.iter();
        let bounds = bounds.map(|bound| (*bound as f64 / self.scale.per_unit).to_string());
        let mut sum = 0;
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(&self.counts) {
            sum += count;
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {sum}");
        }
        let (open, close) = if labels.is_empty() {
            ("", "")
        } else {
            ("{", "}")
        };
        let _ = writeln!(out, "{name}_sum{open}{labels}{close} {}", self.sum());
        let _ = writeln!(out, "{name}_count{open}{labels}{close} {sum}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Scale = Scale {
        bounds: &[10, 100, 1_000],
        per_unit: 1_000.0,
    };

    #[test]
    fn values_are_counted_in_the_bucket_that_they_do_not_exceed() {
        let histogram = Histogram::new(SCALE);
        for value in [0, 10, 11, 100, 1_000, 1_001, 5_000_000_000] {
            histogram.observe(value);
        }
        let buckets = histogram.buckets();
        assert_eq!(buckets.counts, [2, 2, 1, 2]);
        assert_eq!(buckets.count(), 7);
        assert_eq!(buckets.sum(), 5_000_002.122);
    }

    #[test]
    fn quantiles_are_interpolated() {
        let histogram = Histogram::new(SCALE);
        assert_eq!(histogram.buckets().quantile(0.5), None);
        for value in [5, 50, 60, 70] {
            histogram.observe(value);
        }
        let quantile = |q| histogram.buckets().quantile(q).unwrap();
        assert_eq!(quantile(0.0), 0.0);
        assert_eq!(quantile(0.125), 0.005);
        assert_eq!(quantile(0.25), 0.01);
        // The middle one of three between 10 and 100 ms.
        assert_eq!(quantile(0.625), 0.055);
        assert_eq!(quantile(1.0), 0.1);
        assert_eq!(quantile(7.0), 0.1);
        let all_above = Buckets::of(SCALE, [2_000, 3_000]);
        assert_eq!(all_above.quantile(0.5), Some(1.0));
    }

    #[test]
    fn a_difference_has_what_came_between() {
        let histogram = Histogram::new(SCALE);
        histogram.observe(7);
        let before = histogram.buckets();
        histogram.observe(500);
        histogram.observe(2_000);
        let between = histogram.buckets().since(&before);
        assert_eq!(between, Buckets::of(SCALE, [500, 2_000]));
        assert_eq!(before.since(&before).quantile(0.99), None);
    }

    #[test]
    fn the_text_form_adds_the_buckets_up() {
        let mut out = String::new();
        Buckets::of(SCALE, [1, 20, 5_000]).render(&mut out, "a_seconds", "");
        assert_eq!(
            out,
            "a_seconds_bucket{le=\"0.01\"} 1\na_seconds_bucket{le=\"0.1\"} 2\n\
             a_seconds_bucket{le=\"1\"} 2\na_seconds_bucket{le=\"+Inf\"} 3\n\
             a_seconds_sum 5.021\na_seconds_count 3\n"
        );
        out.clear();
        Buckets::of(SCALE, [1]).render(&mut out, "b", "route=\"xrpc\"");
        assert!(
            out.starts_with("b_bucket{route=\"xrpc\",le=\"0.01\"} 1\n"),
            "{out}"
        );
        assert!(out.ends_with("b_sum{route=\"xrpc\"} 0.001\nb_count{route=\"xrpc\"} 1\n"));
    }
}
