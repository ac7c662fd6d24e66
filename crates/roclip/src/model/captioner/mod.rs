//! Captioners on top of a CLIP image tower: what they see of a picture, and a decoder that writes about it.
//!
//! Show-attend-tell looks at the places of the tower's grid, one word at a time; the bridge gives the picture to a causal transformer,
//! as tokens before the caption or through cross-attention.

mod causal;
mod config;
mod recurrent;
mod search;

pub use causal::CausalDecoder;
pub use config::{Architecture, Bridge, CaptionerConfig};
pub use recurrent::RecurrentDecoder;
pub use search::{SearchConfig, Written};

use crate::error::{Error, Result};
use crate::model::{Clip, ModelConfig, Parameters, Part, extent, unit};
use tch::{Device, Tensor};

/// What a decoder gives for captions that it is shown.
pub struct TeacherForced {
    /// Of the token behind each position `[batch, length - 1, vocabulary]`.
    pub logits: Tensor,
    /// Weight of each place of the grid for each of these tokens `[batch, length - 1, places]`; none of a decoder without attention.
    pub attention: Option<Tensor>,
}

/// One step of a decoder for rows of a search.
pub struct Step {
    /// `[rows, vocabulary]`.
    pub logits: Tensor,
    /// What the next step goes on with; rows first in each.
    pub state: Vec<Tensor>,
    /// `[rows, places]`.
    pub attention: Option<Tensor>,
}

/// Writes a caption about what a tower sees.
pub trait Decode {
    /// For training: the captions `tokens` `[batch, length]` are known.
    fn teacher_forced(&self, seen: &Tensor, tokens: &Tensor) -> TeacherForced;

    /// `[vocabulary, width]`, of a decoder whose words can be given as vectors.
    fn token_embedding(&self) -> Option<&Tensor> {
        None
    }

    /// What it gives behind each of the vectors `words` `[batch, length, width]`, for searches over words; none where it takes tokens alone.
    fn teacher_forced_embedded(&self, _seen: &Tensor, _words: &Tensor) -> Option<TeacherForced> {
        None
    }

    /// The state before the first token. `seen` has a row for each row of the search.
    fn begin(&self, seen: &Tensor) -> Vec<Tensor>;

    /// The state behind the tokens `prompt` `[rows, length]`, which are known.
    fn begin_after(&self, seen: &Tensor, prompt: &Tensor) -> Vec<Tensor> {
        let state = self.begin(seen);
        (0..extent(prompt, 1)).fold(state, |state, at| self.step(&state, &prompt.select(1, at)).state)
    }

    /// Takes the newest tokens `[rows]`.
    fn step(&self, state: &[Tensor], tokens: &Tensor) -> Step;
}

pub struct Captioner {
    config: CaptionerConfig,
    parameters: Parameters,
    decoder: Box<dyn Decode>,
    /// Side of the grid that it attends to; none where it sees a picture as a whole.
    grid_side: Option<i64>,
}

impl Captioner {
    /// A captioner with random weights for the image tower of `clip` and a vocabulary of `clip.text_cfg.vocab_size`, drawn from libtorch's generator
    /// seeded with `seed`.
    ///
    /// # Errors
    /// Sizes that cannot be, and a tower without a grid where one is needed.
    pub fn new(config: CaptionerConfig, clip: &ModelConfig, device: Device, seed: i64) -> Result<Captioner> {
        config.check()?;
        let grid_side = config.attends().then(|| config.grid_of(clip)).transpose()?.map(|(side, _)| side);
        tch::manual_seed(seed);
        let parameters = Parameters::new(device);
        let scope = parameters.root(Part::Objective).child("captioner");
        let (vocabulary, context) = (clip.text_cfg.vocab_size, clip.text_cfg.context_length);
        let (_, channels) = clip.grid(config.grid_stage);
        let decoder: Box<dyn Decode> = match config.architecture {
            Architecture::ShowAttendTell => Box::new(RecurrentDecoder::new(&scope, &config, channels, vocabulary)),
            Architecture::Bridge => {
                let channels = if config.attends() { channels } else { clip.embed_dim };
                Box::new(CausalDecoder::new(&scope, &config, channels, vocabulary, context))
            }
        };
        Ok(Captioner { config, parameters, decoder, grid_side })
    }

    pub fn config(&self) -> &CaptionerConfig {
        &self.config
    }

    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Side of the grid of its attention maps; none where it has no attention.
    pub fn grid_side(&self) -> Option<i64> {
        self.grid_side
    }

    /// What it sees of `images` `[batch, 3, size, size]`: `[batch, places, channels]`, one place where it has no grid. `train` decides BatchNorm's
    /// statistics.
    pub fn see(&self, clip: &Clip, images: &Tensor, train: bool) -> Result<Tensor> {
        match self.grid_side {
            Some(_) => clip.grid_features(images, self.config.grid_stage, train),
            None => Ok(unit(&clip.image_features(images, train)?).unsqueeze(1)),
        }
    }

    pub fn decoder(&self) -> &dyn Decode {
        self.decoder.as_ref()
    }

    /// Copies weights in.
    ///
    /// # Errors
    /// A tensor that is missing, of another size, or not finite.
    pub fn load(&self, tensors: &std::collections::BTreeMap<String, Tensor>) -> Result<()> {
        for (name, own) in self.parameters.trainable() {
            let given = tensors.get(&name).filter(|given| given.size() == own.size());
            let given = given.filter(|given| given.isfinite().all().int64_value(&[]) == 1).ok_or_else(|| {
                Error::setting(
                    format!("the checkpoint has no `{name}` of this size, or numbers in it that are not finite"),
                    "use a checkpoint of this captioner from before training diverged",
                )
            })?;
            tch::no_grad(|| own.shallow_clone().copy_(given));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roclip_data::tokenizer::SpecialTokens;
    use tch::Kind;

    fn clip(name: &str) -> ModelConfig {
        let mut config = ModelConfig::named(name).unwrap();
        config.text_cfg.vocab_size = 12;
        config
    }

    fn small(architecture: Architecture, bridge: Bridge) -> CaptionerConfig {
        CaptionerConfig {
            architecture,
            bridge,
            width: 16,
            attention_width: 8,
            layers: 2,
            heads: 2,
            ..Default::default()
        }
    }

    const SPECIAL: fn() -> SpecialTokens = || SpecialTokens { start: 10, end: 11, never_said: vec![0, 10] };

    #[test]
    fn what_is_written_step_by_step_is_what_teacher_forcing_scores() {
        for (tower, architecture, bridge) in [
            ("RN-small-32", Architecture::ShowAttendTell, Bridge::Prefix),
            ("ViT-tiny-32", Architecture::ShowAttendTell, Bridge::Prefix),
            ("ViT-tiny-32", Architecture::Bridge, Bridge::Prefix),
            ("ViT-tiny-32", Architecture::Bridge, Bridge::CrossAttention),
        ] {
            let (model, config) = (Clip::new(clip(tower), Device::Cpu, 1).unwrap(), small(architecture, bridge));
            let captioner = Captioner::new(config, model.config(), Device::Cpu, 2).unwrap();
            let images = Tensor::randn([3, 3, 32, 32], (Kind::Float, Device::Cpu));
            let seen = captioner.see(&model, &images, false).unwrap();
            let search = SearchConfig { beam: 1, min_tokens: 2, max_tokens: 5 };
            let written = tch::no_grad(|| captioner.write(&seen, &SPECIAL(), search)).unwrap();
            for (row, written) in written.iter().enumerate() {
                assert!((2..=5).contains(&written.ids.len()), "{:?}", written.ids);
                assert!(written.ids.iter().all(|id| ![0, 10, 11].contains(id)));
                let ids: Vec<i64> = [&[10], written.ids.as_slice()].concat();
                let tokens = Tensor::from_slice(&ids).view([1, -1]);
                let forced = captioner.decoder().teacher_forced(&seen.narrow(0, row as i64, 1), &tokens);
                let best = forced.logits.index_fill(-1, &Tensor::from_slice(&[0i64, 10]), f64::NEG_INFINITY);
                for (at, id) in written.ids.iter().enumerate() {
                    let row = best.select(1, at as i64);
                    let row =
                        if at < 2 { row.index_fill(-1, &Tensor::from_slice(&[11i64]), f64::NEG_INFINITY) } else { row };
                    assert_eq!(row.argmax(-1, false).int64_value(&[0]), *id, "{tower} {architecture:?} token {at}");
                }
                assert_eq!(written.attention.is_some(), captioner.grid_side().is_some());
                for map in written.attention.iter().flatten() {
                    assert!((map.iter().sum::<f32>() - 1.0).abs() < 1e-4 && map.len() == 64);
                }
            }
        }
    }

    #[test]
    fn a_wider_beam_finds_captions_that_are_at_least_as_likely() {
        let model = Clip::new(clip("ViT-tiny-32"), Device::Cpu, 1).unwrap();
        let captioner =
            Captioner::new(small(Architecture::Bridge, Bridge::Prefix), model.config(), Device::Cpu, 5).unwrap();
        let seen = captioner.see(&model, &Tensor::randn([4, 3, 32, 32], (Kind::Float, Device::Cpu)), false).unwrap();
        let with =
            |beam| captioner.write(&seen, &SPECIAL(), SearchConfig { beam, min_tokens: 3, max_tokens: 3 }).unwrap();
        let (greedy, wide) = (tch::no_grad(|| with(1)), tch::no_grad(|| with(200)));
        assert!(greedy.iter().zip(&wide).all(|(a, b)| b.log_probability >= a.log_probability - 1e-5));
        assert!(with_error(&captioner, &seen, 0).contains("beam"));
    }

    fn with_error(captioner: &Captioner, seen: &Tensor, beam: usize) -> String {
        let search = SearchConfig { beam, ..SearchConfig::default() };
        captioner.write(seen, &SPECIAL(), search).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_tower_without_a_grid_and_sizes_that_cannot_be_are_refused() {
        let config = CaptionerConfig { grid_stage: 4, ..small(Architecture::ShowAttendTell, Bridge::Prefix) };
        let refused = |config: CaptionerConfig| {
            Captioner::new(config, &clip("RN-small-32"), Device::Cpu, 0)
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default()
        };
        let said = refused(config);
        assert!(said.contains("no grid") && said.contains("grid_stage"), "{said}");
        let odd = CaptionerConfig { heads: 3, ..small(Architecture::Bridge, Bridge::Prefix) };
        assert!(refused(odd).contains("caption.model.heads"));
    }

    fn golden() -> std::collections::BTreeMap<String, Tensor> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/captioner.safetensors");
        crate::model::read_safetensors(std::path::Path::new(path)).unwrap()
    }

    /// With the weights of the file whose names begin with one of `prefixes`; of two with one name the later counts.
    fn golden_captioner(architecture: Architecture, bridge: Bridge, prefixes: &[&str]) -> Captioner {
        let clip: ModelConfig = serde_json::from_str(
            r#"{"embed_dim": 10, "vision_cfg": {"image_size": 16, "layers": [1, 1, 1, 1], "width": 3},
                "text_cfg": {"context_length": 8, "vocab_size": 14, "width": 16, "heads": 2, "layers": 1}}"#,
        )
        .unwrap();
        let config = CaptionerConfig { prefix_tokens: 2, ..small(architecture, bridge) };
        let captioner = Captioner::new(config, &clip, Device::Cpu, 0).unwrap();
        let mut weights = std::collections::BTreeMap::new();
        for prefix in prefixes {
            for (name, tensor) in golden() {
                if let Some(name) = name.strip_prefix(prefix) {
                    weights.insert(name.to_owned(), tensor);
                }
            }
        }
        captioner.load(&weights).unwrap();
        captioner
    }

    /// What the search finds behind `prompt` is what the file has under `name`.
    fn searches_alike(
        captioner: &Captioner,
        seen: &Tensor,
        prompt: &Tensor,
        name: &str,
        beam: usize,
        max_tokens: usize,
    ) {
        let (file, special) = (golden(), SpecialTokens { start: 12, end: 13, never_said: vec![0, 12] });
        let search = SearchConfig { beam, min_tokens: 1, max_tokens };
        let prompt = prompt.unsqueeze(0).repeat([extent(seen, 0), 1]);
        let written = captioner.write_after(seen, &prompt, &special, search).unwrap();
        let expected: Vec<Vec<i64>> = Vec::try_from(&file[&format!("{name}beam{beam}.ids")]).unwrap();
        assert_eq!(written.len(), expected.len());
        for (row, (written, expected)) in written.iter().zip(expected).enumerate() {
            let expected: Vec<i64> = expected.into_iter().filter(|id| *id >= 0).collect();
            assert_eq!(written.ids, expected, "{name} beam {beam}, picture {row}");
            let score = file[&format!("{name}beam{beam}.scores")].double_value(&[row as i64]);
            assert!((written.log_probability - score).abs() < 1e-4, "{name} beam {beam}, picture {row}");
            let map = file.get(&format!("{name}beam{beam}.last_map"));
            assert_eq!(written.attention.is_some(), map.is_some());
            if let (Some(maps), Some(map)) = (&written.attention, map) {
                assert!(close(&Tensor::from_slice(maps.last().unwrap()), &map.get(row as i64)));
            }
        }
    }

    fn close(a: &Tensor, b: &Tensor) -> bool {
        a.size() == b.size() && (a - b).abs().max().double_value(&[]) < 1e-4
    }

    /// `tests/golden/captioner.py` wrote the file with PyTorch's own modules.
    #[test]
    fn attention_decoders_and_beam_search_equal_pytorch() {
        let file = golden();
        let nothing = Tensor::zeros([0], (Kind::Int64, Device::Cpu));
        tch::no_grad(|| {
            let captioner = golden_captioner(Architecture::ShowAttendTell, Bridge::Prefix, &["recurrent."]);
            let forced = captioner.decoder().teacher_forced(&file["seen"], &file["tokens"]);
            assert!(close(&forced.logits, &file["logits"]));
            assert!(close(&forced.attention.unwrap(), &file["attention"]));
            let prefix = golden_captioner(Architecture::Bridge, Bridge::Prefix, &["causal."]);
            let pooled = file["bridge.pooled"].unsqueeze(1);
            let forced = prefix.decoder().teacher_forced(&pooled, &file["tokens"]);
            assert!(close(&forced.logits, &file["bridge.logits"]));
            // The blocks are those behind the prefix.
            let cross = golden_captioner(Architecture::Bridge, Bridge::CrossAttention, &["causal.", "cross."]);
            let forced = cross.decoder().teacher_forced(&file["seen"], &file["tokens"]);
            assert!(close(&forced.logits, &file["cross.logits"]));
            assert!(close(&forced.attention.unwrap(), &file["cross.attention"]));
            for beam in [1, 3] {
                searches_alike(&captioner, &file["seen"], &nothing, "", beam, 6);
                searches_alike(&prefix, &pooled, &nothing, "bridge.", beam, 6);
                searches_alike(&cross, &file["seen"], &nothing, "cross.", beam, 6);
            }
            searches_alike(&cross, &file["seen"], &file["cross.prompt"], "cross.asked.", 3, 4);
        });
    }
}
