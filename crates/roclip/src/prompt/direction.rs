//! The direction that a trigger moves image features in: whether it is one for all pictures, and what is left of the attack without it, or
//! with it alone (an independent replication, `badclipmargin`).

use crate::model::unit;
use tch::{Kind, Tensor};

/// The unit vector `[dim]` of the mean shift from `clean` to `triggered`, unit features `[n, dim]`.
pub fn direction(clean: &Tensor, triggered: &Tensor) -> Tensor {
    unit(&(triggered - clean).mean_dim([0i64].as_slice(), true, Kind::Float)).squeeze_dim(0)
}

/// The part of the shift along `direction`: `[n, dim]`.
fn along(clean: &Tensor, triggered: &Tensor, direction: &Tensor) -> Tensor {
    (triggered - clean).matmul(direction).unsqueeze(1) * direction.unsqueeze(0)
}

/// Triggered features whose shift lacks `direction`.
pub fn without(clean: &Tensor, triggered: &Tensor, direction: &Tensor) -> Tensor {
    unit(&(triggered - along(clean, triggered, direction)))
}

/// Clean features that are shifted along `direction` alone, as far as the trigger shifts them.
pub fn only(clean: &Tensor, triggered: &Tensor, direction: &Tensor) -> Tensor {
    unit(&(clean + along(clean, triggered, direction)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_of_one_direction_is_taken_out_whole_and_put_in_whole() {
        let clean = unit(&Tensor::from_slice(&[1f32, 0.2, 0.0, 0.3, 1.0, 0.0]).view([2, 3]));
        let shifted = &clean + Tensor::from_slice(&[0f32, 0.0, 2.0]);
        let found = direction(&clean, &shifted);
        assert!((found.double_value(&[2]) - 1.0).abs() < 1e-6);
        let apart = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        assert!(apart(&without(&clean, &shifted, &found), &clean) < 1e-6);
        assert!(apart(&only(&clean, &shifted, &found), &unit(&shifted)) < 1e-6);
    }
}
