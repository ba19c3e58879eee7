//! Which tokens are revoked before they expire. Every replica fills this memory from the same tables.
//!
//! Every Bearer request reads it, without a lock. It holds only entries that can match a token that has not expired.

mod changes;
mod journal;

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

pub use self::changes::{Change, Changes};
use self::journal::{Journal, Subject};
use super::time::UnixTime;

/// Revoked tokens, sessions and generations.
pub struct Revocations {
    /// Tokens by `jti` and sessions by `sid`, each with the time after which no valid token can match it.
    ended: papaya::HashMap<Arc<str>, UnixTime>,
    /// The lowest valid generation of each user's tokens.
    generations: papaya::HashMap<Arc<str>, Least>,
    /// Users whose tokens are refused as long as they are in this set.
    inactive: ArcSwap<HashSet<Box<str>>>,
    /// When the tables were last read.
    read_at: AtomicU64,
    /// If the last read is older, no token is accepted.
    refuses_after: Option<Duration>,
    /// The order in which entries became known, if the feed is on.
    journal: Option<Journal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Least {
    generation: Generation,
    expires: UnixTime,
}

/// A number that grows whenever all tokens of a user are revoked; tokens carry the one in which they were issued.
/// Milliseconds since 1970, so that it never repeats after its row was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// The parts of a token by which it can be revoked.
#[derive(Clone, Copy)]
pub struct Endings<'a> {
    /// `sub`.
    pub subject: &'a str,
    /// `jti`.
    pub token: &'a str,
    /// `sid`, if the token was issued with a refresh token.
    pub session: Option<&'a str>,
    /// `gen`.
    pub generation: Generation,
}

impl Revocations {
    /// Starts empty. With `refuses_after`, no token is accepted if the last read of the tables is older than that.
    #[must_use]
    pub fn new(refuses_after: Option<Duration>) -> Self {
        Self {
            ended: papaya::HashMap::new(),
            generations: papaya::HashMap::new(),
            inactive: ArcSwap::default(),
            read_at: AtomicU64::new(0),
            refuses_after,
            journal: None,
        }
    }

    /// The same, with a journal for [`Revocations::changes_after`]. Call it before anything is revoked.
    #[must_use]
    pub fn with_journal(self) -> Self {
        Self {
            journal: Some(Journal::default()),
            ..self
        }
    }

    /// Whether a token is revoked.
    #[must_use]
    pub fn have_ended(&self, of: Endings<'_>) -> bool {
        let ended = |id: &str| self.ended.pin().contains_key(id);
        let outdated = || {
            let least = self.generations.pin().get(of.subject).copied();
            least.is_some_and(|least| of.generation < least.generation)
        };
        (!self.ended.is_empty() && (ended(of.token) || of.session.is_some_and(ended)))
            || (!self.generations.is_empty() && outdated())
            || self.is_inactive(of.subject)
    }

    /// Whether the last read is too old to accept a token.
    #[must_use]
    pub fn are_stale(&self, now: UnixTime) -> bool {
        self.refuses_after.is_some_and(|limit| {
            // A last read in the future means that the clock was set back.
            let age = now.0.abs_diff(self.read_at.load(Ordering::Relaxed));
            age > limit.as_secs()
        })
    }

    /// Revokes one token or session; after `expires`, no valid token can match the entry.
    pub fn end(&self, id: &str, expires: UnixTime) {
        let ended = self.ended.pin();
        // Most rows of a table were read before.
        if ended.get(id).is_some_and(|known| *known >= expires) {
            return;
        }
        let id: Arc<str> = id.into();
        let later = |known: &UnixTime| expires.max(*known);
        ended.update_or_insert(Arc::clone(&id), later, expires);
        self.note(Subject::Ended, id);
    }

    /// Revokes all tokens of a user with an earlier generation; all of them have expired at `expires`.
    pub fn end_before(&self, subject: &str, generation: Generation, expires: UnixTime) {
        let least = Least {
            generation,
            expires,
        };
        let later = |known: &Least| Least {
            generation: generation.max(known.generation),
            expires: expires.max(known.expires),
        };
        let generations = self.generations.pin();
        if generations
            .get(subject)
            .is_some_and(|known| later(known) == *known)
        {
            return;
        }
        let subject: Arc<str> = subject.into();
        generations.update_or_insert(Arc::clone(&subject), later, least);
        self.note(Subject::Generation, subject);
    }

    /// Writes to the journal. Call it after the entry of the name has changed.
    fn note(&self, of: Subject, name: Arc<str>) {
        if let Some(journal) = &self.journal {
            journal.write(of, name);
        }
    }

    /// The lowest valid generation of a user's tokens that is known here.
    #[must_use]
    pub fn generation(&self, subject: &str) -> Generation {
        let least = self.generations.pin().get(subject).copied();
        least.map_or_else(Generation::default, |least| least.generation)
    }

    /// Replaces the set of users whose tokens are refused.
    pub fn set_inactive(&self, ids: HashSet<Box<str>>) {
        let new = Arc::new(ids);
        let old = self.inactive.swap(Arc::clone(&new));
        if self.journal.is_some() && old != new {
            for id in old.symmetric_difference(&new) {
                self.note(Subject::Activity, (&**id).into());
            }
        }
    }

    /// Whether a user's tokens and keys are refused.
    #[must_use]
    pub fn is_inactive(&self, subject: &str) -> bool {
        self.inactive.load().contains(subject)
    }

    /// The users whose tokens are refused.
    #[must_use]
    pub fn inactive(&self) -> Arc<HashSet<Box<str>>> {
        self.inactive.load_full()
    }

    /// Notes that the tables were read at `now`.
    pub fn have_been_read(&self, now: UnixTime) {
        self.read_at.store(now.0, Ordering::Relaxed);
    }

    /// Removes entries that no valid token can match at `now`, which is the earliest of the clocks that matter. Checks every
    /// entry.
    pub fn forget(&self, now: UnixTime) {
        self.ended.pin().retain(|_, expires| *expires > now);
        self.generations
            .pin()
            .retain(|_, least| least.expires > now);
        if let Some(journal) = &self.journal {
            let (ended, generations) = (self.ended.pin(), self.generations.pin());
            let inactive = self.inactive.load();
            journal.tidy(|of, name| match of {
                Subject::Ended => ended.contains_key(name),
                Subject::Generation => generations.contains_key(name),
                Subject::Activity => inactive.contains(name),
            });
        }
    }

    /// When the tables were last read.
    #[must_use]
    pub fn read_at(&self) -> UnixTime {
        UnixTime(self.read_at.load(Ordering::Relaxed))
    }

    /// The number of entries: revocations, generations and inactive users.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ended.len() + self.generations.len() + self.inactive.load().len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Revocations {
    fn default() -> Self {
        Self::new(None)
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revocations({})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn token(generation: u64) -> Endings<'static> {
        Endings {
            subject: "7",
            token: "t",
            session: Some("s"),
            generation: Generation(generation),
        }
    }

    #[test]
    fn tokens_sessions_and_generations_can_be_revoked() {
        let later = UnixTime(NOW.0 + 60);
        let known = Revocations::new(None);
        assert!(!known.have_ended(token(0)));
        known.end("other", later);
        assert!(!known.have_ended(token(0)));
        known.end("t", later);
        assert!(known.have_ended(token(0)));

        let known = Revocations::new(None);
        known.end("s", later);
        assert!(known.have_ended(token(0)));

        let known = Revocations::new(None);
        known.end_before("7", Generation(5), later);
        assert!(known.have_ended(token(0)) && known.have_ended(token(4)));
        assert!(!known.have_ended(token(5)) && !known.have_ended(token(6)));
        // An older generation does not replace a newer one.
        known.end_before("7", Generation(3), later);
        assert!(known.have_ended(token(4)));
        assert_eq!(known.generation("7"), Generation(5));

        let known = Revocations::new(None);
        known.set_inactive(["7".into()].into());
        assert!(known.have_ended(token(9)));
        known.set_inactive(HashSet::new());
        assert!(!known.have_ended(token(9)));
    }

    #[test]
    fn expired_revocations_are_removed() {
        let known = Revocations::new(None);
        known.end("t", UnixTime(NOW.0 + 10));
        known.end_before("7", Generation(5), UnixTime(NOW.0 + 20));
        for (after, left) in [(0, 2), (9, 2), (10, 1), (20, 0)] {
            known.forget(UnixTime(NOW.0 + after));
            assert_eq!(known.len(), left, "{after}");
        }
    }

    /// Any of the writers may have a slow clock.
    #[test]
    fn a_repeated_revocation_never_expires_earlier() {
        for expiries in [[10, 30], [30, 10]] {
            let known = Revocations::new(None);
            for (generation, after) in (5..).zip(expiries) {
                known.end("t", UnixTime(NOW.0 + after));
                known.end_before("7", Generation(generation), UnixTime(NOW.0 + after));
            }
            known.forget(UnixTime(NOW.0 + 29));
            assert_eq!(known.len(), 2, "{expiries:?}");
            known.forget(UnixTime(NOW.0 + 30));
            assert_eq!(known.len(), 0, "{expiries:?}");
        }
    }

    #[test]
    fn staleness_is_checked_only_if_configured() {
        assert!(!Revocations::new(None).are_stale(NOW));
        let known = Revocations::new(Some(Duration::from_secs(30)));
        assert!(known.are_stale(NOW));
        known.have_been_read(NOW);
        assert!(!known.are_stale(UnixTime(NOW.0 + 30)));
        assert!(known.are_stale(UnixTime(NOW.0 + 31)));
        // The clock was set back by three days.
        assert!(known.are_stale(UnixTime(NOW.0 - 3 * 86400)));
        assert!(!known.are_stale(UnixTime(NOW.0 - 2)));
    }
}
