//! An error with its causes, on one line.

use std::{
    error::Error,
    fmt::{self, Display},
};

/// Shows an error and its causes, joined by colons. A cause whose text the error repeats itself is shown once.
pub(crate) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Display + 'a {
    Causes(error)
}

struct Causes<'a>(&'a (dyn Error + 'static));

impl Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            let own = cause.to_string();
            if !text.ends_with(&own) {
                text.push_str(": ");
                text.push_str(&own);
            }
            next = cause.source();
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("cannot be opened")]
        Without(#[source] io::Error),
        #[error("cannot be opened: {0}")]
        With(#[source] io::Error),
    }

    #[test]
    fn every_cause_is_shown_once() {
        let inner = || io::Error::other("no such file");
        for outer in [Outer::Without(inner()), Outer::With(inner())] {
            assert_eq!(causes(&outer).to_string(), "cannot be opened: no such file");
        }
        assert_eq!(causes(&inner()).to_string(), "no such file");
    }
}
