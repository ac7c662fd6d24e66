//! Captions of a captioner that was trained here.

use crate::captions::{AttendedWord, Captions};
use crate::checkpoint::load_captioner;
use crate::error::Result;
use crate::model::captioner::{Captioner, SearchConfig, Written};
use crate::model::{Clip, pictures_tensor};
use image::RgbImage;
use roclip_data::tokenizer::{Decoder, Tokenizer};
use std::path::Path;
use tch::{Device, Tensor};

/// Pictures that are captioned at a time.
const AT_A_TIME: usize = 64;

/// A captioner with all that it takes to read its captions.
pub struct ModelCaptions {
    model: Clip,
    captioner: Captioner,
    tokenizer: Tokenizer,
    decoder: Decoder,
    search: SearchConfig,
    name: String,
    sha256: String,
}

impl ModelCaptions {
    /// The captioner of a run or checkpoint.
    ///
    /// # Errors
    /// Those of [`load_captioner`], and a search that it cannot do.
    pub fn load(path: &Path, search: SearchConfig, device: Device) -> Result<ModelCaptions> {
        let (loaded, captioner) = load_captioner(path, device)?;
        search.check(Some(loaded.model.config().text_cfg.context_length as usize))?;
        let decoder = Decoder::new(&loaded.tokenizer)?;
        let (name, sha256) = (path.display().to_string(), loaded.sha256_with_captioner());
        let (model, tokenizer) = (loaded.model, loaded.tokenizer);
        Ok(ModelCaptions { model, captioner, tokenizer, decoder, search, name, sha256 })
    }

    fn written(&self, pictures: &[RgbImage]) -> Result<Vec<Written>> {
        let ModelCaptions { model, captioner, .. } = self;
        let mut all = Vec::with_capacity(pictures.len());
        for pictures in pictures.chunks(AT_A_TIME) {
            let images = pictures_tensor(model, pictures)?;
            all.extend(write_captions(model, captioner, &self.decoder, &images, self.search)?);
        }
        Ok(all)
    }
}

/// Captions of `images` `[batch, 3, size, size]`, without graph and in evaluation mode.
pub fn write_captions(
    model: &Clip,
    captioner: &Captioner,
    decoder: &Decoder,
    images: &Tensor,
    search: SearchConfig,
) -> Result<Vec<Written>> {
    tch::no_grad(|| captioner.write(&captioner.see(model, images, false)?, &decoder.special, search))
}

impl Captions for ModelCaptions {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn sha256(&self) -> Option<&str> {
        Some(&self.sha256)
    }

    fn image_size(&self) -> Option<u32> {
        Some(self.model.config().image_size())
    }

    fn knows(&self, word: &str) -> Option<bool> {
        // The whole vocabulary spells any word.
        let kept = self.tokenizer.compact();
        Some(kept.is_none_or(|kept| !self.tokenizer.encode(word).contains(&kept.unknown())))
    }

    fn captions(&mut self, pictures: &[RgbImage]) -> Result<Vec<String>> {
        Ok(self.written(pictures)?.iter().map(|written| self.decoder.text(&written.ids)).collect())
    }

    fn attention(&mut self, pictures: &[RgbImage]) -> Result<Option<Vec<Vec<AttendedWord>>>> {
        if self.captioner.grid_side().is_none() {
            return Ok(None);
        }
        let written = self.written(pictures)?;
        Ok(Some(written.into_iter().map(|written| attended(&self.decoder, written)).collect()))
    }
}

/// Words with their maps. The tokens of a word share one: the mean of theirs.
pub(crate) fn attended(decoder: &Decoder, written: Written) -> Vec<AttendedWord> {
    let mut words: Vec<AttendedWord> = Vec::new();
    let (mut bytes, mut maps): (Vec<u8>, Vec<Vec<f32>>) = (Vec::new(), Vec::new());
    let last = written.ids.len().saturating_sub(1);
    for (at, (id, map)) in written.ids.iter().zip(written.attention.unwrap_or_default()).enumerate() {
        let piece = decoder.piece(*id);
        bytes.extend(piece);
        maps.push(map);
        if piece.last() == Some(&b' ') || at == last {
            let count = maps.len() as f32;
            let mut mean = vec![0.0; maps.first().map_or(0, Vec::len)];
            for map in maps.drain(..) {
                mean.iter_mut().zip(map).for_each(|(sum, weight)| *sum += weight / count);
            }
            let word = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            words.push(AttendedWord { word, map: mean });
            bytes.clear();
        }
    }
    words
}
