//! Files that only this user may read. They are created without following links that others have planted. Also finds
//! directories in which others could plant such links.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{
            DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FileType, Mode, OFlags, StatVfsMountFlags, fstat, statvfs};

/// After this age, a draft is a leftover.
const ABANDONED: Duration = Duration::from_secs(60);

/// Opens a file for writing, and creates it readable only by its owner. Does not follow a link.
///
/// # Errors
///
/// The path is a link, or the file cannot be opened.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let options = options.mode(0o600);
    // Links in these directories belong to the system, such as /dev/stdout.
    if !path.starts_with("/dev") {
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    }
    options.open(path).map_err(|error| match is_link(path) {
        true => io::Error::new(
            ErrorKind::InvalidInput,
            "is a symbolic link, which is not followed; remove it, or name the file that it leads to",
        ),
        false => error,
    })
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
}

/// Creates a file that only its owner can read, if there is none. It is written completely beside its place and linked
/// there, so another process finds the whole file or none.
///
/// # Errors
///
/// The file cannot be created.
pub fn keep(path: &Path, content: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new(""));
    create_dir(dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{name}.draft-");
    // Nobody can guess this name, and a leftover of a crash has another one.
    let draft = dir.join(format!("{prefix}{}", uuid::Uuid::new_v4().simple()));
    let mut file = open(&draft, OpenOptions::new().write(true).create_new(true))?;
    let written = (file.write_all(content.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    remove_abandoned(dir, &prefix);
    match written {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        Err(_) | Ok(()) => Ok(()),
    }
}

/// Removes drafts that a crash has left behind.
fn remove_abandoned(dir: &Path, prefix: &str) {
    let dir = match dir.as_os_str().is_empty() {
        true => Path::new("."),
        false => dir,
    };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_draft = entry.file_name().to_string_lossy().starts_with(prefix);
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if is_draft && age().is_some_and(|age| age > ABANDONED) {
            // Harmless if it fails: the next start tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Creates a directory that only its owner can enter.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

/// Creates an empty file that only its owner can read, if there is none.
pub fn create_file(path: &Path) -> io::Result<()> {
    create_dir(path.parent().unwrap_or(Path::new("")))?;
    match open(path, OpenOptions::new().write(true).create_new(true)) {
        Ok(_) => Ok(()),
        // The operator may want a link to an existing file; a dangling link is not followed.
        Err(error) => match path.try_exists() {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(error),
        },
    }
}

/// Sets the mode of a socket; does not touch a file that has replaced it.
pub fn set_socket_mode(path: &Path, mode: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = rustix::fs::open(path, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&socket)?.st_mode) != FileType::Socket {
        return Err(io::Error::new(
            ErrorKind::AddrInUse,
            "somebody has replaced the socket",
        ));
    }
    let open = format!("/proc/self/fd/{}", socket.as_raw_fd());
    fs::set_permissions(open, fs::Permissions::from_mode(mode))
}

/// How others can change the contents of a directory or replace it; `None` if they cannot, or if it does not exist.
pub fn exposed(dir: &Path) -> Option<Exposed> {
    let dir = match dir.as_os_str().is_empty() {
        true => Path::new("."),
        false => dir,
    };
    let dir = dir.canonicalize().ok()?;
    let own = rustix::process::geteuid().as_raw();
    for (depth, dir) in dir.ancestors().enumerate() {
        let found = fs::symlink_metadata(dir).ok()?;
        // A Kubernetes mount has the mode 1777, but is read-only.
        let is_read_only =
            || statvfs(dir).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
        let writable = match depth {
            // With the sticky bit, others cannot replace existing files, but can create missing ones.
            0 => found.mode() & 0o022 != 0,
            _ => found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0,
        };
        let why = match (writable, found.uid()) {
            (true, _) if !is_read_only() => "its mode lets others write to it",
            (_, owner) if owner != own && owner != 0 => "another user owns it",
            _ => continue,
        };
        return Some(Exposed {
            dir: dir.to_owned(),
            why,
        });
    }
    None
}

/// A directory that others can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// The directory itself, or a parent.
    pub dir: PathBuf,
    pub why: &'static str,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn writing_a_secret_follows_no_link_and_leaves_no_draft() {
        let dir = tempfile::tempdir().unwrap();
        let (path, victim) = (dir.path().join("secret"), dir.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        // The name of a draft of an earlier version, left behind by a crash.
        let planted = dir
            .path()
            .join(format!(".secret.draft-{}", std::process::id()));
        symlink(&victim, &planted).unwrap();
        let left = dir.path().join(".secret.draft-1");
        let file = File::create(&left).unwrap();
        let hour = std::time::SystemTime::now() - Duration::from_secs(3600);
        file.set_modified(hour).unwrap();
        keep(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        let found = fs::symlink_metadata(&path).unwrap();
        assert!(found.is_file() && found.mode() & 0o777 == 0o600 && found.nlink() == 1);
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert!(!left.exists());
        // The second writer changes nothing.
        keep(&path, "newer").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        fs::remove_file(&planted).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn writes_do_not_follow_symbolic_links() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("victim"), "precious").unwrap();
        for target in ["victim", "nothing"] {
            for name in ["kept", "made", "opened"] {
                symlink(at(target), at(name)).unwrap();
            }
            keep(&at("kept"), "new").unwrap();
            assert_eq!(create_file(&at("made")).is_ok(), target == "victim");
            let fault = open(&at("opened"), OpenOptions::new().append(true).create(true));
            assert!(fault.unwrap_err().to_string().contains("symbolic link"));
            let fault = set_socket_mode(&at("opened"), 0o666);
            assert!(fault.unwrap_err().to_string().contains("replaced"));
            for name in ["kept", "made", "opened"] {
                fs::remove_file(at(name)).unwrap();
            }
        }
        assert_eq!(fs::read_to_string(at("victim")).unwrap(), "precious");
        assert!(!at("nothing").exists());
        assert!(open(Path::new("/dev/stdout"), OpenOptions::new().append(true)).is_ok());
    }

    #[test]
    fn directories_that_others_can_change_are_detected() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("data");
        assert_eq!(exposed(&dir), None);
        create_dir(&dir).unwrap();
        for (of_top, of_dir, expected) in [
            (0o700, 0o700, None),
            (0o755, 0o755, None),
            (0o700, 0o770, Some(&dir)),
            (0o700, 0o702, Some(&dir)),
            (0o700, 0o1777, Some(&dir)),
            (0o777, 0o700, Some(&top.path().to_owned())),
            (0o1777, 0o700, None),
        ] {
            mode(top.path(), of_top);
            mode(&dir, of_dir);
            let found = exposed(&dir).map(|exposed| exposed.dir);
            assert_eq!(found.as_ref(), expected, "{of_top:o} {of_dir:o}");
        }
    }
}
