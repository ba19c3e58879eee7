//! Files at the time when they were read. Each is read once, and a digest tells later whether any has changed.

use std::{
    cell::RefCell,
    collections::{BTreeMap, hash_map::DefaultHasher},
    fmt, fs,
    hash::{Hash as _, Hasher as _},
    io::{self, ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// Larger than any useful list of passwords; a larger file is a wrong file.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Everything that was read.
#[derive(Default)]
pub struct Files {
    seen: RefCell<BTreeMap<PathBuf, Seen>>,
    /// Whether pipes and devices are refused: they can be read only once, and reading them may block.
    plain: bool,
}

enum Seen {
    Content(Result<Zeroizing<Vec<u8>>, Fault>),
    Names(Result<Vec<PathBuf>, Fault>),
}

#[derive(Clone, Hash)]
struct Fault(ErrorKind, String);

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self(error.kind(), error.to_string())
    }
}

impl From<Fault> for io::Error {
    fn from(Fault(kind, text): Fault) -> Self {
        Self::new(kind, text)
    }
}

impl Files {
    /// Files for a reload.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            plain: true,
            ..Self::default()
        }
    }

    /// The contents of a file.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read(&self, path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut seen = self.seen.borrow_mut();
        let seen = (seen.entry(path.to_owned()))
            .or_insert_with(|| Seen::Content(content(path, self.plain).map_err(Fault::from)));
        match seen {
            Seen::Content(content) => Ok(content.clone()?),
            Seen::Names(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    /// The contents of a file as text.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is not UTF-8.
    pub fn text(&self, path: &Path) -> io::Result<String> {
        let content = self.read(path)?;
        let text = str::from_utf8(&content);
        text.map(str::to_owned)
            .map_err(|_| io::Error::new(ErrorKind::InvalidData, "is not UTF-8"))
    }

    /// The names in a directory, without those that begin with a dot: Kubernetes uses such names to replace a mount as a
    /// whole, and drafts have such names.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let mut seen = self.seen.borrow_mut();
        let seen = (seen.entry(dir.to_owned()))
            .or_insert_with(|| Seen::Names(names(dir).map_err(Fault::from)));
        match seen {
            Seen::Names(names) => Ok(names.clone()?),
            Seen::Content(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    /// Drops a file, so that it is read again.
    pub fn forget(&self, path: &Path) {
        self.seen.borrow_mut().remove(path);
    }

    /// The digest of everything that was read.
    #[must_use]
    pub fn look(&self) -> Look {
        let seen = self.seen.borrow();
        let path = |(path, seen): (&PathBuf, &Seen)| (path.clone(), matches!(seen, Seen::Names(_)));
        Look {
            paths: seen.iter().map(path).collect(),
            digest: self.digest(),
        }
    }

    /// Digests of contents, not times and inodes: a mount may be replaced by a link, or be on a network file system.
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, seen) in &*self.seen.borrow() {
            path.hash(&mut hasher);
            match seen {
                Seen::Content(content) => {
                    content.as_ref().map(|content| &**content).hash(&mut hasher);
                }
                Seen::Names(names) => names.hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.seen.borrow().keys()).finish()
    }
}

/// Which files were read, and a digest of their contents.
#[derive(Clone, Debug)]
pub struct Look {
    /// Each path, and whether it is a directory.
    paths: Vec<(PathBuf, bool)>,
    digest: u64,
}

impl Look {
    /// A digest of all contents.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The digest of the same files with their present contents.
    #[must_use]
    pub fn now(&self) -> u64 {
        let files = Files::plain();
        for (path, is_dir) in &self.paths {
            // A file that cannot be read is part of the digest, too.
            let _ = match is_dir {
                true => files.list(path).map(drop),
                false => files.read(path).map(drop),
            };
        }
        files.digest()
    }
}

fn content(path: &Path, plain: bool) -> io::Result<Zeroizing<Vec<u8>>> {
    // Checked before opening, because opening a pipe blocks until somebody writes.
    let kind = fs::metadata(path)?;
    if kind.is_dir() {
        return Err(io::Error::new(ErrorKind::IsADirectory, "is a directory"));
    }
    if plain && !kind.is_file() {
        let text = "is a pipe or a device, which cannot be read again";
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    let mut content = Zeroizing::new(Vec::new());
    let file = fs::File::open(path)?;
    file.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            "is larger than 64 MiB",
        ));
    }
    Ok(content)
}

fn names(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        // The root of a separate file system has this directory.
        if !name.as_encoded_bytes().starts_with(b".") && name != "lost+found" {
            names.push(entry.path());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_once_and_a_change_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (file, missing) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&file, "one").unwrap();
        let files = Files::plain();
        assert_eq!(files.text(&file).unwrap(), "one");
        assert_eq!(
            files.read(&missing).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert_eq!(
            files.list(dir.path()).unwrap().as_slice(),
            std::slice::from_ref(&file)
        );
        let look = files.look();
        assert_eq!(look.now(), look.digest());

        fs::write(&file, "two").unwrap();
        assert_eq!(files.text(&file).unwrap(), "one");
        assert_ne!(look.now(), look.digest());
        fs::write(&file, "one").unwrap();
        assert_eq!(look.now(), look.digest());
        // It is listed, too.
        fs::write(&missing, "").unwrap();
        assert_ne!(look.now(), look.digest());
        fs::remove_file(&missing).unwrap();
        fs::write(dir.path().join(".draft"), "").unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        assert_eq!(look.now(), look.digest());
        files.forget(&file);
        fs::write(&file, [0xff]).unwrap();
        assert_eq!(
            files.text(&file).unwrap_err().kind(),
            ErrorKind::InvalidData
        );
    }

    #[test]
    fn directories_devices_and_large_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let huge = dir.path().join("huge");
        let file = fs::File::create(&huge).unwrap();
        file.set_len(LARGEST + 1).unwrap();
        for (path, why) in [
            (dir.path(), "is a directory"),
            (Path::new("/dev/zero"), "is a pipe or a device"),
            (&huge, "is larger than 64 MiB"),
        ] {
            let fault = Files::plain().read(path).unwrap_err();
            assert!(fault.to_string().contains(why), "{fault}");
        }
        assert!(Files::default().read(Path::new("/dev/null")).is_ok());
    }
}
