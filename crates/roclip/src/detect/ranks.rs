//! Several scores as one: the mean of their ranks.

/// The mean over `scores` of each pair's rank, from 0 (least suspicious) to 1; ties share their mean rank, and a pair that a score says
/// nothing of has the middle one there. Of a single score such a pair is no suspect at all: it is at minus infinity. Ours.
pub fn combined(scores: &[Vec<f64>]) -> Vec<f64> {
    let pairs = scores.iter().map(Vec::len).max().unwrap_or(0);
    let mut sums = vec![0.0; pairs];
    let silent = if scores.len() == 1 { f64::NEG_INFINITY } else { 0.5 };
    for ranks in scores.iter().map(|score| ranks(score, silent)) {
        sums.iter_mut().zip(ranks).for_each(|(sum, rank)| *sum += rank);
    }
    sums.into_iter().map(|sum| sum / scores.len().max(1) as f64).collect()
}

/// The rank of each pair; `silent` where the score says nothing of it.
fn ranks(scores: &[f64], silent: f64) -> Vec<f64> {
    let mut order: Vec<(usize, f64)> =
        scores.iter().copied().enumerate().filter(|(_, score)| !score.is_nan()).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let last = order.len().saturating_sub(1).max(1) as f64;
    let mut ranks = vec![silent; scores.len()];
    let mut begin = 0;
    for tied in order.chunk_by(|a, b| a.1 == b.1) {
        let rank = (begin as f64 + (tied.len() - 1) as f64 / 2.0) / last;
        for (at, _) in tied {
            if let Some(slot) = ranks.get_mut(*at) {
                *slot = rank;
            }
        }
        begin += tied.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_averaged_and_silence_is_the_middle_beside_others_alone() {
        let ranks = |scores: &[f64]| ranks(scores, 0.5);
        assert_eq!(ranks(&[3.0, 1.0, 2.0]), [1.0, 0.0, 0.5]);
        assert_eq!(ranks(&[1.0, 1.0, 2.0]), [0.25, 0.25, 1.0]);
        assert_eq!(ranks(&[f64::NAN, 1.0, 2.0]), [0.5, 0.0, 1.0]);
        assert_eq!(ranks(&[f64::INFINITY, 1.0]), [1.0, 0.0]);
        assert_eq!(combined(&[vec![1.0, 2.0], vec![2.0, 1.0]]), [0.5, 0.5]);
        assert_eq!(combined(&[]), Vec::<f64>::new());
        let silent = vec![f64::NAN, 1.0, 2.0];
        assert_eq!(combined(&[silent.clone(), vec![1.0, 2.0, 3.0]]), [0.25, 0.25, 1.0]);
        assert_eq!(combined(&[silent]), [f64::NEG_INFINITY, 0.0, 1.0]);
    }
}
