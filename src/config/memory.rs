//! How much memory hashing may use.

use std::{fs, path::Path};

use super::fault::ValueFault;
use crate::login::password::OWN_MEMORY;

/// KiB of a row that PHP writes with its defaults (argon2, 64 MiB).
const PHP: u64 = 64 * 1024;

/// The value of `login.hash_memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HashMemory {
    /// The result of [`hash_memory_default`].
    Auto,
    Kib(u64),
}

impl HashMemory {
    pub(super) fn parse(text: &str) -> Result<Self, ValueFault> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match kib(text)? {
            enough if enough >= OWN_MEMORY => Ok(Self::Kib(enough)),
            _ => Err(ValueFault::Memory(text.to_owned())),
        }
    }

    pub(super) fn kib(self, threads: usize) -> u64 {
        match self {
            Self::Auto => hash_memory_default(threads, available(Path::new("/"))),
            Self::Kib(kib) => kib,
        }
    }
}

/// The KiB of `login.hash_memory = "auto"`, given how many KiB are available: one of Doorward's own hashes per thread and
/// one of PHP, but at most half of what is available.
#[must_use]
pub fn hash_memory_default(threads: usize, available: Option<u64>) -> u64 {
    let wanted = threads as u64 * OWN_MEMORY + PHP;
    let half = available.map_or(u64::MAX, |available| available / 2);
    wanted.min(half).max(OWN_MEMORY)
}

/// A size in bytes or with its unit, in KiB.
fn kib(text: &str) -> Result<u64, ValueFault> {
    let units = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("", 1),
    ];
    let (number, unit) = units
        .iter()
        .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?.trim_end(), *bytes)))
        .unwrap_or((text, 1));
    let number: Option<u64> = number.parse().ok();
    let bytes = number.and_then(|number| number.checked_mul(unit));
    bytes
        .map(|bytes| bytes / 1024)
        .filter(|kib| *kib <= 1 << 30)
        .ok_or_else(|| ValueFault::Size(text.to_owned()))
}

/// KiB that this process may use: the lowest limit of its control group, of the groups above it and of the machine.
fn available(root: &Path) -> Option<u64> {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let bytes = |text: String| text.trim().parse::<u64>().ok();
    let own = read("proc/self/cgroup").unwrap_or_default();
    let mut least: Option<u64> = None;
    let mut see = |limit: Option<u64>| {
        least = [least, limit].into_iter().flatten().min();
    };
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            "memory" => ("sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        // In a container, this group may be mounted as the root.
        see(read(&format!("{mount}/{file}")).and_then(bytes));
        let mut path = String::new();
        for part in group.split('/').filter(|part| !part.is_empty()) {
            path = format!("{path}/{part}");
            see(read(&format!("{mount}{path}/{file}")).and_then(bytes));
        }
    }
    let machine = read("proc/meminfo").and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    [least.map(|bytes| bytes / 1024), machine]
        .into_iter()
        .flatten()
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024;

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(kib("64MiB"), Ok(64 * MIB));
        assert_eq!(kib("1 GiB"), Ok(MIB * MIB));
        assert_eq!(kib("19456KiB"), Ok(OWN_MEMORY));
        for bad in ["", "64MB", "-1MiB", "MiB", "99999999999999GiB", "1.5GiB"] {
            assert!(kib(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_default_depends_on_threads_and_available_memory() {
        assert_eq!(hash_memory_default(2, None), 2 * OWN_MEMORY + 64 * MIB);
        assert_eq!(hash_memory_default(64, Some(256 * MIB)), 128 * MIB);
        assert_eq!(
            hash_memory_default(2, Some(256 * MIB)),
            2 * OWN_MEMORY + 64 * MIB
        );
        assert_eq!(hash_memory_default(2, Some(16 * MIB)), OWN_MEMORY);
    }

    #[test]
    fn the_lowest_limit_of_a_control_group_and_its_parents_applies() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(available(dir.path()), None);
        write(
            "proc/meminfo",
            "MemTotal:       16384000 kB\nMemFree: 1 kB\n",
        );
        assert_eq!(available(dir.path()), Some(16_384_000));
        write("proc/self/cgroup", "0::/a.slice/b.service\n");
        write("sys/fs/cgroup/a.slice/b.service/memory.max", "max\n");
        assert_eq!(available(dir.path()), Some(16_384_000));
        write("sys/fs/cgroup/a.slice/memory.max", "134217728\n");
        assert_eq!(available(dir.path()), Some(128 * MIB));
        write("sys/fs/cgroup/memory.max", "67108864\n");
        assert_eq!(available(dir.path()), Some(64 * MIB));
        write("proc/self/cgroup", "7:memory:/docker/1\n1:name=x:/\n");
        write(
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "9223372036854771712\n",
        );
        assert_eq!(available(dir.path()), Some(16_384_000));
        write(
            "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes",
            "268435456\n",
        );
        assert_eq!(available(dir.path()), Some(256 * MIB));
    }
}
