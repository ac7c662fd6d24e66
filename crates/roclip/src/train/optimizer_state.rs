//! What every optimizer keeps for a parameter, read back from a checkpoint.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use tch::Tensor;

/// Puts the tensor that `state` has under `name` into `into`.
///
/// # Errors
/// Where `state` is of other parameters.
pub fn restore(state: &BTreeMap<String, Tensor>, name: &str, into: &mut Tensor) -> Result<()> {
    match state.get(name) {
        Some(saved) if saved.size() == into.size() => {
            into.copy_(saved);
            Ok(())
        }
        _ => Err(Error::setting(
            format!("the checkpoint's optimizer lacks `{name}`"),
            "resume with the recipe of the run",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_of_another_shape_is_none_of_this_parameters() {
        let state = BTreeMap::from([("a".to_owned(), Tensor::from_slice(&[1.0, 2.0]))]);
        let mut into = Tensor::from_slice(&[0.0, 0.0]);
        restore(&state, "a", &mut into).unwrap();
        assert_eq!(Vec::<f64>::try_from(&into).unwrap(), [1.0, 2.0]);
        let said = restore(&state, "a", &mut Tensor::from_slice(&[0.0])).unwrap_err().to_string();
        assert!(said.contains("lacks `a`"), "{said}");
        assert!(restore(&state, "b", &mut into).is_err());
    }
}
