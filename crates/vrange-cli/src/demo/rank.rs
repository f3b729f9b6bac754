//! Did the oldest go first? A rank correlation, between -1 and 1.
//!
//! Every file has an age rank (how long ago it was touched last, the oldest first) and a time at which its first page
//! was seen missing. Files that lost nothing count as lost last, all together. Spearman's coefficient is Pearson's
//! correlation of the two rankings, ties sharing their mean rank.
//!
//! Ties have a ceiling below 1: a look every few milliseconds sees many files gone at once, and those that stay are one
//! large tie. So the coefficient is divided by the one that the same loss times would give if they had been handed out
//! strictly by age. Then 1 means "as ordered as could have been seen", whatever the number of looks.

/// The coefficient for files given in the order of their age, oldest first: when each was first seen to miss a page.
///
/// None where no order can be told: fewer than two files, or all were lost at the same time, or none was.
pub(crate) fn age_order(lost_at: &[Option<u64>]) -> Option<f64> {
    let times: Vec<u64> = lost_at.iter().map(|time| time.unwrap_or(u64::MAX)).collect();
    let mut sorted = times.clone();
    sorted.sort_unstable();
    if sorted.first() == sorted.last() {
        return None;
    }
    Some(age_covariance(&mean_ranks(&times)) / age_covariance(&mean_ranks(&sorted)))
}

/// Covariance, up to a constant factor, of ranks with the positions they stand at.
fn age_covariance(ranks: &[f64]) -> f64 {
    let middle = (to_f64(ranks.len()) - 1.0) / 2.0;
    ranks.iter().enumerate().map(|(age, rank)| (to_f64(age) - middle) * (rank - middle)).sum()
}

/// The rank of each value, from 0; equal values share the mean of their ranks.
fn mean_ranks(values: &[u64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|&index| values[index]);
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    while first < order.len() {
        let value = values[order[first]];
        let ties = order[first..].iter().take_while(|&&index| values[index] == value).count();
        let mean = to_f64(first) + (to_f64(ties) - 1.0) / 2.0;
        for &index in &order[first..first + ties] {
            ranks[index] = mean;
        }
        first += ties;
    }
    ranks
}

/// Exact for every count that fits in memory here.
#[expect(clippy::cast_precision_loss, reason = "counts of files are far below 2^52")]
fn to_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(left: Option<f64>, right: f64) -> bool {
        left.is_some_and(|left| (left - right).abs() < 1e-9)
    }

    #[test]
    fn oldest_first_is_one_and_newest_first_minus_one() {
        assert!(close(age_order(&[Some(1), Some(2), Some(3), Some(4)]), 1.0));
        assert!(close(age_order(&[Some(4), Some(3), Some(2), Some(1)]), -1.0));
    }

    #[test]
    fn the_ceiling_of_ties_is_taken_out() {
        assert!(close(age_order(&[Some(1), Some(1), Some(2), Some(2), None, None, None, None]), 1.0));
        assert!(close(age_order(&[None, None, None, None, Some(2), Some(2), Some(1), Some(1)]), -1.0));
    }

    #[test]
    fn without_ties_it_is_spearmans_textbook_value() {
        // Squared rank differences 0, 1, 1, 0, 0: 1 - 6 * 2 / (5 * 24) = 0.9.
        assert!(close(age_order(&[Some(10), Some(30), Some(20), Some(40), Some(50)]), 0.9));
    }

    #[test]
    fn no_order_can_be_told_from_nothing() {
        assert_eq!(age_order(&[]), None);
        assert_eq!(age_order(&[Some(3)]), None);
        assert_eq!(age_order(&[None, None, None]), None);
        assert_eq!(age_order(&[Some(5), Some(5)]), None);
    }
}
