//! What a model's pictures go through before its first layer, as the files beside its weights say it.
//!
//! Pictures become tensors normalised as CLIP's are. [`Clip`](crate::model::Clip) turns them into what a model of other means and deviations
//! expects, so that everything that reads pictures works for every model.

use crate::error::{Error, Result};
use roclip_data::picture::preprocess::{Interpolation, MEAN, Resizing, STD};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// Where a configuration asks for what is not done here.
const REMEDY: &str = "use a model that is preprocessed as CLIP is: resized, cropped to the centre, and normalised";

/// The key of [`Preprocess::standardise`] in a checkpoint's `preprocess_cfg`, where it is on.
pub(crate) const STANDARDISE: &str = "standardise";
/// Added to deviations, so that a picture of one colour becomes 0.
const LEAST_DEVIATION: f64 = 1e-3;

/// The preprocessing of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Preprocess {
    /// Of each channel, of pixels in `[0, 1]`.
    pub mean: [f32; 3],
    pub std: [f32; 3],
    pub resizing: Resizing,
    /// Each picture is brought to mean 0 and deviation 1 over all its channels. Ours; other programs do not know it.
    pub standardise: bool,
}

impl Default for Preprocess {
    fn default() -> Self {
        Preprocess { mean: MEAN, std: STD, resizing: Resizing::default(), standardise: false }
    }
}

impl Preprocess {
    /// open_clip's `preprocess_cfg`; what it leaves out is CLIP's. `image_size` is the model's, in pixels.
    ///
    /// # Errors
    /// A size that is not the model's, and what is not done here (grey pictures, padding).
    pub fn from_open_clip(config: &Value, image_size: i64) -> Result<Preprocess> {
        let mut found = Preprocess::default();
        read_channels(config, "mean", &mut found.mean)?;
        read_channels(config, "std", &mut found.std)?;
        if let Some(size) = config.get("size").filter(|size| !size.is_null()) {
            check_size(size, image_size, "size")?;
        }
        found.resizing.interpolation = match text(config, "interpolation")? {
            None | Some("bicubic") => Interpolation::Bicubic,
            Some("bilinear") => Interpolation::Bilinear,
            Some(other) => return Err(unfit("interpolation", other)),
        };
        found.resizing.squash = match text(config, "resize_mode")? {
            None | Some("shortest") => false,
            Some("squash") => true,
            Some(other) => return Err(unfit("resize_mode", other)),
        };
        found.standardise = config.get(STANDARDISE) == Some(&Value::Bool(true));
        match text(config, "mode")? {
            None | Some("RGB") => found.checked(),
            Some(other) => Err(unfit("mode", other)),
        }
    }

    /// transformers' `preprocessor_config.json`; what it leaves out is CLIP's.
    ///
    /// # Errors
    /// A size that is not the model's, and what is not done here.
    pub fn from_transformers(config: &Value, image_size: i64) -> Result<Preprocess> {
        let mut found = Preprocess::default();
        read_channels(config, "image_mean", &mut found.mean)?;
        read_channels(config, "image_std", &mut found.std)?;
        for step in ["do_resize", "do_normalize", "do_rescale"] {
            if config.get(step) == Some(&Value::Bool(false)) {
                return Err(unfit(step, "false"));
            }
        }
        let size = config.get("size").filter(|size| !size.is_null());
        let crops = config.get("do_center_crop") != Some(&Value::Bool(false));
        // A size of two sides squeezes; one side is the shorter one's.
        let squash = size.is_some_and(|size| size.get("height").is_some());
        if !crops && !squash {
            return Err(unfit("do_center_crop", "false"));
        }
        for (name, size) in [("size", size), ("crop_size", config.get("crop_size").filter(|_| crops))] {
            if let Some(size) = size.filter(|size| !size.is_null()) {
                check_size(size, image_size, name)?;
            }
        }
        // PIL's numbers for its filters.
        found.resizing = Resizing {
            squash,
            interpolation: match config.get("resample").and_then(Value::as_i64) {
                None | Some(3) => Interpolation::Bicubic,
                Some(2) => Interpolation::Bilinear,
                Some(other) => return Err(unfit("resample", &other.to_string())),
            },
        };
        found.checked()
    }

    fn checked(self) -> Result<Preprocess> {
        match self.std.iter().all(|deviation| *deviation > 0.0) {
            true => Ok(self),
            false => {
                Err(Error::setting(format!("its pictures' std is {:?}", self.std), "correct it to positive numbers"))
            }
        }
    }

    /// open_clip's `preprocess_cfg` of a model of `image_size` pixels.
    pub fn open_clip_config(&self, image_size: i64) -> Value {
        json!({
            "size": [image_size, image_size], "mode": "RGB", "mean": self.mean, "std": self.std,
            "interpolation": self.interpolation(), "resize_mode": self.resize_mode(), "fill_color": 0,
        })
    }

    pub fn interpolation(&self) -> &'static str {
        match self.resizing.interpolation {
            Interpolation::Bicubic => "bicubic",
            Interpolation::Bilinear => "bilinear",
        }
    }

    pub fn resize_mode(&self) -> &'static str {
        if self.resizing.squash { "squash" } else { "shortest" }
    }

    /// transformers' `preprocessor_config.json` of a model of `image_size` pixels.
    pub fn transformers_config(&self, image_size: i64) -> Value {
        let square = json!({"height": image_size, "width": image_size});
        let size = if self.resizing.squash { square.clone() } else { json!({"shortest_edge": image_size}) };
        let resample = match self.resizing.interpolation {
            Interpolation::Bicubic => 3,
            Interpolation::Bilinear => 2,
        };
        json!({
            "image_processor_type": "CLIPImageProcessor", "do_resize": true, "size": size,
            "do_center_crop": !self.resizing.squash, "crop_size": square, "do_normalize": true,
            "do_rescale": true, "do_convert_rgb": true, "image_mean": self.mean, "image_std": self.std, "resample": resample,
        })
    }
}

/// From pictures normalised as CLIP's to those that a model expects.
pub(super) struct Renormalise {
    /// `[1, 3, 1, 1]` each: `pictures * scale + shift`.
    scale: Tensor,
    shift: Tensor,
    /// Afterwards each picture is brought to mean 0 and deviation 1.
    standardise: bool,
}

impl Renormalise {
    /// None where the model's pictures are normalised as CLIP's.
    pub fn new(preprocess: &Preprocess, device: Device) -> Option<Renormalise> {
        if (preprocess.mean, preprocess.std) == (MEAN, STD) && !preprocess.standardise {
            return None;
        }
        // What is standardised are pixels.
        let (mean, std) = if preprocess.standardise { ([0.0; 3], [1.0; 3]) } else { (preprocess.mean, preprocess.std) };
        let mut scale = [0f32; 3];
        let mut shift = [0f32; 3];
        let theirs = mean.into_iter().zip(std);
        let ours = MEAN.into_iter().zip(STD);
        for ((scale, shift), ((mean, std), (own_mean, own_std))) in
            scale.iter_mut().zip(&mut shift).zip(theirs.zip(ours))
        {
            *scale = own_std / std;
            *shift = (own_mean - mean) / std;
        }
        let channels = |values: &[f32; 3]| Tensor::from_slice(values).view([1, 3, 1, 1]).to_device(device);
        Some(Renormalise { scale: channels(&scale), shift: channels(&shift), standardise: preprocess.standardise })
    }

    /// `[batch, 3, size, size]` to the same.
    pub fn apply(&self, pictures: &Tensor) -> Tensor {
        let pictures = pictures * &self.scale + &self.shift;
        if !self.standardise {
            return pictures;
        }
        let of_picture = [1i64, 2, 3];
        let centred = &pictures - pictures.mean_dim(of_picture.as_slice(), true, Kind::Float);
        let deviation = centred.square().mean_dim(of_picture.as_slice(), true, Kind::Float).sqrt();
        centred / (deviation + LEAST_DEVIATION)
    }
}

fn unfit(key: &str, value: &str) -> Error {
    Error::setting(format!("its preprocessing has {key} = {value}, which is not done here"), REMEDY)
}

fn text<'a>(config: &'a Value, key: &str) -> Result<Option<&'a str>> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(unfit(key, &other.to_string())),
    }
}

fn read_channels(config: &Value, key: &str, into: &mut [f32; 3]) -> Result<()> {
    let Some(value) = config.get(key).filter(|value| !value.is_null()) else { return Ok(()) };
    let numbers: Option<Vec<f32>> =
        value.as_array().map(|values| values.iter().filter_map(Value::as_f64).map(|value| value as f32).collect());
    match numbers.as_deref() {
        Some([red, green, blue]) if [red, green, blue].into_iter().all(|value| value.is_finite()) => {
            *into = [*red, *green, *blue];
            Ok(())
        }
        _ => Err(Error::setting(format!("its preprocessing has {key} = {value}"), "correct it to three numbers")),
    }
}

/// One number, two of them, or a side or two by name.
fn check_size(size: &Value, image_size: i64, key: &str) -> Result<()> {
    let sides: Vec<i64> = match size {
        Value::Number(_) => size.as_i64().into_iter().collect(),
        Value::Array(sides) => sides.iter().filter_map(Value::as_i64).collect(),
        Value::Object(sides) => sides.values().filter_map(Value::as_i64).collect(),
        _ => Vec::new(),
    };
    match !sides.is_empty() && sides.iter().all(|side| *side == image_size) {
        true => Ok(()),
        false => Err(Error::setting(
            format!("its preprocessing has {key} = {size}, and the model takes pictures of {image_size} pixels"),
            "correct one of them: resizing to another size than the crop's is not done here",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_say_the_same_and_are_read_back() {
        let bilinear = Resizing { interpolation: Interpolation::Bilinear, squash: true };
        for resizing in [Resizing::default(), bilinear] {
            let own = Preprocess { mean: [0.5, 0.25, 0.1], std: [0.5, 0.3, 0.2], resizing, standardise: false };
            assert_eq!(Preprocess::from_open_clip(&own.open_clip_config(32), 32).unwrap(), own);
            assert_eq!(Preprocess::from_transformers(&own.transformers_config(32), 32).unwrap(), own);
        }
        assert_eq!(Preprocess::from_open_clip(&json!({}), 32).unwrap(), Preprocess::default());
        let clip = json!({"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]});
        assert!(Renormalise::new(&Preprocess::from_open_clip(&clip, 32).unwrap(), Device::Cpu).is_none());
    }

    #[test]
    fn what_is_not_done_here_is_refused_by_name() {
        for (config, words) in [
            (json!({"size": 48}), "size = 48"),
            (json!({"size": [32, 48]}), "size = [32,48]"),
            (json!({"mean": [0.5]}), "mean = [0.5]"),
            (json!({"mean": ["a", "b", "c"]}), "mean = "),
            (json!({"std": [1.0, 0.0, 1.0]}), "std is [1.0, 0.0, 1.0]"),
            (json!({"resize_mode": "longest"}), "resize_mode = longest"),
            (json!({"interpolation": "nearest"}), "interpolation = nearest"),
            (json!({"mode": "L"}), "mode = L"),
        ] {
            let said = Preprocess::from_open_clip(&config, 32).unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        }
        for (config, words) in [
            (json!({"do_normalize": false}), "do_normalize = false"),
            (json!({"do_center_crop": false, "size": {"shortest_edge": 32}}), "do_center_crop = false"),
            (json!({"size": {"shortest_edge": 40}, "crop_size": 32}), "size = {\"shortest_edge\":40}"),
            (json!({"resample": 0}), "resample = 0"),
        ] {
            let said = Preprocess::from_transformers(&config, 32).unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn pictures_are_normalised_as_the_model_expects() {
        let own = Preprocess { mean: [0.5; 3], std: [0.25; 3], ..Preprocess::default() };
        let grey = 0.75f32;
        let ours: Vec<f32> = MEAN.into_iter().zip(STD).map(|(mean, std)| (grey - mean) / std).collect();
        let found = Renormalise::new(&own, Device::Cpu).unwrap().apply(&Tensor::from_slice(&ours).view([1, 3, 1, 1]));
        assert!((found - 1.0).abs().max().double_value(&[]) < 1e-6);
    }
}
