//! Latencies, and the CPU time that the kernel charged to a cgroup.

use std::fs;

/// Buckets of one octave: figures are exact to 1/64.
const PER_OCTAVE: u32 = 64;

/// A histogram of nanoseconds.
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self { counts: vec![0; 64 * PER_OCTAVE as usize], total: 0, max: 0 }
    }

    /// Adds one value.
    pub fn add(&mut self, nanoseconds: u64) {
        self.counts[Self::index(nanoseconds)] += 1;
        self.total += 1;
        self.max = self.max.max(nanoseconds);
    }

    fn index(value: u64) -> usize {
        let octave = (63 - (value | 1).leading_zeros()).saturating_sub(PER_OCTAVE.ilog2());
        (octave * PER_OCTAVE) as usize + (value >> octave) as usize
    }

    /// Microseconds below which this share of the values lies.
    pub fn quantile_us(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                let index = index as u64;
                let octave = (index / u64::from(PER_OCTAVE)).saturating_sub(1);
                let value = (index - octave * u64::from(PER_OCTAVE)) << octave;
                return (value.min(self.max)) as f64 / 1e3;
            }
        }
        0.0
    }

    /// `{"p50": .., "p99": .., "max": ..}` in microseconds.
    pub fn json(&self) -> String {
        let (p50, p99) = (self.quantile_us(0.5), self.quantile_us(0.99));
        format!(r#"{{"p50": {p50:.1}, "p99": {p99:.1}, "max": {:.1}}}"#, self.max as f64 / 1e3)
    }
}

/// CPU seconds of a cgroup: `cpu.stat` of version 2, or `cpuacct.usage` of version 1.
pub fn cpu_seconds(file: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    if let Some(line) = text.lines().find_map(|line| line.strip_prefix("usage_usec ")) {
        return Some(line.trim().parse::<u64>().ok()? as f64 / 1e6);
    }
    Some(text.trim().parse::<u64>().ok()? as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_to_a_64th() {
        for value in [0, 1, 63, 64, 65, 127, 128, 1000, 123_456, 7_000_000_000] {
            let mut histogram = Histogram::new();
            histogram.add(value);
            histogram.add(u64::MAX / 2);
            let read = histogram.quantile_us(0.5) * 1e3;
            assert!((read - value as f64).abs() <= value as f64 / 64.0 + 0.01, "{value} {read}");
        }
    }
}
