//! Relation distillation (DIST: Huang et al., arXiv 2205.10536): what is kept is how probabilities correlate, and not their values.

use tch::{Kind, Tensor};

/// Keeps a constant row from dividing by 0.
const LEAST: f64 = 1e-8;

/// `T^2 [(1 - r between the classes of a picture) + (1 - r between the pictures of a class)]`, `r` Pearson's correlation of both models'
/// probabilities at temperature `T`, each averaged. `student`, `teacher` `[batch, classes]` logits.
pub fn loss(student: &Tensor, teacher: &Tensor, temperature: f64) -> Tensor {
    let student = (student / temperature).softmax(1, Kind::Float);
    let teacher = (teacher / temperature).softmax(1, Kind::Float);
    let between = correlation(&student, &teacher, 1);
    let within = correlation(&student, &teacher, 0);
    (between + within - 2.0) * -(temperature * temperature)
}

/// Pearson's correlation of `a` and `b` along `dimension`, the mean over the other.
fn correlation(a: &Tensor, b: &Tensor, dimension: i64) -> Tensor {
    let centred = |x: &Tensor| x - x.mean_dim([dimension].as_slice(), true, Kind::Float);
    let (a, b) = (centred(a), centred(b));
    let sum = |x: Tensor| x.sum_dim_intlist([dimension].as_slice(), false, Kind::Float);
    let lengths = (sum(a.square()) * sum(b.square()) + LEAST * LEAST).sqrt();
    (sum(&a * &b) / lengths).mean(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_are_pearsons_and_equal_models_lose_nothing() {
        let a = Tensor::from_slice(&[1.0f32, 2.0, 4.0, 0.0, 3.0, 1.5]).view([2, 3]);
        let b = Tensor::from_slice(&[2.0f32, 1.0, 5.0, 1.0, 1.0, 3.0]).view([2, 3]);
        let pearson = |x: &[f64], y: &[f64]| {
            let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
            let (mx, my) = (mean(x), mean(y));
            let dot = |f: fn(f64, f64) -> f64| x.iter().zip(y).map(|(x, y)| f(x - mx, y - my)).sum::<f64>();
            dot(|x, y| x * y) / (dot(|x, _| x * x) * dot(|_, y| y * y)).sqrt()
        };
        let wanted = (pearson(&[1.0, 2.0, 4.0], &[2.0, 1.0, 5.0]) + pearson(&[0.0, 3.0, 1.5], &[1.0, 1.0, 3.0])) / 2.0;
        assert!((correlation(&a, &b, 1).double_value(&[]) - wanted).abs() < 1e-6);
        assert!(loss(&a, &a, 2.0).double_value(&[]).abs() < 1e-4);
        assert!(loss(&b, &a, 2.0).double_value(&[]) > 0.1);
    }
}
