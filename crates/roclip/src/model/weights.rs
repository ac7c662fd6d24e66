//! safetensors in and out. The only weight format here: no pickle is read or written on any path.

use crate::error::{Error, Result, TorchContext};
use crate::model::Clip;
use roclip_data::artifact;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Kind, Tensor};

/// Serialises named tensors, sorted, with string metadata.
pub fn tensors_to_safetensors(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let mut held = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let (dtype, kind) = match tensor.kind() {
            Kind::Float => (Dtype::F32, Kind::Float),
            Kind::Int64 => (Dtype::I64, Kind::Int64),
            Kind::Double => (Dtype::F64, Kind::Double),
            other => return Err(Error::internal(format!("cannot save `{name}` of kind {other:?}"))),
        };
        let host = tensor.detach().to_device(tch::Device::Cpu).to_kind(kind).contiguous();
        let mut bytes = vec![0u8; host.numel() * kind.elt_size_in_bytes()];
        host.f_copy_data_u8(&mut bytes, host.numel()).torch("copying a tensor")?;
        held.push((name.clone(), dtype, tensor.size().iter().map(|n| *n as usize).collect::<Vec<_>>(), bytes));
    }
    let mut views = Vec::with_capacity(held.len());
    for (name, dtype, shape, bytes) in &held {
        let view =
            TensorView::new(*dtype, shape.clone(), bytes).map_err(|e| Error::internal(format!("{name}: {e}")))?;
        views.push((name.as_str(), view));
    }
    let plain = serialize(views, None).map_err(|e| Error::internal(format!("safetensors: {e}")))?;
    with_metadata(&plain, metadata)
}

/// Puts sorted metadata at the front of a safetensors header. The crate takes a hash map and writes it in random order, but
/// two equal models must be equal files.
fn with_metadata(plain: &[u8], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let broken = || Error::internal("safetensors wrote an unexpected header");
    let (length, rest) = plain.split_first_chunk::<8>().ok_or_else(broken)?;
    let (header, data) = rest.split_at_checked(u64::from_le_bytes(*length) as usize).ok_or_else(broken)?;
    let entries = std::str::from_utf8(header).ok().and_then(|h| h.trim_end().strip_prefix('{')).ok_or_else(broken)?;
    let metadata = serde_json::to_string(metadata).map_err(|e| Error::internal(e.to_string()))?;
    let comma = if entries == "}" { "" } else { "," };
    let mut header = format!("{{\"__metadata__\":{metadata}{comma}{entries}");
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    Ok([(header.len() as u64).to_le_bytes().as_slice(), header.as_bytes(), data].concat())
}

/// All tensors of a safetensors file.
pub fn read_safetensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let bytes = artifact::read(path)?;
    let broken = |what: String| Error::file(path, what, "give a whole safetensors file");
    let file = SafeTensors::deserialize(&bytes).map_err(|e| broken(format!("is not safetensors: {e}")))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::I64 => Kind::Int64,
            Dtype::F64 => Kind::Double,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => return Err(broken(format!("tensor `{name}` is {other:?}, which CLIP weights never are"))),
        };
        let shape: Vec<i64> = view.shape().iter().map(|n| *n as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind).torch("reading a tensor")?;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

impl Clip {
    /// Copies weights in.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape, is not the model's, or holds a number that is not finite.
    pub fn load(&self, path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let own = self.parameters().all();
        let other_model =
            |what: String| Error::file(path, what, "use the model configuration that the checkpoint was written with");
        if let Some(unknown) = tensors.keys().find(|name| !own.contains_key(*name) && *name != "attn_mask") {
            return Err(other_model(format!("holds `{unknown}`, which this model does not have")));
        }
        for (name, tensor) in &own {
            let given = tensors.get(name).ok_or_else(|| other_model(format!("lacks `{name}`")))?;
            if given.size() != tensor.size() {
                return Err(other_model(format!(
                    "`{name}` is {:?} but this model needs {:?}",
                    given.size(),
                    tensor.size()
                )));
            }
            // A model that holds one gives numbers that look like any other's.
            if given.isfinite().all().int64_value(&[]) == 0 {
                return Err(Error::file(
                    path,
                    format!("`{name}` holds numbers that are not finite"),
                    "use a checkpoint from before training diverged",
                ));
            }
        }
        tch::no_grad(|| {
            for (name, tensor) in own {
                if let Some(given) = tensors.get(&name) {
                    tensor.shallow_clone().copy_(given);
                }
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;
    use tch::Device;

    #[test]
    fn weights_that_do_not_fit_or_are_not_finite_are_refused_by_name() {
        let mut config = ModelConfig::named("ViT-tiny-32").unwrap();
        config.text_cfg.vocab_size = 8;
        let model = Clip::new(config, Device::Cpu, 0).unwrap();
        let refused = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
            let own = model.parameters().all();
            let mut weights: BTreeMap<String, Tensor> =
                own.into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect();
            change(&mut weights);
            model.load(Path::new("weights"), &weights).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(refused(&|_| ()), "");
        for value in [f64::NAN, f64::INFINITY] {
            let said = refused(&|weights| {
                let _ = weights["visual.proj"].get(0).fill_(value);
            });
            assert!(said.contains("`visual.proj` holds numbers that are not finite"), "{said}");
        }
        let said = refused(&|weights| drop(weights.remove("ln_final.bias")));
        assert!(said.contains("lacks `ln_final.bias`"), "{said}");
        let said = refused(&|weights| drop(weights.insert("more".into(), Tensor::from(1f32))));
        assert!(said.contains("holds `more`"), "{said}");
        let said = refused(&|weights| drop(weights.insert("logit_scale".into(), Tensor::from_slice(&[1f32, 2.0]))));
        assert!(said.contains("`logit_scale` is [2]"), "{said}");
    }
}
