//! The contents that a follower has received, and which of them may be put in force again.

use std::{collections::VecDeque, sync::Arc};

use doorward_core::time::UnixTime;

use super::{MOST_CONTENTS, content::Content};

/// The contents that a follower has received; the latest is the last.
#[derive(Debug, Default)]
pub(super) struct Contents {
    held: VecDeque<(String, Arc<Content>)>,
    /// The digests of the contents that were in force; the latest is the last.
    were: VecDeque<String>,
    /// When an answer last named the content in force.
    heard_at: Option<UnixTime>,
}

/// A content that was replaced is put in force again only if no answer has named its successor for so many seconds. During a
/// rollout of Doorward, old and new replicas answer in turn.
const SILENCE: u64 = 10;

impl Contents {
    /// The digests of the contents, so that they need not be sent again.
    pub(super) fn digests(&self) -> Vec<&str> {
        self.held.iter().map(|(digest, _)| &**digest).collect()
    }

    pub(super) fn find(&self, digest: &str) -> Option<Arc<Content>> {
        let held = self.held.iter().find(|(own, _)| own == digest);
        held.map(|(_, content)| Arc::clone(content))
    }

    /// Whether a content was replaced, and it is too early to put it in force again.
    pub(super) fn is_too_early(&self, digest: &str, now: UnixTime) -> bool {
        self.were.iter().any(|own| own == digest)
            && (self.heard_at).is_some_and(|at| now.0.abs_diff(at.0) < SILENCE)
    }

    /// Notes that an answer named the content in force.
    pub(super) fn heard(&mut self, now: UnixTime) {
        self.heard_at = Some(now);
    }

    /// Notes that a content was put in force.
    pub(super) fn put_in_force(&mut self, digest: &str) {
        self.were.retain(|own| own != digest);
        self.were.push_back(digest.to_owned());
        if self.were.len() > 2 * MOST_CONTENTS {
            self.were.pop_front();
        }
    }

    /// Keeps a content. Drops the oldest, but never the one in force.
    pub(super) fn hold(&mut self, digest: String, content: Content, in_force: Option<&str>) {
        self.held.retain(|(own, _)| *own != digest);
        self.held.push_back((digest, Arc::new(content)));
        if self.held.len() > MOST_CONTENTS {
            let oldest = self
                .held
                .iter()
                .position(|(own, _)| Some(&**own) != in_force);
            if let Some(oldest) = oldest {
                self.held.remove(oldest);
            }
        }
    }
}
