//! NumPy's array file, version 1.0, written: a header of one line and the numbers. A dozen lines; no crate is needed for them.

use crate::error::{Error, IoContext, Result, TorchContext};
use roclip_data::artifact;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// The header ends where the numbers may begin, in bytes.
const ALIGNMENT: usize = 64;

/// Copied at a time: bounds the memory beside the features themselves.
const ROWS_AT_A_TIME: usize = 4096;

/// Writes `rows` `[n, dim]` as 32-bit floats, for `numpy.load`.
pub fn write_npy(path: &Path, rows: &Tensor) -> Result<()> {
    let (count, dim) = rows.size2().torch("reading the shape of features")?;
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {dim}), }}");
    let written = b"\x93NUMPY\x01\x00".len() + 2 + header.len() + 1;
    header.extend(std::iter::repeat_n(' ', written.next_multiple_of(ALIGNMENT) - written));
    header.push('\n');
    artifact::write_with(path, |out| {
        out.write_all(b"\x93NUMPY\x01\x00").io("write", path)?;
        out.write_all(&(header.len() as u16).to_le_bytes()).io("write", path)?;
        out.write_all(header.as_bytes()).io("write", path)?;
        for from in (0..count).step_by(ROWS_AT_A_TIME) {
            let some = rows.narrow(0, from, (count - from).min(ROWS_AT_A_TIME as i64));
            let numbers = some.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]);
            let numbers = Vec::<f32>::try_from(numbers).torch("reading features")?;
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            out.write_all(&bytes).io("write", path)?;
        }
        Ok::<(), Error>(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_array_is_read_back_by_libtorchs_reader() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("features.npy");
        let rows = Tensor::from_slice(&[1.5f32, -2.0, 0.25, 3.0, 1e-8, -0.5]).view([2, 3]);
        write_npy(&path, &rows).unwrap();
        assert_eq!(Tensor::read_npy(&path).unwrap(), rows);
        write_npy(&path, &rows.narrow(0, 0, 0)).unwrap();
        assert_eq!(Tensor::read_npy(&path).unwrap().size(), [0, 3]);
    }
}
