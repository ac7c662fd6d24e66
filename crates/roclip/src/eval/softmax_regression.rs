//! Multinomial logistic regression by L-BFGS, in f64: the strong linear probe. The penalty is
//! `l2 / 2 * sum(W^2)` beside the MEAN cross-entropy; the bias is free. (scikit-learn's `C` is `1 / (n * l2)`.)

use std::collections::VecDeque;
use tch::{Kind, Tensor};

/// Curvature pairs that L-BFGS remembers (scikit-learn's default too).
const MEMORY: usize = 10;
/// Armijo's constant.
const SUFFICIENT_DECREASE: f64 = 1e-4;

/// Weight `[classes, dim]` and bias `[classes]`.
pub struct SoftmaxRegression {
    pub weight: Tensor,
    pub bias: Tensor,
}

/// The objective at a point, flattened as `[classes * (dim + 1)]`.
struct Problem<'a> {
    /// `[n, dim + 1]`: the last column is 1, for the bias.
    inputs: &'a Tensor,
    /// `[n, classes]`.
    one_hot: &'a Tensor,
    /// `[1, dim + 1]`: l2 for weights, 0 for the bias.
    penalty: Tensor,
}

impl Problem<'_> {
    fn value_and_gradient(&self, point: &Tensor) -> (f64, Tensor) {
        let rows = self.inputs.size().first().copied().unwrap_or(1).max(1) as f64;
        let classes = self.one_hot.size().last().copied().unwrap_or(1);
        let weights = point.view([classes, -1]);
        let log_probability = self.inputs.matmul(&weights.transpose(0, 1)).log_softmax(1, Kind::Double);
        let loss = -(&log_probability * self.one_hot).sum(Kind::Double) / rows;
        let penalised = &weights * &self.penalty;
        let value = loss + (&penalised * &weights).sum(Kind::Double) * 0.5;
        let error = (log_probability.exp() - self.one_hot) / rows;
        let gradient = error.transpose(0, 1).matmul(self.inputs) + penalised;
        (value.double_value(&[]), gradient.view([-1]))
    }
}

impl SoftmaxRegression {
    /// Fits `inputs` `[n, dim]` (f64) with `labels` `[n]` in `0..classes`. Stops when no gradient entry exceeds `1e-5` or after
    /// `iterations`.
    pub fn fit(inputs: &Tensor, labels: &Tensor, classes: i64, l2: f64, iterations: usize) -> SoftmaxRegression {
        let (rows, dim) = (inputs.size().first().copied().unwrap_or(0), inputs.size().last().copied().unwrap_or(0));
        let options = (Kind::Double, inputs.device());
        let inputs = Tensor::cat(&[inputs.shallow_clone(), Tensor::ones([rows, 1], options)], 1);
        let one_hot = labels.one_hot(classes).to_kind(Kind::Double);
        let penalty = Tensor::cat(&[Tensor::full([1, dim], l2, options), Tensor::zeros([1, 1], options)], 1);
        let problem = Problem { inputs: &inputs, one_hot: &one_hot, penalty };
        let mut point = Tensor::zeros([classes * (dim + 1)], options);
        let (mut value, mut gradient) = problem.value_and_gradient(&point);
        let mut history: VecDeque<(Tensor, Tensor, f64)> = VecDeque::new();
        for _ in 0..iterations {
            if gradient.abs().max().double_value(&[]) < 1e-5 {
                break;
            }
            let mut direction = descent(&gradient, &history);
            let mut slope = direction.dot(&gradient).double_value(&[]);
            if slope >= 0.0 {
                history.clear();
                direction = -&gradient;
                slope = direction.dot(&gradient).double_value(&[]);
            }
            let first = if history.is_empty() { 1.0 / gradient.norm().double_value(&[]).max(1.0) } else { 1.0 };
            let Some((step, next_value, next_gradient)) = search(&problem, &point, value, &direction, slope, first)
            else {
                break; // No step improves: the minimum to machine precision.
            };
            let moved = direction * step;
            let bent = &next_gradient - &gradient;
            let curvature = moved.dot(&bent).double_value(&[]);
            point += &moved;
            if curvature > 1e-12 {
                if history.len() == MEMORY {
                    history.pop_front();
                }
                history.push_back((moved, bent, curvature));
            }
            (value, gradient) = (next_value, next_gradient);
        }
        let weights = point.view([classes, dim + 1]);
        SoftmaxRegression { weight: weights.narrow(1, 0, dim), bias: weights.select(1, dim) }
    }

    /// The likeliest class of each row of `inputs` `[n, dim]`.
    pub fn predict(&self, inputs: &Tensor) -> Tensor {
        inputs.linear(&self.weight, Some(&self.bias)).argmax(1, false)
    }
}

/// The two-loop recursion: minus the inverse Hessian's estimate times the gradient.
fn descent(gradient: &Tensor, history: &VecDeque<(Tensor, Tensor, f64)>) -> Tensor {
    let mut direction = -gradient;
    let mut weights = Vec::with_capacity(history.len());
    for (moved, bent, curvature) in history.iter().rev() {
        let weight = moved.dot(&direction) / *curvature;
        direction -= bent * &weight;
        weights.push(weight);
    }
    if let Some((_, bent, curvature)) = history.back() {
        direction = direction * *curvature / bent.dot(bent);
    }
    for ((moved, bent, curvature), weight) in history.iter().zip(weights.iter().rev()) {
        direction += moved * (weight - bent.dot(&direction) / *curvature);
    }
    direction
}

/// Backtracking from `first` until the value falls enough: step, value and gradient there.
fn search(
    problem: &Problem,
    point: &Tensor,
    value: f64,
    direction: &Tensor,
    slope: f64,
    first: f64,
) -> Option<(f64, f64, Tensor)> {
    let mut step = first;
    for _ in 0..30 {
        let (next, gradient) = problem.value_and_gradient(&(point + direction * step));
        if next <= value + SUFFICIENT_DECREASE * step * slope {
            return Some((step, next, gradient));
        }
        step *= 0.5;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scikit-learn 1.9.1 `LogisticRegression(C=1/(6*0.1), tol=1e-10)` on the same points (script in tests/golden/probe.py).
    #[test]
    fn agrees_with_scikit_learn() {
        let x = Tensor::from_slice(&[0.0f64, 1.0, 1.0, 0.5, 2.0, -1.0, 3.0, 0.0, -1.0, 2.0, 0.5, 0.5]).view([6, 2]);
        let y = Tensor::from_slice(&[0i64, 0, 1, 1, 2, 2]);
        let fitted = SoftmaxRegression::fit(&x, &y, 3, 0.1, 200);
        let weight: Vec<f64> = Vec::try_from(fitted.weight.reshape([-1])).unwrap();
        let bias: Vec<f64> = Vec::try_from(fitted.bias).unwrap();
        let expected = [-0.220185, 0.232346, 0.979239, -0.657289, -0.759054, 0.424943];
        for (got, want) in weight.iter().zip(expected) {
            assert!((got - want).abs() < 1e-3, "{weight:?}");
        }
        let mean = bias.iter().sum::<f64>() / 3.0;
        for (got, want) in bias.iter().zip([0.56479, -1.095517, 0.530727]) {
            assert!((got - mean - want).abs() < 1e-3, "{bias:?}");
        }
    }
}
