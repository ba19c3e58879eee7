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
    cursor::{Cursor, Position},
    query::Query,
};

/// Answers followers.
#[derive(Debug)]
pub struct Server {
    /// The name of this process, by which its cursors are known.
    replica: String,
    revoked: Arc<Revocations>,
}

/// An answer, and what kind it is.
#[derive(Debug)]
pub struct Answered {
    /// The answer as JSON.
    pub body: Vec<u8>,
    /// What it has.
    pub kind: Kind,
}

/// What an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing that is new.
    Empty,
    /// Changes after the cursor, or another content.
    Changes,
    /// A page of everything.
    Whole,
}

impl Server {
    /// Answers from these revocations, which have a journal.
    #[must_use]
    pub fn new(revoked: Arc<Revocations>) -> Self {
        let name = uuid::Uuid::new_v4().simple().to_string();
        Self {
            replica: name.get(..12).unwrap_or(&name).to_owned(),
            revoked,
        }
    }

    /// Answers a question at `now`, where this content is in force; `None` if there is no journal.
    #[must_use]
    pub fn answer(&self, query: &Query<'_>, content: &Rendered, now: UnixTime) -> Option<Answered> {
        // Before the changes: what was known then is among them.
        let age = self.age(now);
        let cursor = query.since.clone().unwrap_or_default();
        let known = cursor.at(&self.replica).and_then(|known| {
            let changes = self.revoked.changes_after(Some(known.at), MOST_CHANGES)?;
            Some((changes, known.until))
        });
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
        // Pages go on where there are more changes than when the list began, so that it comes to an end.
        let until = until.filter(|until| position < *until);
        let part = match (
            is_first,
            until.is_some(),
            known_list(&cursor, &self.replica),
        ) {
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

    /// Seconds since the tables were read; `None` if they never were. A clock that was set back makes it older.
    fn age(&self, now: UnixTime) -> Option<u64> {
        let read_at = self.revoked.read_at();
        (read_at.0 > 0).then(|| now.0.abs_diff(read_at.0))
    }
}

/// Whether the cursor is in the midst of a list of everything.
fn known_list(cursor: &Cursor, replica: &str) -> bool {
    cursor.at(replica).is_some_and(|own| own.until.is_some())
}
