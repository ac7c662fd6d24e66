//! Files that are either whole or absent: written beside the target, synced, renamed.

mod digest;
mod reading;

pub use digest::{hex, sha256_hex, sha256_of_hex};
pub use reading::{json_of, read, read_at_most, read_json, read_json_bytes, read_text};

use crate::error::{Error, IoContext, Result};
use crate::paths::{check_links, create_folder};
use serde::Serialize;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::Builder;

/// The ending of the name of an unfinished file or folder.
const UNFINISHED: &str = ".part";
/// The ending of the name of a folder that another one replaces.
const REPLACED: &str = ".old";

/// Writes `bytes` so that a crash at any moment leaves either the old file or the new one. Two processes that write the same file at once
/// leave one of the two.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |file| file.write_all(bytes).io("write", path))
}

/// [`write`] of what `fill` writes, piece by piece.
///
/// # Errors
/// Those of `fill`, and then nothing is there.
pub fn write_with<T, E: From<Error>>(
    path: &Path,
    fill: impl FnOnce(&mut (dyn Write + Send)) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    check_replaceable(path)?;
    let folder = folder_of(path);
    create_folder(folder)?;
    let name = temporary_name(path, folder)?;
    let mut file = Builder::new()
        .prefix(&name)
        .suffix(UNFINISHED)
        .permissions(Permissions::from_mode(0o666)) // Less what the process masks, as for any file.
        .tempfile_in(folder)
        .io("create a file in", folder)?;
    let mut buffered = BufWriter::new(&mut file);
    let value = fill(&mut buffered)?;
    buffered.flush().io("write", path)?;
    drop(buffered);
    file.as_file().sync_all().io("sync", path)?;
    file.persist(path).map_err(|e| e.error).io("rename into place", path)?;
    sync_folder(folder)?;
    Ok(value)
}

/// Writes several files, of which none is in its place before all could be written: a full disk, and what no file can replace, leave the old
/// ones.
///
/// # Errors
/// A file that cannot be written.
pub fn write_together(files: &[(PathBuf, &[u8])]) -> Result<()> {
    write_together_after(files, &|| Ok(()))
}

/// [`write_together`], with `written` done when all are written and none is in its place yet.
///
/// # Errors
/// A file that cannot be written, and those of `written`.
pub fn write_together_after<E: From<Error>>(
    files: &[(PathBuf, &[u8])],
    written: &dyn Fn() -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let Some(((path, bytes), rest)) = files.split_first() else { return written() };
    write_with(path, |file| {
        file.write_all(bytes).io("write", path)?;
        // What a full disk does not take is known here.
        file.flush().io("write", path)?;
        write_together_after(rest, written)
    })
}

/// Where a file lies, or will lie when it is written: a link in its place is replaced, and not followed.
pub fn place_of_new(path: &Path) -> PathBuf {
    let folder = folder_of(path);
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    }
}

/// `place` with `ending`, or with a number before it where that is taken: a name that nothing has yet, for a command to be typed.
pub fn unused_name(place: &Path, ending: &str) -> PathBuf {
    let named = |number: usize| match number {
        1 => PathBuf::from(format!("{}{ending}", place.display())),
        number => PathBuf::from(format!("{}-{number}{ending}", place.display())),
    };
    (1..).map(named).find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| named(1))
}

/// Removes what this process is writing of `path`. For a process that is about to leave without an end.
pub fn abandon(path: &Path) {
    let Some(name) = path.file_name() else { return };
    let own = format!(".{}.{}.", name.to_string_lossy(), std::process::id());
    for entry in fs::read_dir(folder_of(path)).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&own) {
            // What cannot be removed is removed by whoever writes there next.
            let _: io::Result<()> =
                if entry.path().is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        }
    }
}

/// Fills a new folder so that it appears whole or not at all: `fill` writes beside it, and the result is renamed into place.
pub fn write_folder<T, E: From<Error>>(
    folder: &Path,
    fill: impl FnOnce(&Path) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    if folder.exists() {
        return Err(Error::file(folder, "exists already", "name a new folder").into());
    }
    check_links(folder)?;
    replace_folder(folder, fill)
}

/// [`write_folder`] where an older folder of that name may stand. The older one is put aside, and removed once the new one is in its place;
/// where the new one cannot be put there, the older one comes back.
pub fn replace_folder<T, E: From<Error>>(
    folder: &Path,
    fill: impl FnOnce(&Path) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    let parent = folder_of(folder);
    create_folder(parent)?;
    let name = temporary_name(folder, parent)?;
    let beside = |suffix: &str| {
        let mut builder = Builder::new();
        builder.prefix(&name).suffix(suffix).permissions(Permissions::from_mode(0o777));
        builder.tempdir_in(parent).io("create a folder in", parent)
    };
    // Both folders are removed when they go out of scope, whatever happens; a rename leaves nothing there to remove.
    let new = beside(UNFINISHED)?;
    let value = fill(new.path())?;
    sync_folder(new.path())?;
    let aside = beside(REPLACED)?;
    let older = aside.path().join("older");
    // A link that leads nowhere is in the way, too.
    let replaces = folder.symlink_metadata().is_ok();
    if replaces {
        fs::rename(folder, &older).io("put aside", folder)?;
    }
    if let Err(cause) = fs::rename(new.path(), folder) {
        if replaces {
            fs::rename(&older, folder).io("put back", folder)?;
        }
        return Err(Error::Io { action: "rename into place", path: folder.to_owned(), cause }.into());
    }
    sync_folder(parent)?;
    Ok(value)
}

/// Removes `folder` where it holds nothing but the file `lock`: nothing was written in it. One that stays does no harm.
pub fn remove_unused(folder: &Path, lock: &str) {
    let others = fs::read_dir(folder).into_iter().flatten().flatten();
    if others.filter(|entry| entry.file_name() != lock).count() == 0 {
        let _ = fs::remove_file(folder.join(lock));
        let _ = fs::remove_dir(folder);
    }
}

/// Whether files can be written in `folder`, or in the folders that are made on the way to it. Known before the work whose results go there.
///
/// # Errors
/// Where they cannot.
pub fn check_writable(folder: &Path) -> Result<()> {
    check_links(folder)?;
    let there = |path: &&Path| path.exists() || path.as_os_str().is_empty();
    let nearest = folder.ancestors().find(there).unwrap_or(Path::new("."));
    let nearest = if nearest.as_os_str().is_empty() { Path::new(".") } else { nearest };
    match tempfile::tempfile_in(nearest) {
        Ok(_) => Ok(()),
        Err(cause) => Err(Error::file(
            nearest,
            format!("cannot be written in: {cause}"),
            "name another folder, or change whose it is",
        )),
    }
}

/// [`check_writable`] of the folder that the file `path` will be in.
///
/// # Errors
/// Where it cannot be written there.
pub fn check_file_writable(path: &Path) -> Result<()> {
    check_replaceable(path)?;
    check_writable(folder_of(path))
}

/// # Errors
/// A device, a pipe or a socket where a file is to be: a rename would put the file in its place. A link is replaced itself, and no rename
/// replaces a folder.
fn check_replaceable(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() && !there.is_symlink() && !there.is_dir() => {
            Err(Error::file(path, "is there, and is no regular file", "name another file"))
        }
        _ => Ok(()),
    }
}

/// The folder that `path` lies in, as it is named.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What temporary names of `path` begin with: a dot, so that no reader of the folder takes what is unfinished for a file of its own, and this
/// process, so that what a killed one left can be told from what another one is writing. Leftovers are removed.
fn temporary_name(path: &Path, folder: &Path) -> Result<String> {
    let name = path.file_name().ok_or_else(|| Error::file(path, "is not a name", "name a file or folder"))?;
    let target = format!(".{}.", name.to_string_lossy());
    remove_leftovers(folder, &target);
    Ok(format!("{target}{}.", std::process::id()))
}

/// Whether a file or folder of this name is what a process that was killed leaves of one that it wrote.
pub fn is_left_over(name: &str) -> bool {
    name.starts_with('.') && (name.ends_with(UNFINISHED) || name.ends_with(REPLACED))
}

/// Removes what processes that are gone left of `target`. One that cannot be removed does no harm.
fn remove_leftovers(folder: &Path, target: &str) {
    let processes = Path::new("/proc");
    let Ok(entries) = fs::read_dir(folder) else { return };
    if !processes.join("self").exists() {
        return; // Nobody can say which processes are gone.
    }
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(target)) else { continue };
        let process = rest.split('.').next().filter(|_| rest.ends_with(UNFINISHED) || rest.ends_with(REPLACED));
        let gone =
            process.and_then(|id| id.parse::<u32>().ok()).is_some_and(|id| !processes.join(id.to_string()).exists());
        if gone {
            let _ =
                if entry.path().is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        }
    }
}

/// A rename is on the disk once its folder is.
fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).io("sync the folder", folder)
}

pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| Error::internal(format!("JSON: {e}")))?;
    text.push(b'\n');
    write(path, &text)
}

/// Writes one JSON object a line.
///
/// # Errors
/// What cannot be JSON, and a file that cannot be written.
pub fn write_json_lines<T: Serialize>(path: &Path, rows: impl IntoIterator<Item = T>) -> Result<()> {
    let mut text = String::new();
    for row in rows {
        text += &serde_json::to_string(&row).map_err(|e| Error::internal(format!("JSON: {e}")))?;
        text.push('\n');
    }
    write(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for refused in [write(&socket, b"text"), check_file_writable(&socket), write(Path::new("/dev/null"), b"text")] {
            assert!(refused.unwrap_err().to_string().contains("no regular file"));
        }
        assert!(!socket.metadata().unwrap().is_file());
    }

    #[test]
    fn replaces_a_file_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.json");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn files_that_belong_together_are_all_written_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let both = |text: &'static [u8]| write_together(&[(path("page"), text), (path("last"), text)]);
        both(b"old").unwrap();
        fs::remove_file(path("last")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(path("last")).unwrap();
        assert!(both(b"new").unwrap_err().to_string().contains("no regular file"));
        assert_eq!(fs::read(path("page")).unwrap(), b"old");
        fs::remove_file(path("last")).unwrap();
        both(b"new").unwrap();
        assert_eq!((fs::read(path("page")).unwrap(), fs::read(path("last")).unwrap()), (b"new".into(), b"new".into()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_written_piece_by_piece_is_whole_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.txt");
        let failed: Result<()> = write_with(&path, |out| {
            out.write_all(b"half").io("write", Path::new("x"))?;
            Err(Error::internal("full"))
        });
        assert!(failed.is_err() && names(folder.path()).is_empty());
        write_with(&path, |out| out.write_all(b"whole").io("write", Path::new("x"))).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        let _: Result<()> = write_with(&path, |_| {
            assert_eq!(names(folder.path()).len(), 2);
            abandon(&path);
            assert_eq!(names(folder.path()), ["lines.txt"]);
            Err(Error::internal("stopped"))
        });
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_is_replaced_whole_and_the_older_one_stays_when_filling_fails() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("step_1");
        write_folder::<_, Error>(&folder, |new| write(&new.join("a"), b"1")).unwrap();
        assert!(write_folder::<_, Error>(&folder, |_| Ok(())).is_err());
        let failed = replace_folder::<(), Error>(&folder, |new| {
            write(&new.join("a"), b"2")?;
            assert_eq!(fs::read(folder.join("a")).unwrap(), b"1", "the older one stands until the new one is whole");
            Err(Error::internal("full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(folder.join("a")).unwrap(), b"1");
        replace_folder::<_, Error>(&folder, |new| write(&new.join("b"), b"2")).unwrap();
        assert_eq!(names(&folder), ["b"]);
        assert_eq!(names(place.path()), ["step_1"]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_no_place_for_a_folder() {
        let place = tempfile::tempdir().unwrap();
        let link = place.path().join("link");
        std::os::unix::fs::symlink(place.path().join("gone"), &link).unwrap();
        let fill = |new: &Path| write(&new.join("a"), b"1");
        let within = link.join("within");
        for refused in [check_writable(&link), check_file_writable(&within), write_folder(&link, fill)] {
            let said = refused.unwrap_err().to_string();
            assert!(said.contains("link`") && said.contains("is a link that leads nowhere"), "{said}");
        }
        replace_folder::<_, Error>(&link, fill).unwrap();
        assert!(!link.is_symlink() && names(&link) == ["a"] && names(place.path()) == ["link"]);
    }

    #[test]
    fn writers_of_one_file_at_once_leave_one_of_their_contents() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        std::thread::scope(|scope| {
            for writer in 0..4u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        write(path, &vec![writer; 5000]).unwrap();
                    }
                });
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() == 5000 && bytes.iter().all(|byte| Some(byte) == bytes.first()));
        assert_eq!(names(folder.path()), ["results.json"]);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let gone = u32::MAX; // No process has this number.
        let (left, living) = (format!(".a.{gone}.xyz.part"), ".a.1.xyz.part");
        fs::create_dir(folder.path().join(&left)).unwrap();
        fs::write(folder.path().join(&left).join("half"), b"1").unwrap();
        fs::write(folder.path().join(format!(".a.{gone}.abc.part")), b"1").unwrap();
        fs::write(folder.path().join(living), b"1").unwrap();
        write(&folder.path().join("a"), b"2").unwrap();
        assert_eq!(names(folder.path()), [living, "a"]);
    }

    #[test]
    fn files_and_folders_have_the_permissions_of_any_other() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        fs::write(folder.path().join("plain"), b"").unwrap();
        write(&folder.path().join("ours"), b"").unwrap();
        assert_eq!(mode(&folder.path().join("plain")), mode(&folder.path().join("ours")));
        fs::create_dir(folder.path().join("plain_folder")).unwrap();
        write_folder::<_, Error>(&folder.path().join("our_folder"), |_| Ok(())).unwrap();
        assert_eq!(mode(&folder.path().join("plain_folder")), mode(&folder.path().join("our_folder")));
    }
}
