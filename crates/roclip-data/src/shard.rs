//! Shards that are read in place. Few are open at once, however many a data set has: a process may open a thousand files or so, and a crawl has
//! more shards than that.

use crate::bounded;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// At most so many shards are kept open over all data of the process, beside those that a worker is reading.
const OPEN_SHARDS: usize = 64;
/// `errno` of a process that has too many open files, and of a machine that has.
const TOO_MANY_OPEN: [i32; 2] = [24, 23];

static POOL: Mutex<Vec<Open>> = Mutex::new(Vec::new());

/// An open shard; the pool holds them in the order of their last use.
struct Open {
    path: PathBuf,
    file: Arc<File>,
}

/// An uncompressed tar as it was when it was listed.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
}

impl Shard {
    /// The shard and a file to list it with.
    pub fn open(path: &Path) -> io::Result<(Shard, File)> {
        let (file, length) = open_or_make_room(path)?;
        let modified = file.metadata()?.modified().ok();
        Ok((Shard { path: path.to_owned(), length, modified }, file))
    }

    /// A shard that was listed before, as it was then. It is opened when it is read.
    pub(crate) fn listed(path: PathBuf, length: u64, modified: SystemTime) -> Shard {
        Shard { path, length, modified: Some(modified) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// In bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// When it was written to, where the system tells.
    pub(crate) fn modified(&self) -> Option<SystemTime> {
        self.modified
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// Also where the file is another one than was listed.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file()?.read_exact_at(buffer, offset)
    }

    fn file(&self) -> io::Result<Arc<File>> {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        // The one that was used last is asked for again as a rule. Paths compare by their parts, which takes longer than reading a small picture.
        if let Some(at) = pool.iter().rposition(|open| open.path.as_os_str() == self.path.as_os_str()) {
            if at + 1 < pool.len() {
                let open = pool.remove(at);
                pool.push(open);
            }
            if let Some(open) = pool.last() {
                return Ok(Arc::clone(&open.file));
            }
        }
        drop(pool);
        let (file, length) = open_or_make_room(&self.path)?;
        if length != self.length || file.metadata()?.modified().ok() != self.modified {
            return Err(io::Error::new(ErrorKind::InvalidData, "the shard has changed since it was listed"));
        }
        let file = Arc::new(file);
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() >= OPEN_SHARDS {
            pool.remove(0);
        }
        pool.push(Open { path: self.path.clone(), file: Arc::clone(&file) });
        Ok(file)
    }
}

/// Closes the files of the pool first when no further file may be opened.
fn open_or_make_room(path: &Path) -> io::Result<(File, u64)> {
    match bounded::open(path) {
        Err(e) if e.raw_os_error().is_some_and(|code| TOO_MANY_OPEN.contains(&code)) => {
            POOL.lock().unwrap_or_else(PoisonError::into_inner).clear();
            bounded::open(path)
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_shards_than_stay_open_are_read_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let shards: Vec<Shard> = (0..OPEN_SHARDS * 2)
            .map(|number| {
                let path = folder.path().join(format!("{number}.tar"));
                std::fs::write(&path, format!("{number:04}")).unwrap();
                Shard::open(&path).unwrap().0
            })
            .collect();
        for (number, shard) in shards.iter().enumerate().chain(shards.iter().enumerate().rev()) {
            let mut bytes = [0; 4];
            shard.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(bytes, *format!("{number:04}").as_bytes());
            assert!(POOL.lock().unwrap().len() <= OPEN_SHARDS);
        }
        std::fs::write(shards[0].path(), b"other").unwrap();
        POOL.lock().unwrap().clear();
        assert!(shards[0].read_exact_at(&mut [0; 4], 0).unwrap_err().to_string().contains("has changed"));
    }
}
