//! Medians, and how far they can be trusted: for what measures time in rounds on noisy machines.

/// The median of some numbers, 0 of none.
pub fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[len / 2],
        len => 0.5 * (sorted[len / 2 - 1] + sorted[len / 2]),
    }
}

/// The mean without the lowest and the highest tenth. Where numbers gather around two values, the median
/// jumps from one to the other; this does not.
pub fn trimmed_mean(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let cut = sorted.len() / 10;
    let kept = &sorted[cut..sorted.len() - cut];
    if kept.is_empty() { 0.0 } else { kept.iter().sum::<f64>() / kept.len() as f64 }
}

/// The interval in which the true median lies with at least 95 % confidence, whatever the distribution;
/// `None` for fewer than six numbers.
pub fn confidence(numbers: &[f64]) -> Option<(f64, f64)> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    // The chance that at most `cut` of `n` numbers lie below the median is a binomial sum.
    let n = sorted.len() as f64;
    let (mut chance, mut below, mut cut) = (0.5f64.powf(n), 0.0, 0usize);
    while below + chance <= 0.025 {
        below += chance;
        chance *= (n - cut as f64) / (cut as f64 + 1.0);
        cut += 1;
    }
    let lowest = cut.checked_sub(1)?;
    Some((sorted[lowest], sorted[sorted.len() - 1 - lowest]))
}

/// The smallest and the largest number.
pub fn range(numbers: &[f64]) -> (f64, f64) {
    numbers.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)))
}

/// The geometric mean of ratios, 1 of none.
pub fn geometric_mean(ratios: &[f64]) -> f64 {
    let logarithms: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    (logarithms / ratios.len().max(1) as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even_counts() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn trimmed_mean_ignores_outliers() {
        assert_eq!(trimmed_mean(&[1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 2.0, 2.0, 2.0, 99.0]), 2.125);
    }

    #[test]
    fn twice_and_half_as_much_make_as_much() {
        assert!((geometric_mean(&[2.0, 0.5]) - 1.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), 1.0);
    }

    #[test]
    fn ten_numbers_give_the_second_and_the_ninth() {
        let numbers: Vec<f64> = (1..=10).map(f64::from).collect();

        assert_eq!(confidence(&numbers), Some((2.0, 9.0)));
        assert_eq!(confidence(&numbers[..6]), Some((1.0, 6.0)));
        assert_eq!(confidence(&numbers[..5]), None);
    }
}
