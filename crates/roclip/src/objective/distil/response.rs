//! Response distillation (Hinton et al., arXiv 1503.02531): the student's probabilities follow the teacher's.

use tch::{Kind, Reduction, Tensor};

/// `T^2 KL(teacher || student)` of both probabilities at temperature `T`, the mean over pictures. `student`, `teacher` `[batch, classes]` logits.
pub fn loss(student: &Tensor, teacher: &Tensor, temperature: f64) -> Tensor {
    let student = (student / temperature).log_softmax(1, Kind::Float);
    let teacher = (teacher / temperature).log_softmax(1, Kind::Float);
    let batch = student.size().first().copied().unwrap_or(1).max(1) as f64;
    student.kl_div(&teacher, Reduction::Sum, true) * (temperature * temperature / batch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_the_divergence_of_softened_probabilities() {
        let (student, teacher) = ([1.0f32, 0.0, -1.0], [0.5f32, 2.0, 0.0]);
        let found = loss(&Tensor::from_slice(&student).view([1, 3]), &Tensor::from_slice(&teacher).view([1, 3]), 2.0);
        let probabilities = |logits: [f32; 3]| {
            let powers = logits.map(|logit| (f64::from(logit) / 2.0).exp());
            powers.map(|power| power / powers.iter().sum::<f64>())
        };
        let (p, q) = (probabilities(teacher), probabilities(student));
        let wanted: f64 = p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>() * 4.0;
        assert!((found.double_value(&[]) - wanted).abs() < 1e-6);
        let same = Tensor::from_slice(&teacher).view([1, 3]);
        assert!(loss(&same, &same, 2.0).double_value(&[]).abs() < 1e-7);
    }
}
