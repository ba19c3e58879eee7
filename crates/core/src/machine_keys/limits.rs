//! What a key is limited to, beyond the rights of its owner.

use crate::{
    account::{Role, Roles},
    path::Path,
    policy::PathPattern,
};

/// The most paths of one key.
pub const MAX_PATHS: usize = 16;

/// The longest of them, in bytes.
const LONGEST_PATH: usize = 256;

/// The limits of a key. They only take away: a key never has a right that its owner lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyLimits {
    /// The roles that the key keeps, if its owner has them; `None` for all roles of the owner.
    roles: Option<Roles>,
    /// The paths for which the key is accepted; none for all.
    paths: Vec<PathPattern>,
}

/// Why limits are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsFault {
    /// Not a path or a prefix.
    #[error("{0}")]
    Path(String),
    /// A path of more than 256 bytes.
    #[error("a path of more than {LONGEST_PATH} bytes")]
    LongPath,
    /// More than [`MAX_PATHS`] paths.
    #[error("more than {MAX_PATHS} paths")]
    TooManyPaths,
}

impl KeyLimits {
    /// Makes limits from roles and from paths as in a rule: `/repo`, or `/repo/*` with everything below it.
    ///
    /// # Errors
    ///
    /// The first path that no rule could have, or too many paths.
    pub fn new<'a>(
        roles: Option<Roles>,
        paths: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, LimitsFault> {
        let paths = paths
            .into_iter()
            .map(|path| match path.len() <= LONGEST_PATH {
                true => {
                    PathPattern::parse(path).map_err(|fault| LimitsFault::Path(fault.to_string()))
                }
                false => Err(LimitsFault::LongPath),
            })
            .collect::<Result<Vec<_>, _>>()?;
        match paths.len() <= MAX_PATHS {
            true => Ok(Self { roles, paths }),
            false => Err(LimitsFault::TooManyPaths),
        }
    }

    /// The roles of the key: at most those of its owner.
    #[must_use]
    pub fn roles_of(&self, owner: &Roles) -> Roles {
        let Some(own) = &self.roles else {
            return owner.clone();
        };
        let both = owner.iter().filter(|role| own.contains(role)).cloned();
        // At most as many as the owner has, so this cannot fail.
        Roles::collect(both).unwrap_or_default()
    }

    /// Whether the key is accepted for a path: both readings must be inside one of its paths.
    #[must_use]
    pub fn accept(&self, path: &Path<'_>) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|own| own.covers(path))
    }

    /// The names of the roles, if there is a limit.
    #[must_use]
    pub fn roles(&self) -> Option<Vec<&str>> {
        let roles = self.roles.as_ref()?;
        Some(roles.iter().map(Role::as_str).collect())
    }

    /// The paths as they were written.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.paths.iter().map(ToString::to_string).collect()
    }
}
