//! The last few values of a column, contiguous and oldest first.

/// A ring of `period` values, each written twice so that the last ones always lie side by side in memory.
#[derive(Clone, Debug)]
pub struct Window {
    values: Vec<f64>,
    next: usize,
    len: usize,
}

impl Window {
    /// An empty window with room for `period` values.
    pub fn new(period: u32) -> Self {
        let period = period as usize;
        Window { values: vec![0.0; 2 * period], next: 0, len: 0 }
    }

    /// The most values that it holds.
    #[inline(always)]
    pub fn period(&self) -> usize {
        self.values.len() / 2
    }

    /// Adds a value. Once the window is full, this drops the oldest value.
    #[inline(always)]
    pub fn push(&mut self, x: f64) {
        let period = self.period();
        self.values[self.next] = x;
        self.values[self.next + period] = x;
        self.next = if self.next + 1 == period { 0 } else { self.next + 1 };
        self.len = period.min(self.len + 1);
    }

    /// The values held, oldest first.
    #[inline(always)]
    pub fn as_slice(&self) -> &[f64] {
        let end = self.next + self.period();
        &self.values[end - self.len..end]
    }

    /// True once `period` values have been seen.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.len == self.period()
    }
}

impl PartialEq for Window {
    /// Two windows are equal if they hold the same values, regardless of their positions in the ring.
    fn eq(&self, other: &Self) -> bool {
        self.period() == other.period() && self.as_slice() == other.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_last_values_oldest_first() {
        for period in 1..6_u32 {
            let mut window = Window::new(period);
            let mut all = Vec::new();
            for i in 0..20 {
                window.push(f64::from(i));
                all.push(f64::from(i));
                let from = all.len().saturating_sub(period as usize);
                assert_eq!(window.as_slice(), &all[from..]);
                assert_eq!(window.is_full(), all.len() >= period as usize);
            }
        }
    }
}
