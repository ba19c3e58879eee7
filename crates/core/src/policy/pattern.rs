//! Patterns of rules: paths, matched in two readings, and hosts.

use std::fmt;

use super::RuleFault;
use crate::{
    path::{Path, Tolerance},
    request::Host,
};

/// A path, or everything at and below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathPattern {
    Exact { raw: String, loose: String },
    Prefix { raw: String, loose: String },
}

impl PathPattern {
    pub(super) fn parse(text: &str) -> Result<Self, RuleFault> {
        let fault = |why: String| RuleFault::Path(text.into(), why);
        let (path, is_prefix) = match text.strip_suffix("/*") {
            Some("") => ("/", true),
            Some(path) => (path, true),
            None => (text, false),
        };
        if path.contains(['*', '?']) {
            return Err(fault("\"*\" stands only at the end, behind a slash".into()));
        }
        let parsed = Path::parse(path.as_bytes(), Tolerance::default())
            .map_err(|why| fault(why.to_string()))?;
        if path.len() > 1 && path.ends_with('/') {
            return Err(fault("it ends in a slash".into()));
        }
        let (mut raw, mut loose) = (path.to_owned(), parsed.loose().to_owned());
        if is_prefix && path == "/" {
            raw.clear();
            loose.clear();
        }
        Ok(match is_prefix {
            true => Self::Prefix { raw, loose },
            false => Self::Exact { raw, loose },
        })
    }

    pub(super) fn matches(&self, path: &str, reading: Reading) -> bool {
        let is_extension = |rest: &str| {
            matches!(reading, Reading::Extension) && rest.starts_with('.') && !rest.contains('/')
        };
        match self {
            Self::Exact { raw, loose } => path
                .strip_prefix(reading.of(raw, loose))
                .is_some_and(|rest| rest.is_empty() || is_extension(rest)),
            Self::Prefix { raw, loose } => path
                .strip_prefix(reading.of(raw, loose))
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || is_extension(rest)),
        }
    }

    pub(super) fn reads_the_same(&self) -> bool {
        match self {
            Self::Exact { raw, loose } | Self::Prefix { raw, loose } => raw == loose,
        }
    }

    pub(super) fn loosely_equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact { loose, .. }, Self::Exact { loose: other, .. })
            | (Self::Prefix { loose, .. }, Self::Prefix { loose: other, .. }) => loose == other,
            (Self::Exact { .. }, Self::Prefix { .. })
            | (Self::Prefix { .. }, Self::Exact { .. }) => false,
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact { raw, .. } => f.write_str(raw),
            Self::Prefix { raw, .. } => write!(f, "{raw}/*"),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Reading {
    Raw,
    Loose,
    /// Matches the loose reading, with or without the extension of the last segment.
    Extension,
}

impl Reading {
    pub(super) fn of<'a>(self, raw: &'a str, loose: &'a str) -> &'a str {
        match self {
            Self::Raw => raw,
            Self::Loose | Self::Extension => loose,
        }
    }
}

/// A host, or every host below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostPattern {
    Exact(String),
    Below(String),
}

impl HostPattern {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let is_host = Host::parse(name.as_bytes())?.name() == Some(name) && !name.contains(':');
        let name = is_host.then(|| name.to_ascii_lowercase())?;
        Some(if below {
            Self::Below(name)
        } else {
            Self::Exact(name)
        })
    }

    pub(super) fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(own) => host.eq_ignore_ascii_case(own),
            Self::Below(own) => host
                .len()
                .checked_sub(own.len())
                .and_then(|start| host.split_at_checked(start))
                .is_some_and(|(label, parent)| {
                    label.len() > 1 && label.ends_with('.') && parent.eq_ignore_ascii_case(own)
                }),
        }
    }

    pub(super) fn rank(&self) -> usize {
        match self {
            Self::Exact(_) => usize::MAX,
            Self::Below(own) => own.len(),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(own) => f.write_str(own),
            Self::Below(own) => write!(f, "*.{own}"),
        }
    }
}
