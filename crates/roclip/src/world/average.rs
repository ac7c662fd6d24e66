//! The mean of gradients over the processes, of which no more is sent than there is.

use crate::error::Result;
use crate::world::World;
use tch::{Kind, Tensor};

/// A matrix of more rows is taken for a table of embeddings, of which a batch reads a few rows: the gradient of all others is zero.
const TABLE_ROWS: i64 = 16_384;

/// A gradient as it is sent: whole, or those rows of it that some process's batch has read.
struct Sent {
    numbers: Tensor,
    /// `[rows]`, the same in all processes.
    rows: Option<Tensor>,
}

impl World {
    /// `tensors` averaged over the processes, in place; and the average of `number`, a scalar.
    pub fn average(&self, tensors: &[Tensor], number: &Tensor) -> Result<Tensor> {
        if self.is_alone() {
            return Ok(number.detach());
        }
        tch::no_grad(|| {
            let sent = tensors.iter().map(|tensor| self.sent(&tensor.detach())).collect::<Result<Vec<_>>>()?;
            let flat = sent.iter().map(|one| &one.numbers).chain([number]).map(|numbers| numbers.flatten(0, -1));
            let mut flat = Tensor::cat(&flat.collect::<Vec<_>>(), 0).to_kind(Kind::Float);
            self.collectives().all_reduce(&flat)?;
            let _ = flat.g_div_scalar_(self.size() as f64);
            let mut from = 0;
            for (tensor, Sent { numbers, rows }) in tensors.iter().zip(&sent) {
                let length = numbers.numel() as i64;
                let mean = flat.narrow(0, from, length).view_as(numbers);
                let mut tensor = tensor.detach();
                match rows {
                    Some(rows) => drop(tensor.index_copy_(0, rows, &mean.to_kind(tensor.kind()))),
                    None => tensor.copy_(&mean),
                }
                from += length;
            }
            Ok(flat.get(from))
        })
    }

    fn sent(&self, gradient: &Tensor) -> Result<Sent> {
        let whole = || Ok(Sent { numbers: gradient.shallow_clone(), rows: None });
        let &[count, _] = gradient.size().as_slice() else { return whole() };
        if count <= TABLE_ROWS {
            return whole();
        }
        // A row of numbers that are none is read, too: it differs from zero.
        let read = gradient.abs().amax([1], false).ne(0).to_kind(Kind::Float);
        self.collectives().all_reduce(&read)?;
        let rows = read.nonzero().flatten(0, -1);
        if rows.numel() as i64 * 2 > count {
            return whole();
        }
        Ok(Sent { numbers: gradient.index_select(0, &rows), rows: Some(rows) })
    }
}

#[cfg(test)]
mod tests {
    use super::TABLE_ROWS;
    use crate::world::testing::{numbers, together, values};
    use tch::{Device, Kind, Tensor};

    #[test]
    fn a_table_s_mean_is_that_of_all_its_rows_and_few_of_them_are_sent() {
        let rows = TABLE_ROWS + 1;
        // Each process reads rows of its own and one that both read.
        let table = |rank: usize| {
            let table = Tensor::zeros([rows, 3], (Kind::Float, Device::Cpu));
            for row in [5, 10 + rank as i64, rows - 1 - rank as i64] {
                table.get(row).copy_(&numbers((row + rank as i64) as f64, &[3]));
            }
            table
        };
        let dense = |rank: usize| numbers(rank as f64, &[4, 2]);
        let found = together(2, |world| {
            let given = [dense(world.rank()), table(world.rank())];
            let sent = world.sent(&given[1]).unwrap().rows.map(|rows| Vec::<i64>::try_from(rows).unwrap());
            let mean = world.average(&given, &Tensor::from(world.rank() as f32)).unwrap().double_value(&[]);
            (mean, given.map(|tensor| values(&tensor)), sent)
        });
        let mean = |a: Tensor, b: Tensor| values(&((a + b) / 2.0));
        let expected = [mean(dense(0), dense(1)), mean(table(0), table(1))];
        for (number, given, sent) in found {
            assert_eq!((number, &given), (0.5, &expected));
            assert_eq!(sent, Some(vec![5, 10, 11, rows - 2, rows - 1]));
        }
    }

    #[test]
    fn a_row_that_is_not_a_number_reaches_all_and_a_table_of_which_most_is_read_is_sent_whole() {
        let found = together(2, |world| {
            let table = Tensor::zeros([TABLE_ROWS + 1, 1], (Kind::Float, Device::Cpu));
            let _ = table.get(7).fill_(if world.rank() == 1 { f64::NAN } else { 0.0 });
            let _ = world.average(&[table.shallow_clone()], &Tensor::from(0f32)).unwrap();
            let full = table.ones_like();
            (table.double_value(&[7, 0]), table.double_value(&[8, 0]), world.sent(&full).unwrap().rows.is_none())
        });
        for (broken, other, whole) in found {
            assert!(broken.is_nan() && other == 0.0 && whole);
        }
    }
}
