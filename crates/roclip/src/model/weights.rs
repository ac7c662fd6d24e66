//! safetensors in and out. The only weight format here: no pickle is read or written on any path.

use crate::error::{Error, IoContext, Result, TorchContext};
use crate::model::Clip;
use roclip_data::artifact;
use roclip_data::escape::for_terminal;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use tch::{Kind, Tensor};

/// The format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal(format!("safetensors header: {e}")))
}

/// Bytes of a tensor that are copied, hashed and written at a time: they stay in the processor's cache between the three.
const PIECE_BYTES: usize = 1 << 20;

/// Writes named tensors and string metadata as the safetensors file `path`, piece by piece from the tensors' own memory. The sha256 of
/// what was written, taken on the way. Equal tensors and metadata are equal bytes: both are sorted.
///
/// # Errors
/// Where a tensor is of a kind that no model here has, or the file cannot be written.
pub fn write_safetensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<String> {
    let mut entries = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let dtype = match tensor.kind() {
            Kind::Float => Dtype::F32,
            Kind::Int64 => Dtype::I64,
            Kind::Double => Dtype::F64,
            other => return Err(Error::internal(format!("cannot save `{name}` of kind {other:?}"))),
        };
        entries.push((dtype, name, tensor));
    }
    // Wide numbers first, so that all lie where their width asks for.
    entries.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let mut header = format!("{{\"__metadata__\":{}", json(metadata)?);
    let mut from = 0;
    for (dtype, name, tensor) in &entries {
        let to = from + tensor.numel() * tensor.kind().elt_size_in_bytes();
        header += &format!(
            ",{}:{{\"dtype\":{},\"shape\":{},\"data_offsets\":[{from},{to}]}}",
            json(*name)?,
            json(dtype)?,
            json(&tensor.size())?
        );
        from = to;
    }
    header.push('}');
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut file = File::create(path).io("create", path)?;
    let mut hash = Sha256::new();
    let mut write = |bytes: &[u8]| {
        hash.update(bytes);
        file.write_all(bytes).io("write", path)
    };
    write(&(header.len() as u64).to_le_bytes())?;
    write(header.as_bytes())?;
    let mut piece = vec![0u8; PIECE_BYTES];
    for (_, _, tensor) in &entries {
        let width = tensor.kind().elt_size_in_bytes();
        // A copy only where the tensor is on another device or its memory has another order, and of this tensor alone.
        let host = tensor.detach().to_device(tch::Device::Cpu).contiguous().view([-1]);
        let (count, mut from) = (host.numel(), 0);
        while from < count {
            let length = (count - from).min(PIECE_BYTES / width);
            let bytes = piece.get_mut(..length * width).unwrap_or_default();
            host.narrow(0, from as i64, length as i64).f_copy_data_u8(bytes, length).torch("copying a tensor")?;
            write(bytes)?;
            from += length;
        }
    }
    file.sync_all().io("sync", path)?;
    Ok(artifact::hex(&hash.finalize()))
}

/// The string metadata of a safetensors file, without its tensors.
pub fn read_safetensors_metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let broken = || Error::file(path, "is not safetensors", "give a whole safetensors file");
    let mut file = File::open(path).io("open", path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| broken())?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Err(broken());
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).io("read", path)?;
    let mut header: serde_json::Value = serde_json::from_slice(&header).map_err(|_| broken())?;
    match header.get_mut("__metadata__").map(serde_json::Value::take) {
        None => Ok(BTreeMap::new()),
        Some(metadata) => serde_json::from_value(metadata).map_err(|_| broken()),
    }
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
        let other_model = |what: String| {
            Error::file(
                path,
                what,
                "use the model configuration that the weights were written with (--model names another)",
            )
        };
        let unknown: Vec<&String> =
            tensors.keys().filter(|name| !own.contains_key(*name) && *name != "attn_mask").collect();
        if !unknown.is_empty() {
            return Err(other_model(format!("holds {}, which this model does not have", first_few(&unknown))));
        }
        let missing: Vec<&String> = own.keys().filter(|name| !tensors.contains_key(*name)).collect();
        if !missing.is_empty() {
            return Err(other_model(format!("lacks {}", first_few(&missing))));
        }
        for (name, tensor) in &own {
            let Some(given) = tensors.get(name) else { continue };
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

/// The first of `names`, and how many more there are.
fn first_few(names: &[&String]) -> String {
    const SHOWN: usize = 3;
    let first: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{}`", for_terminal(name))).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelConfig;
    use safetensors::tensor::TensorView;
    use tch::Device;

    #[test]
    fn what_is_written_in_pieces_is_what_the_format_s_own_library_writes_at_once() {
        let float = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let longer_than_a_piece = PIECE_BYTES as i64 / 4 + 3;
        let tensors = BTreeMap::from([
            ("b.matrix".to_owned(), float(&[longer_than_a_piece])),
            ("a.turned".to_owned(), float(&[7, 600, 3]).transpose(0, 2)),
            ("number".to_owned(), Tensor::from(2.5f32)),
            ("nothing".to_owned(), float(&[0, 4])),
            ("part".to_owned(), float(&[9, 4]).narrow(0, 3, 5).set_requires_grad(true)),
            ("place".to_owned(), Tensor::from_slice(&[3i64, 5])),
            ("wide".to_owned(), float(&[longer_than_a_piece]).to_kind(Kind::Double)),
        ]);
        let dtype = |kind: Kind| match kind {
            Kind::Float => Dtype::F32,
            Kind::Double => Dtype::F64,
            _ => Dtype::I64,
        };
        let bytes: Vec<Vec<u8>> = tensors
            .values()
            .map(|tensor| {
                let tensor = tensor.detach().contiguous();
                let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
                tensor.copy_data_u8(&mut bytes, tensor.numel());
                bytes
            })
            .collect();
        let views = tensors.iter().zip(&bytes).map(|((name, tensor), bytes)| {
            let shape = tensor.size().into_iter().map(|n| n as usize).collect();
            (name, TensorView::new(dtype(tensor.kind()), shape, bytes).unwrap())
        });
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let whole = safetensors::serialize(views, Some(metadata.clone().into_iter().collect())).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tensors.safetensors");
        let sha256 = write_safetensors(&path, &tensors, &metadata).unwrap();
        let written = std::fs::read(&path).unwrap();
        assert!(written == whole, "{} bytes where {} are expected", written.len(), whole.len());
        assert_eq!(sha256, artifact::sha256_hex(&written));
        for (name, tensor) in read_safetensors(&path).unwrap() {
            assert!(tensor.equal(&tensors[&name]), "{name}");
        }
    }

    #[test]
    fn a_full_disk_is_said() {
        let path = Path::new("/dev/full");
        let tensors = BTreeMap::from([("a".to_owned(), Tensor::from_slice(&[1f32]))]);
        let said = write_safetensors(path, &tensors, &BTreeMap::new()).unwrap_err().to_string();
        assert!(said.contains("/dev/full") && said.contains("No space left"), "{said}");
    }

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
