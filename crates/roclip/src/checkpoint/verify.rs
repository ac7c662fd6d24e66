//! Whether a checkpoint is what was written: every file of it has a checksum.

use crate::checkpoint::state::State;
use crate::error::{Error, IoContext, Result};
use roclip_data::artifact;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

pub(super) const MODEL: &str = "model.safetensors";
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";
pub(super) const OBJECTIVE: &str = "objective.safetensors";
pub(super) const CONFIG: &str = "open_clip_config.json";
pub(super) const STATE: &str = "state.json";
pub(super) const CARD: &str = "README.md";
/// The checksums of [`STATE`] and [`CARD`], which hold those of the others; `sha256sum --check` reads it.
pub(super) const SUMS: &str = "SHA256SUMS";

/// More than a state with a full vocabulary and a long tally takes.
const MAX_STATE_BYTES: u64 = 256 << 20;

/// sha256 of a file that is read piece by piece.
///
/// # Errors
/// Where it cannot be read, or is no plain file: a pipe or a device would never end.
pub(crate) fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = open_plain(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).io("read", path)? {
            0 => return Ok(artifact::hex(&hash.finalize())),
            n => hash.update(piece.get(..n).unwrap_or_default()),
        }
    }
}

fn open_plain(path: &Path) -> Result<File> {
    let kind = std::fs::metadata(path).io("read", path)?;
    if !kind.is_file() {
        return Err(Error::file(path, "is no plain file", "use another checkpoint: this one was changed"));
    }
    File::open(path).io("open", path)
}

/// `RUN/checkpoints/step_N/SHA256SUMS`, to be written last.
pub(super) fn sums(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for name in [CARD, STATE] {
        text += &format!("{}  {name}\n", sha256_of_file(&folder.join(name))?);
    }
    Ok(text)
}

/// Checks every file against its checksum. A damaged checkpoint is an error, never a reason to take an older one in silence.
pub(super) fn verify(folder: &Path) -> Result<State> {
    let state = state_of(folder)?;
    check_files(folder, &state.files, STATE, "use another checkpoint: this one is damaged")?;
    Ok(state)
}

/// The state of the checkpoint `folder`, which has the checksum that was written of it. Its other files, which may be large, are not read.
pub(crate) fn state_of(folder: &Path) -> Result<State> {
    let damaged = |name: &str, what: &str| {
        Error::file(&folder.join(name), what, "use another checkpoint: this one is damaged or was changed")
    };
    let written = read_small(&folder.join(SUMS))?;
    if written != sums(folder)?.into_bytes() {
        return Err(damaged(STATE, "or the model card beside it does not have the checksum in SHA256SUMS"));
    }
    let state: State = serde_json::from_slice(&read_small(&folder.join(STATE))?)
        .map_err(|e| damaged(STATE, &format!("is not the JSON expected: {e}")))?;
    let named: Vec<&str> = state.files.keys().map(String::as_str).collect();
    let mut expected = [MODEL, OPTIMIZER, OBJECTIVE, CONFIG];
    expected.sort_unstable();
    if named != expected {
        return Err(damaged(STATE, &format!("has checksums of {named:?}, and not of {expected:?}")));
    }
    Ok(state)
}

/// Compares the files of `folder` with their checksums, which the file `list` beside them holds.
///
/// # Errors
/// Names the first that has another one, with `remedy`.
pub(crate) fn check_files(folder: &Path, files: &BTreeMap<String, String>, list: &str, remedy: &str) -> Result<()> {
    for (name, sha256) in files {
        let path = folder.join(name);
        if name.contains(['/', '\\']) || sha256_of_file(&path)? != *sha256 {
            return Err(Error::file(&path, format!("does not have the checksum in {list}"), remedy));
        }
    }
    Ok(())
}

pub(super) fn read_small(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_plain(path)?.take(MAX_STATE_BYTES).read_to_end(&mut bytes).io("read", path)?;
    Ok(bytes)
}
