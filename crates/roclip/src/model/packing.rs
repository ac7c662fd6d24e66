//! Captions of different lengths without the padding between them: everything that works on each position by itself computes only the
//! positions up to each caption's end, and attention alone sees the padded rectangle.

use crate::model::extent;
use tch::{Device, Tensor};

/// Narrower towers gain less from shorter products than the rearranging costs.
const NARROWEST: i64 = 512;
/// A padded rectangle of which this share is captions is computed as it is.
const FULL_SHARE: f64 = 0.9;

/// Where the positions of a batch's captions lie, packed and padded.
pub struct Packing {
    batch: i64,
    length: i64,
    /// Of each packed row, its place in the padded batch, flattened: `[rows]`.
    places: Tensor,
    /// Of each place of the padded batch, its packed row; any row where it is padding: `[batch * length]`.
    rows: Tensor,
    /// The packed row of each caption's end: `[batch]`.
    ends: Tensor,
}

impl Packing {
    /// The packing of captions that end at `ends` `[batch]` of `length` positions, in a tower of `width`; none where it gains nothing: on a
    /// GPU, which would have to be waited for, in narrow towers, and where the captions have nearly one length.
    pub fn worthwhile(ends: &Tensor, length: i64, width: i64) -> Option<Packing> {
        if ends.device() != Device::Cpu || width < NARROWEST {
            return None;
        }
        let lengths: Vec<i64> = Vec::try_from(ends + 1).ok()?;
        let total: i64 = lengths.iter().sum();
        let padded = lengths.len() as i64 * length;
        (total as f64 <= FULL_SHARE * padded as f64).then(|| Packing::new(&lengths, length))
    }

    fn new(lengths: &[i64], length: i64) -> Packing {
        let (mut places, mut rows, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for (caption, &own) in lengths.iter().enumerate() {
            let (first, place) = (places.len() as i64, caption as i64 * length);
            places.extend(place..place + own);
            ends.push(first + own - 1);
            rows.extend((0..length).map(|position| if position < own { first + position } else { first }));
        }
        let tensor = |values: &[i64]| Tensor::from_slice(values);
        Packing {
            batch: lengths.len() as i64,
            length,
            places: tensor(&places),
            rows: tensor(&rows),
            ends: tensor(&ends),
        }
    }

    /// `[batch, length, width]` to the packed rows of it, `[rows, width]`.
    pub fn pack(&self, padded: &Tensor) -> Tensor {
        padded.flatten(0, 1).index_select(0, &self.places)
    }

    /// Packed rows `[rows, width]` to `[batch, length, width]`. What stands in the padding is some row of the same caption.
    pub fn pad(&self, packed: &Tensor) -> Tensor {
        packed.index_select(0, &self.rows).view([self.batch, self.length, extent(packed, 1)])
    }

    /// Of each packed row, its position in its caption: `[rows]`.
    pub fn positions(&self) -> Tensor {
        self.places.remainder(self.length)
    }

    /// The packed rows that the captions end with: `[rows, width]` to `[batch, width]`.
    pub fn at_ends(&self, packed: &Tensor) -> Tensor {
        packed.index_select(0, &self.ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn what_is_packed_lies_where_it_did_when_it_is_padded_again() {
        let padded = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([2, 3, 2]);
        let packing = Packing::new(&[1, 3], 3);
        let packed = packing.pack(&padded);
        assert_eq!(Vec::<f32>::try_from(packed.flatten(0, 1)).unwrap(), [0.0, 1.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
        assert_eq!(Vec::<i64>::try_from(packing.positions()).unwrap(), [0, 0, 1, 2]);
        assert_eq!(Vec::<f32>::try_from(packing.at_ends(&packed).flatten(0, 1)).unwrap(), [0.0, 1.0, 10.0, 11.0]);
        let again = packing.pad(&packed);
        assert_eq!(again.get(1), padded.get(1));
        assert_eq!(again.get(0).get(0), padded.get(0).get(0));
    }

    #[test]
    fn only_wide_towers_and_captions_of_different_lengths_are_packed() {
        let ends = |ends: &[i64]| Tensor::from_slice(ends);
        assert!(Packing::worthwhile(&ends(&[3, 9]), 10, 512).is_some());
        assert!(Packing::worthwhile(&ends(&[3, 9]), 10, 256).is_none());
        assert!(Packing::worthwhile(&ends(&[9, 9]), 10, 512).is_none());
    }
}
