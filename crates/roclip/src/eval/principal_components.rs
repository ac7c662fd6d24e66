//! The plane in which points vary most: the first two principal components, by power iteration on the points' inner products (there are
//! fewer points than dimensions). The result depends on the points alone, to the bit.

/// Points laid into their plane.
pub struct Plane {
    /// Shares of the variance along the two axes.
    pub explained: [f64; 2],
    pub points: Vec<(f64, f64)>,
}

const ITERATIONS: usize = 500;
/// The direction has settled when no entry of its unit vector moves by more.
const SETTLED: f64 = 1e-10;

/// Lays `rows` (of one length) into the plane. Fewer than two points, or equal ones, lie in its origin.
pub fn plane(rows: &[Vec<f64>]) -> Plane {
    let gram = centred_gram(rows);
    let variance: f64 = gram.iter().zip(0..).filter_map(|(row, at)| row.get::<usize>(at)).sum();
    let first = leading(&gram, None);
    let second = leading(&gram, Some(&first.vector));
    let share = |value: f64| if variance > 0.0 { value / variance } else { 0.0 };
    let points = first.coordinates().zip(second.coordinates()).collect();
    Plane { explained: [share(first.value), share(second.value)], points }
}

/// Inner products of the rows less their mean, `[points, points]`.
fn centred_gram(rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let count = rows.len().max(1) as f64;
    let width = rows.first().map_or(0, Vec::len);
    let mut mean = vec![0.0; width];
    for row in rows {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += value / count);
    }
    let centred: Vec<Vec<f64>> =
        rows.iter().map(|row| row.iter().zip(&mean).map(|(value, mean)| value - mean).collect()).collect();
    centred.iter().map(|a| centred.iter().map(|b| dot(a, b)).collect()).collect()
}

struct Component {
    value: f64,
    /// Unit.
    vector: Vec<f64>,
}

impl Component {
    /// Of the points along this component.
    fn coordinates(&self) -> impl Iterator<Item = f64> {
        self.vector.iter().map(|entry| entry * self.value.max(0.0).sqrt())
    }
}

/// The eigenvector of the largest eigenvalue among those that are orthogonal to `apart_from`; its largest entry is positive.
fn leading(gram: &[Vec<f64>], apart_from: Option<&[f64]>) -> Component {
    // Any start that is no eigenvector itself will do; entries of several sizes are orthogonal to none of the usual ones.
    let mut vector: Vec<f64> = (0..gram.len()).map(|at| 1.0 + (at as f64 * 0.7).sin()).collect();
    let mut value = 0.0;
    for _ in 0..ITERATIONS {
        let mut next: Vec<f64> = gram.iter().map(|row| dot(row, &vector)).collect();
        if let Some(other) = apart_from {
            let along = dot(&next, other);
            next.iter_mut().zip(other).for_each(|(entry, other)| *entry -= along * other);
        }
        value = dot(&next, &next).sqrt();
        if value <= 1e-12 {
            return Component { value: 0.0, vector: vec![0.0; gram.len()] };
        }
        next.iter_mut().for_each(|entry| *entry /= value);
        let moved = next.iter().zip(&vector).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        vector = next;
        if moved < SETTLED {
            break;
        }
    }
    let largest =
        vector.iter().copied().fold(0.0, |most: f64, entry| if entry.abs() > most.abs() { entry } else { most });
    if largest < 0.0 {
        vector.iter_mut().for_each(|entry| *entry = -*entry);
    }
    Component { value, vector }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plane_is_the_one_in_which_the_points_lie() {
        // A 4-by-2 rectangle, turned into five dimensions.
        let (long, wide) = ([0.6, 0.0, 0.8, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0]);
        let corners = [(-2.0, -1.0), (-2.0, 1.0), (2.0, -1.0), (2.0, 1.0)];
        let rows: Vec<Vec<f64>> =
            corners.iter().map(|(a, b)| long.iter().zip(wide).map(|(l, w)| 7.0 + a * l + b * w).collect()).collect();
        let plane = plane(&rows);
        assert!(
            (plane.explained[0] - 0.8).abs() < 1e-9 && (plane.explained[1] - 0.2).abs() < 1e-9,
            "{:?}",
            plane.explained
        );
        for (point, corner) in plane.points.iter().zip(corners) {
            assert!((point.0.abs() - corner.0.abs()).abs() < 1e-6 && (point.1.abs() - corner.1.abs()).abs() < 1e-6);
        }
        let [a, _, c, d] = [0, 1, 2, 3].map(|at: usize| plane.points[at]);
        assert!((a.0 - c.0).abs() > 3.9 && (c.1 - d.1).abs() > 1.9, "{:?}", plane.points);
    }

    #[test]
    fn points_without_spread_lie_in_the_origin() {
        assert_eq!(plane(&[vec![1.0, 2.0], vec![1.0, 2.0]]).points, [(0.0, 0.0), (0.0, 0.0)]);
        assert_eq!(plane(&[vec![3.0]]).points, [(0.0, 0.0)]);
        assert!(plane(&[]).points.is_empty());
    }
}
