//! Reads a log line by line, with progress on a terminal.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _, Read as _},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;

/// The longest line that is read, in bytes; a longer one counts as unreadable.
const LONGEST: u64 = 64 * 1024;

/// The pause between two reports.
const PAUSE: Duration = Duration::from_millis(200);

/// A log that is read.
pub(super) struct Reading {
    input: Box<dyn BufRead>,
    name: String,
    line: Vec<u8>,
    progress: Option<Progress>,
}

struct Progress {
    started: Instant,
    reported: Instant,
    bytes: u64,
    lines: u64,
    /// The size of the file, if it has one.
    size: Option<u64>,
}

impl Reading {
    /// Opens a log; `-` is standard input.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let (input, size): (Box<dyn BufRead>, _) = match &*name {
            "-" => (Box::new(io::stdin().lock()), None),
            _ => {
                let file = File::open(path).with_context(|| format!("{name} cannot be read"))?;
                let size = file.metadata().ok().map(|found| found.len());
                (Box::new(BufReader::with_capacity(1 << 20, file)), size)
            }
        };
        let progress = io::stderr().is_terminal().then(|| Progress {
            started: Instant::now(),
            reported: Instant::now(),
            bytes: 0,
            lines: 0,
            size: size.filter(|size| *size > 0),
        });
        Ok(Self {
            input,
            name,
            line: Vec::new(),
            progress,
        })
    }

    /// The next line without its end; an empty one for a line that is too long.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<&[u8]>> {
        self.line.clear();
        let read = self.read();
        let read = read.with_context(|| format!("{} cannot be read", self.name))?;
        if let Some(progress) = &mut self.progress {
            progress.note(read);
        }
        if read == 0 {
            return Ok(None);
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// Reads a line, and returns the number of its bytes.
    fn read(&mut self) -> io::Result<usize> {
        let mut all = 0;
        loop {
            let mut input = self.input.as_mut().take(LONGEST);
            let read = input.read_until(b'\n', &mut self.line)?;
            all += read;
            if read == 0 || self.line.last() == Some(&b'\n') {
                break;
            }
            if all as u64 >= LONGEST {
                self.line.clear();
            }
        }
        if all as u64 > LONGEST {
            self.line.clear();
        }
        Ok(all)
    }
}

impl Progress {
    fn note(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.lines += 1;
        if bytes == 0 {
            // Clears the line.
            eprint!("\r\x1b[K");
        } else if self.lines.is_multiple_of(4096) && self.reported.elapsed() >= PAUSE {
            self.reported = Instant::now();
            let share = self
                .size
                .map(|size| format!("{:3} %, ", self.bytes * 100 / size));
            let seconds = self.started.elapsed().as_secs_f64();
            eprint!(
                "\r{}{} lines, {seconds:.1} s",
                share.unwrap_or_default(),
                self.lines
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_are_cut_and_long_ones_are_empty() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let long = "x".repeat(200_000);
        let edge = "y".repeat(usize::try_from(LONGEST).unwrap() - 1);
        write!(file, "one\r\n\n{long}\n{edge}\ntwo\nlast").unwrap();
        let mut reading = Reading::open(file.path()).unwrap();
        let mut lines = Vec::new();
        while let Some(line) = reading.next().unwrap() {
            lines.push(line.len());
        }
        assert_eq!(lines, [3, 0, 0, edge.len(), 3, 4]);
        assert!(Reading::open(Path::new("/nowhere")).is_err());
    }
}
