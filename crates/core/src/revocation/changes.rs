//! Revocations in the order in which they became known, for those that follow them.

use std::sync::Arc;

use super::{
    Generation, Revocations,
    journal::{Excerpt, Journal, Subject},
};
use crate::time::UnixTime;

/// A revocation as it is known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A token or a session is revoked; after `expires`, no valid token can match it.
    Ended {
        /// `jti` or `sid`.
        id: Arc<str>,
        /// The time after which it can be removed.
        expires: UnixTime,
    },
    /// The tokens of a user that have an earlier generation are revoked.
    Generation {
        /// `sub`.
        subject: Arc<str>,
        /// The lowest valid generation.
        generation: Generation,
        /// The time after which it can be removed.
        expires: UnixTime,
    },
    /// The tokens of a user are refused from now on, or are valid again.
    Activity {
        /// `sub`.
        subject: Arc<str>,
        /// Whether they are refused.
        inactive: bool,
    },
}

/// Changes in the order in which they became known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// As they are known now; changes that were removed since are left out.
    pub changes: Vec<Change>,
    /// The position of the last change; the next call continues after it.
    pub position: u64,
    /// Whether there are more changes now.
    pub more: bool,
}

impl Revocations {
    /// At most `most` changes that became known after a position; without a position, everything that is known, from
    /// the beginning. `None` without a journal, and if the journal does not have the position or everything after it.
    #[must_use]
    pub fn changes_after(&self, position: Option<u64>, most: usize) -> Option<Changes> {
        let journal = self.journal.as_ref()?;
        let Excerpt {
            lines,
            position,
            more,
        } = match position {
            Some(position) => journal.after(position, most)?,
            None => journal.beginning(most),
        };
        let (ended, generations) = (self.ended.pin(), self.generations.pin());
        let inactive = self.inactive.load();
        let change = |(of, name): (Subject, Arc<str>)| match of {
            Subject::Ended => ended.get(&name).map(|expires| Change::Ended {
                id: name,
                expires: *expires,
            }),
            Subject::Generation => generations.get(&name).map(|least| Change::Generation {
                subject: name,
                generation: least.generation,
                expires: least.expires,
            }),
            Subject::Activity => Some(Change::Activity {
                inactive: inactive.contains(&*name),
                subject: name,
            }),
        };
        Some(Changes {
            changes: lines.into_iter().filter_map(change).collect(),
            position,
            more,
        })
    }

    /// The position of the last change; 0 without a journal.
    #[must_use]
    pub fn last_position(&self) -> u64 {
        self.journal.as_ref().map_or(0, Journal::last)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn told(known: &Revocations, after: Option<u64>) -> Option<(Vec<String>, u64, bool)> {
        let Changes {
            changes,
            position,
            more,
        } = known.changes_after(after, 3)?;
        let names = changes.iter().map(|change| match change {
            Change::Ended { id, .. } => id.to_string(),
            Change::Generation {
                subject,
                generation,
                ..
            } => format!("{subject}<{}", generation.0),
            Change::Activity { subject, inactive } => format!("{subject}:{inactive}"),
        });
        Some((names.collect(), position, more))
    }

    #[test]
    fn a_follower_receives_only_changes_that_are_new_to_it() {
        let later = UnixTime(NOW.0 + 60);
        assert_eq!(told(&Revocations::new(None), None), None);
        let known = Revocations::new(None).with_journal();
        let some = |names: &[&str], position, more| {
            Some((
                names.iter().map(|name| (*name).into()).collect(),
                position,
                more,
            ))
        };
        assert_eq!(told(&known, None), some(&[], 0, false));
        known.end("a", later);
        known.end_before("7", Generation(5), later);
        known.set_inactive(["8".into()].into());
        known.end("b", later);
        assert_eq!(told(&known, None), some(&["a", "7<5", "8:true"], 3, true));
        assert_eq!(told(&known, Some(3)), some(&["b"], 4, false));
        assert_eq!(told(&known, Some(4)), some(&[], 4, false));
        assert_eq!(told(&known, Some(5)), None);
        // Revocations that were already known are not sent again.
        known.end("a", later);
        known.end_before("7", Generation(4), NOW);
        known.set_inactive(["8".into()].into());
        assert_eq!(told(&known, Some(4)), some(&[], 4, false));
        known.end("a", UnixTime(later.0 + 1));
        known.set_inactive(HashSet::new());
        assert_eq!(told(&known, Some(4)), some(&["a", "8:false"], 6, false));
        known.forget(NOW);
        assert_eq!(told(&known, None), some(&["7<5", "b", "a"], 5, true));
        assert_eq!(told(&known, Some(5)), some(&["8:false"], 6, false));
        known.forget(later);
        assert_eq!(told(&known, None), some(&["a", "8:false"], 6, false));
        assert_eq!(told(&known, Some(1)), some(&["a", "8:false"], 6, false));
    }

    /// If the journal has dropped a line that a follower has not read, the follower reads everything again.
    #[test]
    fn the_length_of_the_journal_is_bounded() {
        let known = Revocations::new(None).with_journal();
        for user in 0..10_010 {
            known.set_inactive([user.to_string().into()].into());
        }
        known.set_inactive(HashSet::new());
        known.forget(NOW);
        let all = known.changes_after(None, usize::MAX).unwrap().changes;
        assert_eq!(all.len(), 10_000);
        assert_eq!(known.changes_after(Some(1), 1), None);
        assert_eq!(
            known
                .changes_after(Some(known.last_position()), 1)
                .unwrap()
                .changes,
            []
        );
    }
}
