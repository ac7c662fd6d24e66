//! Features in a file of `numpy.save`: what its header promises, and its rows.

use crate::error::{Error, IoContext, Result, TorchContext};
use roclip_data::bounded;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

/// Bytes that are read at a time, about.
const CHUNK: u64 = 1 << 24;
/// Bytes of a header, which names a kind of numbers and two sides.
const LONGEST_HEADER: u64 = 1 << 16;

/// A file with an array of two dimensions, as its header has it.
#[derive(Debug)]
pub(super) struct FeatureArray {
    path: PathBuf,
    header: Header,
}

/// What stands before the numbers of a file.
#[derive(Debug, PartialEq)]
struct Header {
    /// As NumPy spells the kind of numbers, `<f4`.
    descr: String,
    is_fortran: bool,
    shape: Vec<u64>,
    /// Bytes of the header itself.
    begin: u64,
}

impl FeatureArray {
    /// Reads the header alone.
    ///
    /// # Errors
    /// A file of another length than its header speaks of, since what reads numbers does not ask whether all are there; numbers that are no
    /// floats of this machine, and other shapes than `[rows, dim]`.
    pub fn open(path: &Path) -> Result<Self> {
        let (mut file, length) = bounded::open(path).io("read", path)?;
        let header = Header::read(&mut file).ok_or_else(|| refuse(path, "has no header of an array"))?;
        let told = header.promised_bytes().ok_or_else(|| refuse(path, "has no header of an array"))?;
        if told != length {
            return Err(refuse(path, &format!("has {length} bytes, and its header speaks of {told}")));
        }
        let found = FeatureArray { path: path.to_owned(), header };
        match (found.kind(), found.size()) {
            (Some(_), Some([rows, dim])) if rows > 0 && dim > 0 && !found.header.is_fortran => Ok(found),
            _ => {
                let Header { descr, is_fortran, shape, .. } = &found.header;
                let order = if *is_fortran { " in Fortran order" } else { "" };
                Err(refuse(path, &format!("holds `{descr}` of the shape {shape:?}{order}")))
            }
        }
    }

    /// Rows and values of each.
    pub fn size(&self) -> Option<[i64; 2]> {
        match self.header.shape.as_slice() {
            [rows, dim] => Some([i64::try_from(*rows).ok()?, i64::try_from(*dim).ok()?]),
            _ => None,
        }
    }

    fn kind(&self) -> Option<Kind> {
        match self.header.descr.trim_start_matches(['<', '=']) {
            "f2" => Some(Kind::Half),
            "f4" => Some(Kind::Float),
            "f8" => Some(Kind::Double),
            _ => None,
        }
    }

    /// The numbers as 32-bit floats, `[rows, dim]`. A part is read at a time: the whole file beside them would double the memory.
    ///
    /// # Errors
    /// What the disk says.
    pub fn read(&self) -> Result<Tensor> {
        let odd = || refuse(&self.path, "is no array of two dimensions");
        let ([rows, dim], kind) = (self.size().ok_or_else(odd)?, self.kind().ok_or_else(odd)?);
        let row_bytes = dim as u64 * kind.elt_size_in_bytes() as u64;
        let at_a_time = (CHUNK / row_bytes).max(1) as i64;
        let (mut file, _) = bounded::open(&self.path).io("read", &self.path)?;
        file.seek(SeekFrom::Start(self.header.begin)).io("read", &self.path)?;
        let all = Tensor::empty([rows, dim], (Kind::Float, Device::Cpu));
        for from in (0..rows).step_by(at_a_time as usize) {
            let count = at_a_time.min(rows - from);
            let mut bytes = vec![0; (count as u64 * row_bytes) as usize];
            file.read_exact(&mut bytes).io("read", &self.path)?;
            let some = Tensor::f_from_data_size(&bytes, &[count, dim], kind).torch("reading features")?;
            all.narrow(0, from, count).copy_(&some);
        }
        Ok(all)
    }
}

fn refuse(path: &Path, what: &str) -> Error {
    Error::file(path, what, "write it with numpy.save: [pairs, dim], floats, in C order")
}

impl Header {
    fn read(file: &mut File) -> Option<Header> {
        let mut start = [0; 8];
        file.read_exact(&mut start).ok()?;
        // Later versions have the same header behind a longer number of its bytes.
        let number_bytes = match start {
            [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _] => 2,
            [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _] => 4,
            _ => return None,
        };
        let mut number = [0; 4];
        file.read_exact(number.get_mut(..number_bytes)?).ok()?;
        let length = u64::from(u32::from_le_bytes(number));
        if length > LONGEST_HEADER {
            return None;
        }
        let mut header = String::new();
        file.take(length).read_to_string(&mut header).ok()?;
        let after = |key: &str| header.split_once(key).map(|(_, rest)| rest.trim_start_matches([':', ' ', '\'']));
        let descr = after("'descr'")?.split_once('\'')?.0.to_owned();
        let is_fortran = after("'fortran_order'").is_some_and(|rest| rest.starts_with("True"));
        let shape = after("'shape'")?.strip_prefix('(')?.split_once(')')?.0;
        let sides = shape.split(',').map(str::trim).filter(|side| !side.is_empty());
        let shape = sides.map(|side| side.parse().ok()).collect::<Option<Vec<u64>>>()?;
        Some(Header { descr, is_fortran, shape, begin: (start.len() + number_bytes) as u64 + length })
    }

    /// The length of the file; none where that is more than a number can say.
    fn promised_bytes(&self) -> Option<u64> {
        let size: u64 = self.descr.trim_start_matches(['<', '>', '|', '=']).get(1..2)?.parse().ok()?;
        let numbers = self.shape.iter().try_fold(1u64, |all, side| all.checked_mul(*side))?;
        numbers.checked_mul(size)?.checked_add(self.begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file as `numpy.save` writes one.
    fn saved(folder: &Path, descr: &str, order: &str, shape: &str, numbers: &[u8]) -> PathBuf {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let length = (header.len() as u16).to_le_bytes();
        let bytes = [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes(), numbers].concat();
        let path = folder.join("array.npy");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn headers_of_all_versions_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let numbers: Vec<u8> = [1f32, 2.0].iter().flat_map(|number| number.to_le_bytes()).collect();
        let whole = std::fs::read(saved(folder.path(), "<f4", "False", "(1, 2)", &numbers)).unwrap();
        let path = folder.path().join("later.npy");
        for version in [2u8, 3] {
            let start = [&whole[..6], &[version, 0], &whole[8..10], &[0, 0]].concat();
            std::fs::write(&path, [&start[..], &whole[10..]].concat()).unwrap();
            let array = FeatureArray::open(&path).unwrap();
            assert_eq!(Vec::<f32>::try_from(array.read().unwrap().view([-1])).unwrap(), [1.0, 2.0]);
        }
        std::fs::write(&path, [&whole[..6], &[4, 0], &whole[8..]].concat()).unwrap();
        assert!(FeatureArray::open(&path).unwrap_err().to_string().contains("no header"));
    }

    #[test]
    fn floats_of_two_dimensions_are_read_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let numbers: Vec<u8> = (0..6).flat_map(|number| f64::from(number).to_le_bytes()).collect();
        let array = FeatureArray::open(&saved(folder.path(), "<f8", "False", "(3, 2)", &numbers)).unwrap();
        assert_eq!(array.size(), Some([3, 2]));
        assert_eq!(Vec::<f32>::try_from(array.read().unwrap().view([-1])).unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let refused = |descr: &str, order: &str, shape: &str| {
            FeatureArray::open(&saved(folder.path(), descr, order, shape, &numbers)).unwrap_err().to_string()
        };
        assert!(refused("<f8", "False", "(3, 3)").contains(" bytes, and its header speaks of "));
        assert!(refused("<i8", "False", "(3, 2)").contains("holds `<i8` of the shape [3, 2]"));
        assert!(refused(">f8", "False", "(3, 2)").contains("holds `>f8`"));
        assert!(refused("<f8", "True", "(3, 2)").contains("in Fortran order"));
        assert!(refused("<f8", "False", "(6,)").contains("of the shape [6]"));
        assert!(refused("<f8", "False", "(3, 99999999999999999999)").contains("no header"));
        assert!(refused("<f8", "False", "(4294967296, 4294967296)").contains("no header"));
    }
}
