//! Which steps are frequent, of more distinct ones than memory should hold.

use std::collections::HashMap;

/// Counters that hold every step with more than a share of 1 in `COUNTERS` of a stream.
pub(super) const COUNTERS: usize = 64;

/// The counters of Misra and Gries: whichever step has more than 1 in [`COUNTERS`] of a stream is among them at its end.
#[derive(Default)]
pub(super) struct Frequent {
    pub(super) counters: HashMap<i64, u64>,
}

impl Frequent {
    pub(super) fn add(&mut self, step: i64, mut run: u64) {
        if let Some(count) = self.counters.get_mut(&step) {
            *count += run;
            return;
        }
        while run > 0 && self.counters.len() >= COUNTERS {
            let least = self.counters.values().copied().min().unwrap_or(0).min(run);
            self.counters.values_mut().for_each(|count| *count -= least);
            self.counters.retain(|_, count| *count > 0);
            run -= least;
        }
        if run > 0 {
            self.counters.insert(step, run);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whichever_step_is_frequent_stays_among_the_counters(
            steps in prop::collection::vec((prop_oneof![2 => Just(7_i64), 5 => 0..10_000_i64], 1..4_u64), 1..600),
        ) {
            let mut frequent = Frequent::default();
            let mut counts: HashMap<i64, u64> = HashMap::new();
            for &(step, run) in &steps {
                frequent.add(step, run);
                *counts.entry(step).or_insert(0) += run;
            }
            let total: u64 = counts.values().sum();
            prop_assert!(frequent.counters.len() <= COUNTERS);
            for (step, count) in counts {
                prop_assert!(count * COUNTERS as u64 <= total || frequent.counters.contains_key(&step));
            }
        }
    }
}
