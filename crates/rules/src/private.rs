//! Files that are this user's alone: made without following links that others have planted, and directories in which others
//! could plant them.

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

/// The age of a draft that nobody is writing any more.
const ABANDONED: Duration = Duration::from_secs(60);

/// Opens a file for writing, and makes it readable by its owner alone where there is none. A link at its place is not followed.
///
/// # Errors
///
/// There is a link, or the file cannot be opened.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let options = options.mode(0o600);
    // Links there are the system's, such as /dev/stdout.
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

/// Puts a file that only its owner can read where there is none. Written whole beside it and linked into place: a second
/// process finds all of it or nothing.
///
/// # Errors
///
/// The file cannot be made.
pub fn keep(path: &Path, content: &str) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new(""));
    create_dir(dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{name}.draft-");
    // Nobody can guess it, and what a crash has left is in nobody's way.
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

/// Removes drafts that a crash has left.
fn remove_abandoned(dir: &Path, prefix: &str) {
    let dir = match dir.as_os_str().is_empty() {
        true => Path::new("."),
        false => dir,
    };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_draft = entry.file_name().to_string_lossy().starts_with(prefix);
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if is_draft && age().is_some_and(|age| age > ABANDONED) {
            // One that is left once more does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Makes a directory that only its owner can enter.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.as_os_str().is_empty() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

/// Makes an empty file that only its owner can read, where there is none.
pub fn create_file(path: &Path) -> io::Result<()> {
    create_dir(path.parent().unwrap_or(Path::new("")))?;
    match open(path, OpenOptions::new().write(true).create_new(true)) {
        Ok(_) => Ok(()),
        // A link to a file that is there may be what the operator wants; one that leads nowhere is not followed.
        Err(error) => match path.try_exists() {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(error),
        },
    }
}

/// Gives a socket its mode; what somebody has put in its place since is left alone.
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

/// Why others can change what is in a directory, or put something else in its place; nothing where they cannot, or where
/// there is no such directory.
pub fn exposed(dir: &Path) -> Option<Exposed> {
    let dir = match dir.as_os_str().is_empty() {
        true => Path::new("."),
        false => dir,
    };
    let dir = dir.canonicalize().ok()?;
    let own = rustix::process::geteuid().as_raw();
    for (depth, dir) in dir.ancestors().enumerate() {
        let found = fs::symlink_metadata(dir).ok()?;
        // A mount of Kubernetes has a mode of 1777, and nobody can write to it.
        let is_read_only =
            || statvfs(dir).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
        let writable = match depth {
            // Where the sticky bit is set, others cannot replace what is there, but plant what is not.
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
    /// Itself, or one that it is in.
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
    fn a_draft_follows_no_link_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (path, victim) = (dir.path().join("secret"), dir.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        // As drafts were called, and left by a crash.
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
        // Who comes second changes nothing.
        keep(&path, "newer").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        fs::remove_file(&planted).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn links_are_not_written_through() {
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
    fn directories_that_others_can_change_are_known() {
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
