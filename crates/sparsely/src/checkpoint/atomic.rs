//! Files that are either the old ones or the new ones, never half of each.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::error::{Error, Result};

const TEMPORARY_SUFFIX: &str = ".tmp";

/// Writes `path` so that a reader, or a machine that loses power, sees all of it or nothing of it.
///
/// `fill` writes into a temporary file of a unique name in the same folder, which is synced to
/// the disk and then renamed to `path`; the folder is synced last.
///
/// # Errors
///
/// [`Error::Io`] naming `path`; the file that was there before is then untouched and the
/// temporary one is gone.
pub fn write_atomic(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    try_write(path, fill).map_err(Error::io("write", path))
}

/// Writes JSON for people, as of [`write_atomic`].
///
/// # Errors
///
/// [`Error::Io`] naming `path`.
pub fn write_json(path: &Path, json: &serde_json::Value) -> Result<()> {
    write_atomic(path, |file| writeln!(file, "{json:#}"))
}

fn try_write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let folder = folder_of(path);
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");

    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(TEMPORARY_SUFFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask
    let mut temporary = builder.tempfile_in(folder)?;

    let mut buffered = BufWriter::with_capacity(1 << 16, temporary.as_file_mut());
    fill(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|refused| refused.error)?;
    sync_folder(folder)
}

/// Makes the folder `path`, which must not exist, with all that `fill` puts into the folder that it
/// is given, or not at all: that one is a sibling under a temporary name until it is whole.
///
/// # Errors
///
/// [`Error::Format`] if `path` exists; [`Error::Io`]; those of `fill`, whose paths are told as if they
/// were below `path`. The temporary folder is then gone.
pub(super) fn create_folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(Error::format(path, "no file or folder yet", "one that exists"));
    }
    let temporary = temporary_folder(path).map_err(Error::io("create", path))?;
    fill(temporary.path()).map_err(|error| match error {
        Error::Io { action, path: place, source } => {
            let place = match place.strip_prefix(temporary.path()) {
                Ok(rest) if rest.as_os_str().is_empty() => path.to_path_buf(),
                Ok(rest) => path.join(rest),
                Err(_) => place,
            };
            Error::Io { action, path: place, source }
        }
        other => other,
    })?;
    sync_folder(temporary.path()).map_err(Error::io("write", path))?;
    fs::rename(temporary.path(), path).map_err(Error::io("create", path))?;
    let _ = temporary.keep(); // it has another name now
    sync_folder(folder_of(path)).map_err(Error::io("write", path))
}

fn temporary_folder(path: &Path) -> io::Result<tempfile::TempDir> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no folder"))?;
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(TEMPORARY_SUFFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777)); // less the umask
    fs::create_dir_all(folder_of(path))?;
    builder.tempdir_in(folder_of(path))
}

/// Makes a rename or a removal in `folder` last; not every file system can, and then it need not.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(folder)?.sync_all() {
        Err(refused)
            if matches!(
                refused.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Whether `name` is one of a file that [`write_atomic`] did not come to rename.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(TEMPORARY_SUFFIX)
}

/// Removes the files of `folder` whose name `is_stale` accepts, and the temporary files that a
/// killed process left behind.
pub(super) fn remove_stale(folder: &Path, is_stale: impl Fn(&str) -> bool) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        let is_ours =
            entry.file_name().to_str().is_some_and(|name| is_temporary(name) || is_stale(name));
        if is_ours {
            let path = entry.path();
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn the_new_content_replaces_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        for text in ["a longer first text", "second"] {
            write_atomic(&path, |file| file.write_all(text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(names(folder.path()), ["notes.txt"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        fs::write(&path, "old").unwrap();
        let failure = write_atomic(&path, |file| {
            file.write_all(&vec![b'x'; 1 << 20])?; // well past the buffer
            Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"))
        })
        .unwrap_err();
        assert_eq!(failure.to_string(), format!("cannot write `{}`", path.display()));
        let source = std::error::Error::source(&failure).unwrap();
        assert_eq!(source.to_string(), "no space left on device");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["notes.txt"]);
    }

    #[test]
    fn a_missing_folder_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nowhere").join("notes.txt");
        let failure = write_atomic(&path, |_| Ok(())).unwrap_err();
        assert_eq!(failure.to_string(), format!("cannot write `{}`", path.display()));
    }

    #[test]
    fn a_folder_is_whole_or_not_there() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("run");
        let failure = create_folder(&path, |folder| {
            write_atomic(&folder.join("a.txt"), |file| file.write_all(b"a"))?;
            write_atomic(&folder.join("b.txt"), |_| Err(io::Error::other("the disk is full")))
        });
        let message = format!("cannot write `{}`", path.join("b.txt").display());
        assert_eq!(failure.unwrap_err().to_string(), message);
        assert_eq!(names(root.path()), [""; 0]);

        create_folder(&path, |folder| {
            write_atomic(&folder.join("a.txt"), |file| file.write_all(b"a"))
        })
        .unwrap();
        assert_eq!(names(root.path()), ["run"]);
        assert_eq!(names(&path), ["a.txt"]);

        let refused = create_folder(&path, |_| unreachable!("it is there")).unwrap_err();
        let message =
            format!("`{}`: expected no file or folder yet, got one that exists", path.display());
        assert_eq!(refused.to_string(), message);
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_the_file_as_the_umask_lets_them() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_atomic(&ours, |_| Ok(())).unwrap();
        fs::write(&plain, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[test]
    fn only_stale_and_temporary_files_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["keep", "old-1", ".keep.Ab12.tmp", "a.tmp"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_stale(folder.path(), |name| name.starts_with("old-")).unwrap();
        let mut left = names(folder.path());
        left.sort();
        assert_eq!(left, ["a.tmp", "keep"]);
    }
}
