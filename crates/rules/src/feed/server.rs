//! Doorward's side: answers from memory.

use std::sync::Arc;

use doorward_core::{
    revocation::{Changes, Revocations},
    time::UnixTime,
};

use super::{
    FORMAT, MOST_CHANGES,
    answer::{Entry, Part, Written},
    content::Rendered,
    cursor::Position,
    query::Query,
};

/// Answers followers.
#[derive(Debug)]
pub struct Server {
    /// The name of this process in cursors.
    replica: String,
    revoked: Arc<Revocations>,
}

/// An answer and its kind.
#[derive(Debug)]
pub struct Answered {
    /// The answer as JSON.
    pub body: Vec<u8>,
    /// What it contains.
    pub kind: Kind,
}

/// What an answer contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing new.
    Empty,
    /// Changes after the cursor, or another content.
    Changes,
    /// A page of everything.
    Whole,
}

impl Server {
    /// Answers from these revocations. They must have a journal.
    #[must_use]
    pub fn new(revoked: Arc<Revocations>) -> Self {
        let name = uuid::Uuid::new_v4().simple().to_string();
        Self {
            replica: name.get(..12).unwrap_or(&name).to_owned(),
            revoked,
        }
    }

    /// Answers a request at `now`, with this content in force; `None` if there is no journal.
    #[must_use]
    pub fn answer(&self, query: &Query<'_>, content: &Rendered, now: UnixTime) -> Option<Answered> {
        // Read before the changes, so that the changes are at least as new as the age says.
        let age = self.age(now);
        let cursor = query.since.clone().unwrap_or_default();
        let known = cursor.at(&self.replica).and_then(|known| {
            let changes = self.revoked.changes_after(Some(known.at), MOST_CHANGES)?;
            Some((changes, known.until))
        });
        let was_in_list = matches!(known, Some((_, Some(_))));
        let (changes, until, is_first) = match known {
            Some((changes, until)) => (changes, until, false),
            None => {
                let end = self.revoked.last_position();
                (
                    self.revoked.changes_after(None, MOST_CHANGES)?,
                    Some(end),
                    true,
                )
            }
        };
        let Changes {
            changes,
            position,
            more,
        } = changes;
        // The list ends where the journal ended at its first page. So it ends, however many changes are added meanwhile.
        let until = until.filter(|until| position < *until);
        let part = match (is_first, until.is_some(), was_in_list) {
            (true, true, _) => Part::First,
            (true, false, _) => Part::Only,
            (false, true, _) => Part::Middle,
            (false, false, true) => Part::Last,
            (false, false, false) => Part::Changes,
        };
        let is_held = query.have.contains(&&*content.digest);
        let kind = match part {
            Part::Changes if changes.is_empty() && is_held => Kind::Empty,
            Part::Changes => Kind::Changes,
            Part::Only | Part::First | Part::Middle | Part::Last => Kind::Whole,
        };
        let next = cursor.with(Position {
            replica: self.replica.clone(),
            at: position,
            until,
        });
        let written = Written {
            format: FORMAT,
            answers: query.ask,
            replica: &self.replica,
            position,
            next: next.to_string(),
            age,
            part,
            more,
            digest: &content.digest,
            content: (!is_held).then_some(&*content.json),
            changes: changes.into_iter().map(Entry).collect(),
        };
        Some(Answered {
            body: serde_json::to_vec(&written).ok()?,
            kind,
        })
    }

    /// Seconds since the tables were read; `None` if they never were. If the clock was set back, the distance counts.
    fn age(&self, now: UnixTime) -> Option<u64> {
        let read_at = self.revoked.read_at();
        (read_at.0 > 0).then(|| now.0.abs_diff(read_at.0))
    }
}
