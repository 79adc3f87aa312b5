//! Percentiles.

/// The smallest value that `part` of the values do not exceed (nearest rank); 0 if there are none. `sorted` is in ascending order.
#[must_use]
pub fn percentile(sorted: &[i64], part: f64) -> i64 {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

/// Microseconds as milliseconds.
#[must_use]
pub fn ms(us: i64) -> f64 {
    us as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_there() {
        let hundred: Vec<i64> = (1..=100).collect();
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|part| percentile(&hundred, part)), [1, 50, 99, 100]);
        let two = [3, 9];
        assert_eq!([0.5, 0.51, 0.99].map(|part| percentile(&two, part)), [3, 9, 9]);
        assert_eq!([0.01, 1.0].map(|part| percentile(&[7], part)), [7, 7]);
    }

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(percentile(&[], 0.99), 0);
    }

    #[test]
    fn early_is_negative() {
        assert!((ms(-1_500) - -1.5).abs() < f64::EPSILON);
    }
}
