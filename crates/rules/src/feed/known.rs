//! The follower's side: what it has learnt. It takes each answer completely or not at all.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use doorward_core::{
    key::Key,
    revocation::{Change, Revocations},
    time::UnixTime,
};

use super::{
    FORMAT, MOST_REPLICAS, PATH,
    answer::{Answer, Part},
    content::{Content, IssuerEntry, KeyEntry, RuleEntry, Settings, TokenEntry},
    contents::Contents,
    fault::{ContentFault, FeedFault},
    in_force::{InForce, Local},
};

/// What a follower is configured with.
#[derive(Debug)]
pub struct Options {
    /// The age beyond which no token is accepted; at most a year.
    pub stale_after: Duration,
    /// The keys of HS256 secrets, from files.
    pub secrets: Vec<Key>,
    /// Parts of the content that are in force instead of those of the feed.
    pub instead: Instead,
}

/// Sections of the content that a follower is configured with; they replace those of the feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Instead {
    /// Instead of [`Content::keys`].
    pub keys: Option<Vec<KeyEntry>>,
    /// Instead of [`Content::token`].
    pub token: Option<TokenEntry>,
    /// Instead of [`Content::issuers`].
    pub issuers: Option<Vec<IssuerEntry>>,
    /// Instead of [`Content::rules`].
    pub rules: Option<Vec<RuleEntry>>,
    /// Instead of [`Content::settings`].
    pub settings: Option<Settings>,
}

impl Instead {
    fn over(&self, content: Content) -> Content {
        let Self {
            keys,
            token,
            issuers,
            rules,
            settings,
        } = self.clone();
        Content {
            keys: keys.unwrap_or(content.keys),
            token: token.unwrap_or(content.token),
            issuers: issuers.unwrap_or(content.issuers),
            rules: rules.unwrap_or(content.rules),
            settings: settings.unwrap_or(content.settings),
        }
    }
}

/// What a follower knows.
#[derive(Debug)]
pub struct Known {
    local: Local,
    instead: Instead,
    revoked: Arc<Revocations>,
    in_force: Option<Arc<InForce>>,
    /// The text that the answer to the last request must repeat.
    nonce: String,
    cursor: Option<String>,
    contents: Contents,
    /// The last known position of each replica; the replica that answered last is the last.
    positions: VecDeque<(String, u64)>,
    /// Inactive users of incomplete lists, by replica.
    lists: HashMap<String, HashSet<Box<str>>>,
}

/// What an answer has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether to send the next request at once.
    pub more: bool,
    /// Whether [`Known::in_force`] is another one.
    pub exchanged: bool,
    /// The number of changes in the answer.
    pub changes: usize,
    /// Whether the follower now knows all that the replica knows.
    pub complete: bool,
}

/// The most revocations and inactive users that are kept.
const MOST_KNOWN: usize = 1_000_000;

/// A replica whose last read is older than the follower's by more seconds than this does not change who is inactive.
const LAG: u64 = 5;

const LONGEST_STALE_AFTER: Duration = Duration::from_secs(366 * 24 * 3600);

impl Known {
    /// Knows nothing yet, so that no token is accepted.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let Options {
            stale_after,
            secrets,
            instead,
        } = options;
        Self {
            local: Local {
                secrets,
                ..Local::default()
            },
            instead,
            revoked: Arc::new(Revocations::new(Some(stale_after.min(LONGEST_STALE_AFTER)))),
            in_force: None,
            nonce: String::new(),
            cursor: None,
            contents: Contents::default(),
            positions: VecDeque::new(),
            lists: HashMap::new(),
        }
    }

    /// Makes a judge without a feed: it knows no revocation, and its content is never too old.
    ///
    /// # Errors
    ///
    /// Why the content cannot be put in force.
    pub fn without_feed(content: Content, secrets: Vec<Key>) -> Result<InForce, ContentFault> {
        let mut local = Local {
            secrets,
            ..Local::default()
        };
        let revoked = Arc::new(Revocations::new(None));
        InForce::make(Arc::new(content), String::new(), &mut local, &revoked, None)
    }

    /// Path and query of the next request. Only the answer to it is taken.
    pub fn question(&mut self) -> String {
        self.nonce = uuid::Uuid::new_v4().simple().to_string();
        let mut question = format!("{PATH}?format={FORMAT}&ask={}", self.nonce);
        if let Some(cursor) = &self.cursor {
            question.push_str("&since=");
            question.push_str(cursor);
        }
        let held = self.contents.digests();
        if !held.is_empty() {
            question.push_str("&have=");
            question.push_str(&held.join(","));
        }
        question
    }

    /// Forgets the cursor, so that the next request asks for everything. Revocations stay.
    pub fn start_over(&mut self) {
        self.cursor = None;
        self.lists.clear();
    }

    /// The revocations. Their age is that of the last complete answer.
    #[must_use]
    pub fn revoked(&self) -> &Arc<Revocations> {
        &self.revoked
    }

    /// What is in force; `None` before the first answer. Until the first feed is complete, it refuses every token as
    /// unavailable.
    #[must_use]
    pub fn in_force(&self) -> Option<&Arc<InForce>> {
        self.in_force.as_ref()
    }

    /// Takes the answer to the last request, which was sent at `now`.
    ///
    /// # Errors
    ///
    /// Why nothing of it was taken. If the answer does not fit to what was read before, the next request asks for everything.
    pub fn take(&mut self, body: &[u8], now: UnixTime) -> Result<Taken, FeedFault> {
        let taken = self.take_whole(body, now);
        if let Err(FeedFault::NoContent | FeedFault::OutOfStep | FeedFault::RolledBack { .. }) =
            taken
        {
            self.start_over();
        }
        taken
    }

    fn take_whole(&mut self, body: &[u8], now: UnixTime) -> Result<Taken, FeedFault> {
        let answer = Answer::read(body)?;
        if self.nonce.is_empty() || answer.answers != self.nonce {
            return Err(FeedFault::Replayed);
        }
        self.check_position(&answer)?;
        self.check_part(&answer)?;
        let room = MOST_KNOWN.saturating_sub(self.revoked.len());
        if answer.changes.len() > room {
            return Err(FeedFault::Many(MOST_KNOWN));
        }
        let put_in_force = self.next_in_force(&answer, now)?;

        // Nothing is refused from here on.
        self.nonce.clear();
        let exchanged = put_in_force.is_some();
        if let Some(next) = put_in_force {
            self.contents.put_in_force(&next.digest);
            self.in_force = Some(Arc::new(next));
        }
        if self.digest_in_force() == Some(&*answer.digest) {
            self.contents.heard(now);
        }
        let Answer {
            replica,
            position,
            next,
            age,
            part,
            more,
            digest,
            content,
            changes,
            ..
        } = answer;
        if let Some(content) = content {
            let in_force = self.in_force.as_deref().map(|own| own.digest.clone());
            self.contents.hold(digest, content, in_force.as_deref());
        }
        self.cursor = Some(next);
        self.positions.retain(|(own, _)| *own != replica);
        self.positions.push_back((replica.clone(), position));
        if self.positions.len() > MOST_REPLICAS
            && let Some((lost, _)) = self.positions.pop_front()
        {
            self.lists.remove(&lost);
        }
        let read_at = age.map(|age| UnixTime(now.0.saturating_sub(age)));
        let count = changes.len();
        let changes = changes.into_iter().map(|entry| entry.0);
        let activity = self.revoke(changes);
        // A replica whose database is down must not undo what another one has said since.
        let knows_enough = read_at.is_some_and(|at| at.0 + LAG >= self.last_read(now).0);
        self.set_activity(&replica, part, activity, knows_enough);
        let complete = !more && !matches!(part, Part::First | Part::Middle) && read_at.is_some();
        if let Some(read_at) = read_at
            && complete
            && (read_at > self.last_read(now))
        {
            self.revoked.have_been_read(read_at);
        }
        Ok(Taken {
            more,
            exchanged,
            changes: count,
            complete,
        })
    }

    /// When the tables were last read; 0 if that is in the future, because the clock was set back.
    fn last_read(&self, now: UnixTime) -> UnixTime {
        let read_at = self.revoked.read_at();
        match read_at <= now {
            true => read_at,
            false => UnixTime(0),
        }
    }

    fn digest_in_force(&self) -> Option<&str> {
        self.in_force.as_ref().map(|own| &*own.digest)
    }

    fn check_position(&self, answer: &Answer) -> Result<(), FeedFault> {
        let before = self
            .positions
            .iter()
            .find(|(own, _)| *own == answer.replica);
        match (before, answer.part) {
            // The first page of a list is before the end of the journal.
            (_, Part::First) | (None, _) => Ok(()),
            (Some((_, was)), _) if answer.position < *was => Err(FeedFault::RolledBack {
                replica: answer.replica.clone(),
                was: *was,
                is: answer.position,
            }),
            (Some(_), _) => Ok(()),
        }
    }

    fn check_part(&self, answer: &Answer) -> Result<(), FeedFault> {
        match answer.part {
            Part::Middle | Part::Last if !self.lists.contains_key(&answer.replica) => {
                Err(FeedFault::OutOfStep)
            }
            Part::Middle | Part::Last | Part::Changes | Part::Only | Part::First => Ok(()),
        }
    }

    /// What is in force next, if it changes.
    fn next_in_force(
        &mut self,
        answer: &Answer,
        now: UnixTime,
    ) -> Result<Option<InForce>, FeedFault> {
        let digest = &*answer.digest;
        if self.digest_in_force() == Some(digest) || self.contents.is_too_early(digest, now) {
            return Ok(None);
        }
        let content = match (&answer.content, self.contents.find(digest)) {
            (Some(content), _) => content.clone(),
            (None, Some(held)) => Content::clone(&held),
            (None, None) => return Err(FeedFault::NoContent),
        };
        let content = Arc::new(self.instead.over(content));
        let next = InForce::make(
            content,
            answer.digest.clone(),
            &mut self.local,
            &self.revoked,
            self.in_force.as_deref(),
        );
        Ok(Some(next?))
    }

    /// Adds revocations; returns the users that became inactive or active.
    fn revoke(&self, changes: impl Iterator<Item = Change>) -> Vec<(Arc<str>, bool)> {
        let mut activity = Vec::new();
        for change in changes {
            match change {
                Change::Ended { id, expires } => self.revoked.end(&id, expires),
                Change::Generation {
                    subject,
                    generation,
                    expires,
                } => self.revoked.end_before(&subject, generation, expires),
                Change::Activity { subject, inactive } => activity.push((subject, inactive)),
            }
        }
        activity
    }

    fn set_activity(
        &mut self,
        replica: &str,
        part: Part,
        activity: Vec<(Arc<str>, bool)>,
        knows_enough: bool,
    ) {
        let set = |users: &mut HashSet<Box<str>>| {
            for (user, inactive) in activity {
                match inactive {
                    true => users.insert((&*user).into()),
                    false => users.remove(&*user),
                };
            }
        };
        let complete = match part {
            Part::Changes => {
                let mut users = HashSet::clone(&self.revoked.inactive());
                set(&mut users);
                Some(users)
            }
            Part::Only => {
                let mut users = HashSet::new();
                set(&mut users);
                Some(users)
            }
            Part::First | Part::Middle => {
                let users = self.lists.entry(replica.to_owned()).or_default();
                if part == Part::First {
                    users.clear();
                }
                set(users);
                None
            }
            Part::Last => {
                let mut users = self.lists.remove(replica).unwrap_or_default();
                set(&mut users);
                Some(users)
            }
        };
        if let Some(users) = complete
            && knows_enough
        {
            self.revoked.set_inactive(users);
        }
    }
}
