//! Patterns of rules: paths, in two readings, and hosts.

use std::fmt;

use super::RuleFault;
use crate::{
    path::{Path, Tolerance},
    request::Host,
};

/// A path, or everything at and below one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PathPattern {
    Exact { raw: String, loose: String },
    Prefix { raw: String, loose: String },
}

impl PathPattern {
    pub(crate) fn parse(text: &str) -> Result<Self, RuleFault> {
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

    /// Whether both readings of a path are inside.
    pub(crate) fn covers(&self, path: &Path<'_>) -> bool {
        let below = |own: &str, path: &str| {
            let rest = path.strip_prefix(own);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match self {
            Self::Exact { raw, loose } => path.as_str() == raw && path.loose() == loose,
            Self::Prefix { raw, loose } => below(raw, path.as_str()) && below(loose, path.loose()),
        }
    }

    pub(super) fn reads_the_same(&self) -> bool {
        match self {
            Self::Exact { raw, loose } | Self::Prefix { raw, loose } => raw == loose,
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
}

impl Reading {
    pub(super) fn of<'a>(self, raw: &'a str, loose: &'a str) -> &'a str {
        match self {
            Self::Raw => raw,
            Self::Loose => loose,
        }
    }
}

/// A host, or every host below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostPattern {
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
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(own) => f.write_str(own),
            Self::Below(own) => write!(f, "*.{own}"),
        }
    }
}
