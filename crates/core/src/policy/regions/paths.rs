//! Paths that rules do not distinguish.
//!
//! Rules see two texts of a path: as it was sent, and in the loose reading. For each, they see the longest path of theirs
//! at or below which it is, and whether it is there or below. What is sent below a path can be any other path in the loose
//! reading, because every segment has more spellings than there are rules.

use std::{collections::BTreeSet, fmt, ops::Bound};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::super::{Rule, pattern::PathPattern};
use crate::path::{Path, Tolerance};

/// Which paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathSet {
    /// One path.
    At,
    /// Everything below one, but not the path itself.
    Below,
    /// A path and everything below.
    Subtree,
    /// A path with an extension.
    Extension,
}

/// Paths at or below one, except where a more specific rule decides.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Paths {
    /// The path; empty for the one above all.
    pub path: String,
    /// The path in the loose reading.
    pub(super) loose: String,
    /// Which paths.
    pub set: PathSet,
    /// Only spellings that services may read as these paths.
    pub other_spellings: bool,
}

/// Paths that no rule distinguishes, and one of them.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) paths: Paths,
    pub(crate) example: String,
}

impl Cell {
    /// With a path as it is sent, and in the loose reading.
    fn new(
        (path, loose): (&str, &str),
        set: PathSet,
        other_spellings: bool,
        example: String,
    ) -> Self {
        let paths = Paths {
            path: path.to_owned(),
            loose: loose.to_owned(),
            set,
            other_spellings,
        };
        Self { paths, example }
    }
}

impl Paths {
    /// Whether a path is one of them, as it was sent or in the loose reading.
    #[must_use]
    pub fn include(&self, path: &Path<'_>) -> bool {
        let within = |text: &str, own: &str| {
            let Some(rest) = text.strip_prefix(own) else {
                return false;
            };
            match self.set {
                PathSet::At => rest.is_empty(),
                PathSet::Below => rest.starts_with('/'),
                PathSet::Subtree => rest.is_empty() || rest.starts_with('/'),
                PathSet::Extension => rest.starts_with('.') && !rest.contains('/'),
            }
        };
        within(path.loose(), &self.loose)
            || (!self.other_spellings && within(path.as_str(), &self.path))
    }

    /// Whether all of these paths are among others. The path above all is above every spelling.
    fn are_within(&self, other: &Self) -> bool {
        if other.other_spellings && !self.other_spellings {
            return false;
        }
        let below = |own: &str, other: &str| {
            own.strip_prefix(other)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        match other.set {
            PathSet::At | PathSet::Extension => false,
            PathSet::Below | PathSet::Subtree => {
                // A path with an extension is beside the path, and not below it.
                let is_same = self.set != PathSet::Extension
                    && other.set == PathSet::Subtree
                    && self.loose == other.loose;
                // Only the loose reading counts: there, an escaped `?` may put a path beside one that it is sent below.
                is_same || below(&self.loose, &other.loose)
            }
        }
    }

    /// Leaves out paths that are among others.
    pub(crate) fn compressed(mut all: Vec<Self>) -> Vec<Self> {
        all.sort();
        all.dedup();
        let at: Vec<_> = all
            .iter()
            .filter(|paths| paths.set == PathSet::At)
            .cloned()
            .collect();
        let is_at = |paths: &Self| {
            at.iter().any(|own| {
                let root = paths.path.is_empty() && own.path == "/";
                own.other_spellings == paths.other_spellings && (own.path == paths.path || root)
            })
        };
        for paths in &mut all {
            if paths.set == PathSet::Below && is_at(paths) {
                paths.set = PathSet::Subtree;
            }
        }
        let outer = all.clone();
        all.retain(|own| {
            !outer.iter().any(|other| {
                // Of two texts for the same paths, the first stays.
                let is_first = own < other && other.are_within(own);
                own != other && own.are_within(other) && !is_first
            })
        });
        all
    }
}

/// As rules write paths.
impl fmt::Display for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.other_spellings {
            f.write_str("other spellings of ")?;
        }
        let path = &self.path;
        match self.set {
            PathSet::At => f.write_str(path),
            PathSet::Below if path.is_empty() => f.write_str("/*"),
            PathSet::Below => write!(f, "{path}/* without {path}"),
            PathSet::Subtree => write!(f, "{path}/*"),
            PathSet::Extension => write!(f, "{path}.*"),
        }
    }
}

/// All classes of paths that these rules distinguish, and perhaps some of them several times.
pub(crate) fn cells<'p>(rules: impl Iterator<Item = &'p Rule>, tolerance: Tolerance) -> Vec<Cell> {
    let (mut raw, mut loose) = (Nodes::new(), Nodes::new());
    for rule in rules {
        let (PathPattern::Exact {
            raw: own,
            loose: read,
        }
        | PathPattern::Prefix {
            raw: own,
            loose: read,
        }) = &rule.path;
        raw.add(own);
        loose.add(read);
    }
    let cells = Cells {
        raw,
        loose,
        tolerance,
    };
    cells.all()
}

/// The paths of rules, and all paths above them.
struct Nodes(BTreeSet<String>);

impl Nodes {
    fn new() -> Self {
        Self(["".into(), "/".into()].into())
    }

    fn add(&mut self, path: &str) {
        let ends = path.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            self.0.insert(path.get(..end).unwrap_or(path).to_owned());
        }
    }

    fn contains(&self, path: &str) -> bool {
        self.0.contains(path)
    }

    /// A path and all below.
    fn subtree<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a String> {
        let own = (self.0).range::<str, _>((Bound::Included(path), Bound::Unbounded));
        own.take_while(move |node| node.starts_with(path))
            .filter(move |node| {
                node.strip_prefix(path)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
    }
}

struct Cells {
    raw: Nodes,
    loose: Nodes,
    tolerance: Tolerance,
}

impl Cells {
    fn all(&self) -> Vec<Cell> {
        let encoded = self.loose.0.iter().map(|node| encode(node));
        let plain: BTreeSet<_> = self.raw.0.iter().cloned().chain(encoded).collect();
        let mut cells: Vec<_> = plain.iter().flat_map(|node| self.plain(node)).collect();
        for node in &self.raw.0 {
            let read = self.loosen(node);
            for target in self.loose.subtree(&read) {
                cells.extend(self.spelled(node, &read, target));
            }
        }
        // Behind an escaped `?` or `#`, the loose reading has nothing.
        cells.retain(|cell| {
            Path::parse(cell.example.as_bytes(), self.tolerance)
                .is_ok_and(|path| cell.paths.include(&path))
        });
        cells
    }

    fn loosen(&self, path: &str) -> String {
        match Path::parse(path.as_bytes(), self.tolerance) {
            Ok(read) => read.loose().to_owned(),
            Err(_) => path.to_owned(),
        }
    }

    /// The path itself, below it, and with an extension.
    fn plain(&self, node: &str) -> Vec<Cell> {
        let loose = self.loosen(node);
        let cell = |set, example| Cell::new((node, &loose), set, false, example);
        let mut cells = Vec::new();
        if !node.is_empty() {
            cells.push(cell(PathSet::At, node.to_owned()));
            let extended = self.extended(node, &loose);
            cells.extend(extended.map(|example| cell(PathSet::Extension, example)));
        }
        if node != "/" {
            let free = self.free(node, &loose, "/");
            cells.push(cell(PathSet::Below, format!("{node}{free}")));
        }
        cells
    }

    fn extended(&self, sent: &str, read: &str) -> Option<String> {
        let is_cut = self.tolerance.also.extension;
        is_cut.then(|| format!("{sent}{}", self.free(sent, read, ".")))
    }

    /// What is sent below a path and read as another one.
    fn spelled(&self, node: &str, read: &str, target: &str) -> Vec<Cell> {
        let shown = encode(target);
        let cell = |set, example| Cell::new((&shown, target), set, true, example);
        let tail = target.strip_prefix(read).unwrap_or_default();
        let Some(tail) = tail.strip_prefix('/') else {
            // The path itself with a slash at its end.
            return match node {
                "" | "/" => Vec::new(),
                _ => vec![cell(PathSet::At, format!("{node}/"))],
            };
        };
        let (first, rest) = match tail.split_once('/') {
            Some((first, rest)) => (first, format!("/{}", encode(rest))),
            None => (tail, String::new()),
        };
        let sent = format!("{node}/{}{rest}", self.respelled(node, first));
        let mut cells = vec![cell(PathSet::At, sent.clone())];
        let extended = self.extended(&sent, target);
        cells.extend(extended.map(|example| cell(PathSet::Extension, example)));
        if target != "/" {
            let free = self.free(&sent, target, "/");
            cells.push(cell(PathSet::Below, format!("{sent}{free}")));
        }
        cells
    }

    /// What can follow a path so that no rule names the result. It has no dots, which could be read as an extension.
    fn free(&self, sent: &str, read: &str, separator: &str) -> String {
        let words = (0_u32..).map(|number| match number {
            0 => format!("{separator}any"),
            _ => format!("{separator}any{number}"),
        });
        let is_free = |word: &String| {
            !self.raw.contains(&format!("{sent}{word}"))
                && !self.loose.contains(&format!("{read}{word}"))
        };
        let mut words = words.filter(is_free);
        words.next().unwrap_or_default()
    }

    /// Another spelling of a segment, which no rule names below a path.
    fn respelled(&self, node: &str, segment: &str) -> String {
        let capital = match segment.chars().next() {
            Some(first) if first.is_ascii_lowercase() => {
                let rest = segment.get(1..).unwrap_or_default();
                Some(format!("{}{}", first.to_ascii_uppercase(), encode(rest)))
            }
            Some(_) | None => None,
        };
        // The soft hyphen is read as nothing.
        let hyphens = (1..).map(|count| "%C2%AD".repeat(count) + &encode(segment));
        let mut spellings = capital.into_iter().chain(hyphens);
        let free = spellings.find(|word| !self.raw.contains(&format!("{node}/{word}")));
        free.unwrap_or_default()
    }
}

/// How a text that was decoded is sent.
fn encode(text: &str) -> String {
    const SENT_ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#').add(b';');
    utf8_percent_encode(text, SENT_ENCODED).to_string()
}
