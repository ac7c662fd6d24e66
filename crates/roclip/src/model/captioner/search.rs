//! Greedy and beam search: which caption a decoder writes.

use crate::error::{Error, Result, TorchContext};
use crate::model::captioner::{Captioner, Step};
use crate::model::extent;
use roclip_data::tokenizer::SpecialTokens;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

/// Captions that a search may follow at a time.
const MOST_BEAMS: usize = 1000;

/// How captions are searched for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct SearchConfig {
    /// Captions that are followed at a time; 1 is greedy search.
    pub beam: usize,
    /// Fewest tokens of a caption.
    pub min_tokens: usize,
    /// Most tokens of a caption.
    pub max_tokens: usize,
}

impl Default for SearchConfig {
    fn default() -> Self {
        SearchConfig { beam: 3, min_tokens: 1, max_tokens: 24 }
    }
}

impl SearchConfig {
    /// Whether captions of these lengths can be searched for by a decoder of `context` tokens, start and end included.
    pub fn check(&self, context: Option<usize>) -> Result<()> {
        if self.beam > MOST_BEAMS {
            return Err(Error::setting(
                format!("the beam is {} (caption.search.beam, --beam)", self.beam),
                format!("use at most {MOST_BEAMS}; 3 is usual"),
            ));
        }
        if self.beam == 0 {
            return Err(Error::setting("the beam is 0 (caption.search.beam, --beam)", "use 1 for greedy search, or 3"));
        }
        if self.max_tokens == 0 || self.min_tokens > self.max_tokens {
            return Err(Error::setting(
                format!("captions of at least {} and at most {} tokens", self.min_tokens, self.max_tokens),
                "set caption.search.max_tokens to at least caption.search.min_tokens, and to at least 1",
            ));
        }
        match context.filter(|context| self.max_tokens + 1 > *context) {
            Some(context) => Err(Error::setting(
                format!("captions of {} tokens do not fit the context of {context}", self.max_tokens),
                format!("set caption.search.max_tokens to at most {}", context.saturating_sub(1)),
            )),
            None => Ok(()),
        }
    }
}

/// A caption that was written.
#[derive(Debug, Clone)]
pub struct Written {
    /// Without start and end.
    pub ids: Vec<i64>,
    /// Sum over its tokens and the end.
    pub log_probability: f64,
    /// Weights of the grid's places for each token of `ids`; none without attention.
    pub attention: Option<Vec<Vec<f32>>>,
}

/// A caption under way. A dead one keeps the row of its place filled.
#[derive(Clone)]
struct Beam {
    alive: bool,
    written: Written,
}

impl Captioner {
    /// The likeliest caption of each row of `seen` `[batch, places, channels]` that the search finds. A caption that comes to its end leaves
    /// the beam, which is one narrower from then on; at the limit all come to their ends. The sums of log-probabilities are compared as they
    /// are, without regard to length.
    ///
    /// # Errors
    /// A search that cannot be.
    pub fn write(&self, seen: &Tensor, special: &SpecialTokens, search: SearchConfig) -> Result<Vec<Written>> {
        let none = Tensor::zeros([extent(seen, 0), 0], (Kind::Int64, seen.device()));
        self.write_after(seen, &none, special, search)
    }

    /// [`Captioner::write`] behind the tokens `prompt` `[batch, length]` of a question.
    ///
    /// # Errors
    /// A search that cannot be.
    pub fn write_after(
        &self,
        seen: &Tensor,
        prompt: &Tensor,
        special: &SpecialTokens,
        search: SearchConfig,
    ) -> Result<Vec<Written>> {
        search.check(None)?;
        let (batch, beam) = (extent(seen, 0) as usize, search.beam);
        let device = seen.device();
        let on_device = |rows: &[i64]| Tensor::from_slice(rows).to_device(device);
        let each: Vec<i64> = (0..batch as i64).flat_map(|image| std::iter::repeat_n(image, beam)).collect();
        let each = on_device(&each);
        let mut state = self.decoder().begin_after(&seen.index_select(0, &each), &prompt.index_select(0, &each));
        let empty = Written { ids: Vec::new(), log_probability: 0.0, attention: self.grid_side().map(|_| Vec::new()) };
        // All captions of a picture begin alike, so that one row is enough at first.
        let mut beams: Vec<Beam> =
            (0..batch * beam).map(|row| Beam { alive: row % beam == 0, written: empty.clone() }).collect();
        let mut finished: Vec<Vec<Written>> = vec![Vec::new(); batch];
        for position in 0..=search.max_tokens {
            let last: Vec<i64> =
                beams.iter().map(|beam| beam.written.ids.last().copied().unwrap_or(special.start)).collect();
            let Step { logits, state: next, attention } = self.decoder().step(&state, &on_device(&last));
            let mut banned = special.never_said.clone();
            if position < search.min_tokens {
                banned.push(special.end);
            }
            let vocabulary = extent(&logits, 1);
            let scores = logits.log_softmax(-1, Kind::Float);
            let mut scores = scores.index_fill(1, &on_device(&banned), f64::NEG_INFINITY);
            if position == search.max_tokens {
                // Only the end is left to say.
                let end = scores.select(1, special.end);
                scores = scores.full_like(f64::NEG_INFINITY);
                scores.select(1, special.end).copy_(&end);
            }
            let so_far: Vec<f32> = beams
                .iter()
                .map(|beam| if beam.alive { beam.written.log_probability as f32 } else { f32::NEG_INFINITY })
                .collect();
            let scores = (scores + Tensor::from_slice(&so_far).to_device(device).unsqueeze(1)).view([batch as i64, -1]);
            let (values, places) = scores.topk(beam as i64, 1, true, true);
            let values: Vec<Vec<f64>> =
                Vec::try_from(values.to_kind(Kind::Double)).torch("reading scores of captions")?;
            let places: Vec<Vec<i64>> = Vec::try_from(places).torch("reading tokens of captions")?;
            let maps: Option<Vec<Vec<f32>>> =
                attention.map(|maps| Vec::try_from(maps).torch("reading attention")).transpose()?;
            let mut rows = Vec::with_capacity(beams.len());
            let mut grown: Vec<Beam> = Vec::with_capacity(beams.len());
            for (image, (values, places)) in values.into_iter().zip(places).enumerate() {
                let done = finished.get_mut(image);
                let Some(done) = done else { continue };
                let (room, first_row) = (beam - done.len().min(beam), image * beam);
                let chosen = values.into_iter().zip(places).filter(|(value, _)| value.is_finite()).take(room);
                for (log_probability, place) in chosen.collect::<Vec<_>>() {
                    let (row, id) = (first_row + (place / vocabulary) as usize, place % vocabulary);
                    let Some(from) = beams.get(row) else { continue };
                    let mut written = Written { log_probability, ..from.written.clone() };
                    if id == special.end {
                        done.push(written);
                        continue;
                    }
                    written.ids.push(id);
                    if let (Some(kept), Some(map)) = (&mut written.attention, maps.as_ref().and_then(|m| m.get(row))) {
                        kept.push(map.clone());
                    }
                    rows.push(row as i64);
                    grown.push(Beam { alive: true, written });
                }
                while grown.len() < first_row + beam {
                    rows.push(first_row as i64);
                    grown.push(Beam { alive: false, written: empty.clone() });
                }
            }
            beams = grown;
            if !beams.iter().any(|beam| beam.alive) {
                break;
            }
            let rows = on_device(&rows);
            state = next.iter().map(|tensor| tensor.index_select(0, &rows)).collect();
        }
        let best = |all: Vec<Written>| all.into_iter().max_by(|a, b| a.log_probability.total_cmp(&b.log_probability));
        Ok(finished.into_iter().map(|done| best(done).unwrap_or_else(|| empty.clone())).collect())
    }
}
