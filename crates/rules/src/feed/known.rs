//! The follower's side: what was learnt so far. Each answer is taken whole or not at all.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use doorward_core::{
    key::Key,
    policy::Policy,
    revocation::{Change, Revocations},
    time::UnixTime,
};

use super::{
    FORMAT, MOST_CONTENTS, MOST_REPLICAS, PATH,
    answer::{Answer, Part},
    content::{Content, IssuerEntry, KeyEntry, RuleEntry, Settings, TokenEntry},
    fault::{ContentFault, FeedFault},
    in_force::{InForce, Local},
};

/// What a follower brings along.
#[derive(Debug)]
pub struct Options {
    /// From which age on what is known is too old to accept a token; at most a year.
    pub stale_after: Duration,
    /// The keys of HS256 secrets, from files.
    pub secrets: Vec<Key>,
    /// Rules that are in force instead of those of the feed.
    pub policy: Option<Policy>,
    /// Other parts of the content that are in force instead of those of the feed.
    pub instead: Instead,
}

/// Parts of a content that a follower is given and that no feed replaces.
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
    /// The answer to the last question must repeat it.
    nonce: String,
    cursor: Option<String>,
    contents: Contents,
    /// What each replica has said last of its position; the latest heard is the last.
    positions: VecDeque<(String, u64)>,
    /// Inactive users of lists that are not complete, by replica.
    lists: HashMap<String, HashSet<Box<str>>>,
}

/// What an answer has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Whether there is more to ask for at once.
    pub more: bool,
    /// Whether [`Known::in_force`] is another one.
    pub exchanged: bool,
    /// How many changes it had.
    pub changes: usize,
    /// Whether all is known that the replica knows.
    pub complete: bool,
}

/// The contents that were heard of, the latest put in force last.
#[derive(Debug, Default)]
struct Contents {
    held: VecDeque<(String, Arc<Content>)>,
    /// The digests that were in force, the latest last.
    were: VecDeque<String>,
    /// When the one in force was last heard of.
    heard_at: Option<UnixTime>,
}

/// For how long the content in force must not have been heard of before one that it replaced is taken again. While
/// Doorward is rolled out, old and new replicas answer in turn.
const SILENCE: u64 = 10;

/// The most revocations and inactive users that are remembered.
const MOST_KNOWN: usize = 1_000_000;

/// By how much what a replica knows may be older than what is known, for it to say who is active again.
const LAG: u64 = 5;

const LONGEST_STALE_AFTER: Duration = Duration::from_secs(366 * 24 * 3600);

impl Known {
    /// Knows nothing yet, so that no token is accepted.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let Options {
            stale_after,
            secrets,
            policy,
            instead,
        } = options;
        Self {
            local: Local {
                secrets,
                policy,
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

    /// What a judge decides by without a feed: nothing that is revoked is ever known, and nothing is ever too old.
    ///
    /// # Errors
    ///
    /// Why it cannot be in force.
    pub fn without_feed(
        content: Content,
        secrets: Vec<Key>,
        policy: Option<Policy>,
    ) -> Result<InForce, ContentFault> {
        let mut local = Local {
            secrets,
            policy,
            ..Local::default()
        };
        let revoked = Arc::new(Revocations::new(None));
        InForce::make(Arc::new(content), String::new(), &mut local, &revoked, None)
    }

    /// Path and query of the next question. The answer to it alone is taken.
    pub fn question(&mut self) -> String {
        self.nonce = uuid::Uuid::new_v4().simple().to_string();
        let mut question = format!("{PATH}?format={FORMAT}&ask={}", self.nonce);
        if let Some(cursor) = &self.cursor {
            question.push_str("&since=");
            question.push_str(cursor);
        }
        let held: Vec<_> = (self.contents.held.iter())
            .map(|(digest, _)| &**digest)
            .collect();
        if !held.is_empty() {
            question.push_str("&have=");
            question.push_str(&held.join(","));
        }
        question
    }

    /// Forgets how far was read, so that everything is asked for again. What is revoked stays so.
    pub fn start_over(&mut self) {
        self.cursor = None;
        self.lists.clear();
    }

    /// What is revoked; its age is that of what was heard last.
    #[must_use]
    pub fn revoked(&self) -> &Arc<Revocations> {
        &self.revoked
    }

    /// What is in force; `None` before the first answer. As long as not everything was heard, it refuses every token
    /// as one that cannot be judged.
    #[must_use]
    pub fn in_force(&self) -> Option<&Arc<InForce>> {
        self.in_force.as_ref()
    }

    /// Takes an answer to the last question, which was asked at `now`.
    ///
    /// # Errors
    ///
    /// Why nothing of it was taken.
    pub fn take(&mut self, body: &[u8], now: UnixTime) -> Result<Taken, FeedFault> {
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
            self.contents.heard_at = Some(now);
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
        // A replica whose database is away must not undo what another one has said since. All that it knows was heard
        // from the other one.
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

    /// How old what is known is; nothing counts of what was heard before the clock was set back.
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
            // A list of everything begins at the beginning.
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

    /// What is in force next, where it is another than now.
    fn next_in_force(
        &mut self,
        answer: &Answer,
        now: UnixTime,
    ) -> Result<Option<InForce>, FeedFault> {
        let digest = &*answer.digest;
        let is_too_early = self.contents.was_replaced(digest)
            && (self.contents.heard_at).is_some_and(|at| now.0.abs_diff(at.0) < SILENCE);
        if self.digest_in_force() == Some(digest) || is_too_early {
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

    /// Revokes, and gives back who became inactive or active.
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

impl Contents {
    fn find(&self, digest: &str) -> Option<Arc<Content>> {
        let held = self.held.iter().find(|(own, _)| own == digest);
        held.map(|(_, content)| Arc::clone(content))
    }

    /// Whether a content was in force before the one that is now.
    fn was_replaced(&self, digest: &str) -> bool {
        self.were.iter().any(|own| own == digest)
    }

    fn put_in_force(&mut self, digest: &str) {
        self.were.retain(|own| own != digest);
        self.were.push_back(digest.to_owned());
        if self.were.len() > 2 * MOST_CONTENTS {
            self.were.pop_front();
        }
    }

    /// Keeps a content, so that it needs not be sent again; never drops the one in force.
    fn hold(&mut self, digest: String, content: Content, in_force: Option<&str>) {
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
