//! Keys for machines: one row each. A row is never removed by Doorward, so that the table says who had which key.

use sqlx::{AssertSqlSafe, Row as _};
use tokio::time::Instant;

use super::{Mark, State, mark::Since, text, unsigned};
use crate::{
    domain::{
        account::{Roles, Username},
        machine_key::{KeyHash, KeyName, MachineKeyId},
        machine_keys::{KeyLimits, Use},
        token::UnixTime,
    },
    tables::database::{Fault, StoredText, Write, ask, query, question_marks},
};

/// Rows per page.
const PAGE: i64 = 2_000;

/// Uses per statement.
const USES: usize = 200;

const COLUMNS: &str = "key_id, user_id, username, name, key_hash, roles, paths, created_at, expires_at, used_at, ended_at, changed_at";

/// A row of `doorward_keys`.
#[derive(Clone, Debug)]
pub struct KeyRow {
    /// The public half of the key.
    pub id: MachineKeyId,
    /// The id of the owner, and the name under which the owner's row is found.
    pub user_id: String,
    pub username: Username,
    pub name: KeyName,
    pub hash: KeyHash,
    pub limits: KeyLimits,
    /// By the clock of the program that made the key.
    pub created: UnixTime,
    pub expires: Option<UnixTime>,
    /// The last use, to the minute; 0 for never.
    pub used: UnixTime,
    pub ended: bool,
}

impl KeyRow {
    pub(crate) fn state(&self, now: UnixTime) -> KeyState {
        match (self.ended, self.expires) {
            (true, _) => KeyState::Ended,
            (false, Some(expires)) if expires <= now => KeyState::Expired,
            (false, _) => KeyState::Usable,
        }
    }

    /// Whether the key is accepted at this time, if its owner is.
    pub(crate) fn is_usable(&self, now: UnixTime) -> bool {
        self.state(now) == KeyState::Usable
    }
}

/// Whether a key can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyState {
    Usable,
    Expired,
    Ended,
}

impl KeyState {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Usable => "usable",
            Self::Expired => "expired",
            Self::Ended => "ended",
        }
    }
}

/// A row as it is stored.
struct Stored {
    id: String,
    user_id: String,
    username: String,
    name: String,
    hash: String,
    roles: Option<String>,
    paths: String,
    created: i64,
    expires: Option<i64>,
    used: i64,
    ended: Option<i64>,
    changed: i64,
}

/// Which keys a command or a person asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum KeysOf<'a> {
    Everybody,
    User(&'a str),
    /// At most one.
    Id(MachineKeyId),
}

macro_rules! stored {
    ($row:expr) => {{
        let roles: Option<StoredText> = $row.try_get("roles")?;
        Stored {
            id: $row.try_get("key_id")?,
            user_id: text($row.try_get("user_id")?),
            username: text($row.try_get("username")?),
            name: $row.try_get("name")?,
            hash: $row.try_get("key_hash")?,
            roles: roles.map(text),
            paths: text($row.try_get("paths")?),
            created: $row.try_get("created_at")?,
            expires: $row.try_get("expires_at")?,
            used: $row.try_get("used_at")?,
            ended: $row.try_get("ended_at")?,
            changed: $row.try_get("changed_at")?,
        }
    }};
}

impl Stored {
    /// The row; `None` if another program has written something that Doorward does not write. Such a key is not accepted.
    fn read(&self) -> Option<KeyRow> {
        let roles = match &self.roles {
            None => None,
            Some(list) => Some(Roles::parse_list(list).ok()?),
        };
        Some(KeyRow {
            id: MachineKeyId::parse(&self.id)?,
            user_id: self.user_id.clone(),
            username: Username::parse(&self.username)?,
            name: KeyName::parse(&self.name)?,
            hash: KeyHash::parse(&self.hash)?,
            limits: KeyLimits::new(roles, self.paths.lines()).ok()?,
            created: UnixTime(unsigned(self.created)),
            expires: self.expires.map(|expires| UnixTime(unsigned(expires))),
            used: UnixTime(unsigned(self.used)),
            ended: self.ended.is_some(),
        })
    }
}

impl State {
    /// The write that adds a key.
    pub(crate) fn adding_key(&self, key: &KeyRow) -> Write {
        let stamp = self.stamp();
        let roles = key.limits.roles().map(|roles| roles.join(","));
        Write::new(
            format!(
                "INSERT INTO doorward_keys ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, NULL, {stamp})"
            ),
            [
                key.id.to_string().into(),
                (&*key.user_id).into(),
                key.username.as_str().into(),
                key.name.as_str().into(),
                key.hash.to_string().into(),
                roles.as_deref().into(),
                key.limits.paths().join("\n").into(),
                key.created.0.into(),
                key.expires.map(|expires| expires.0).into(),
            ],
        )
    }

    /// The write that ends a key, if it is not ended yet.
    pub(crate) fn ending_key(&self, id: MachineKeyId) -> Write {
        let (clock, stamp) = (self.clock(), self.stamp());
        let sql = format!(
            "UPDATE doorward_keys SET ended_at = {clock}, changed_at = {stamp} WHERE key_id = ? AND ended_at IS NULL"
        );
        Write::new(sql, [id.to_string().into()]).needs_a_row()
    }

    /// The write that lets a key expire, unless it expires earlier anyway.
    pub(crate) fn expiring_key(&self, id: MachineKeyId, expires: UnixTime) -> Write {
        let (least, stamp) = (self.least(), self.stamp());
        let sql = format!(
            "UPDATE doorward_keys SET expires_at = {least}(COALESCE(expires_at, ?), ?), changed_at = {stamp} WHERE key_id = ? AND ended_at IS NULL"
        );
        let expires = expires.0;
        let values = [expires.into(), expires.into(), id.to_string().into()];
        Write::new(sql, values).needs_a_row()
    }

    /// The writes that note uses. The rows do not count as changed, so that no replica reads them again.
    pub(crate) fn noting_uses(&self, uses: &[Use]) -> Vec<Write> {
        let greatest = self.greatest();
        let chunks = uses.chunks(USES).map(|uses| {
            let places = question_marks(uses.len());
            let latest = uses.iter().map(|used| used.at.0).max().unwrap_or_default();
            let mut values = vec![latest.into()];
            values.extend(uses.iter().map(|used| used.id.to_string().into()));
            let sql = format!(
                "UPDATE doorward_keys SET used_at = {greatest}(used_at, ?) WHERE key_id IN ({places})"
            );
            Write::of(sql, values)
        });
        chunks.collect()
    }

    /// Keys, by owner and time.
    ///
    /// # Errors
    ///
    /// The fault of the database.
    pub(crate) async fn keys(&self, of: KeysOf<'_>) -> Result<Vec<KeyRow>, Fault> {
        let condition = match of {
            KeysOf::Everybody => "TRUE",
            KeysOf::User(_) => "user_id = ?",
            KeysOf::Id(_) => "key_id = ?",
        };
        let sql = AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM doorward_keys WHERE {condition} ORDER BY user_id, created_at, key_id"
        ));
        let stored: Result<Vec<Stored>, Fault> = ask!(&self.connections, connection => {
            let query = query(sql);
            let query = match of {
                KeysOf::Everybody => query,
                KeysOf::User(user_id) => query.bind(user_id.to_owned()),
                KeysOf::Id(id) => query.bind(id.to_string()),
            };
            let rows = query.fetch_all(connection).await?;
            let mut stored = Vec::with_capacity(rows.len());
            for row in &rows {
                stored.push(stored!(row));
            }
            Ok(stored)
        });
        Ok(stored?.iter().filter_map(Stored::read).collect())
    }

    /// Calls `see` with every key that has changed since the mark, and with `None` for the id of a row that cannot be used.
    /// Reads page by page, each within the timeout, and returns the new mark.
    ///
    /// # Errors
    ///
    /// The fault of the database.
    pub async fn read_keys(
        &self,
        mark: &Mark,
        mut see: impl FnMut(Option<MachineKeyId>, Option<KeyRow>),
    ) -> Result<Mark, Fault> {
        let began = Instant::now();
        let since = mark.since(began);
        let (mut rows_read, mut newest) = (0, None);
        let mut last = None::<(i64, String)>;
        loop {
            let condition = match (&last, since) {
                (Some(_), _) => self.after_last("key_id", "?"),
                (None, Since::Always) => "TRUE".to_owned(),
                (None, Since::Change { .. }) => self.changed_since(),
            };
            let sql = AssertSqlSafe(format!(
                "SELECT {COLUMNS} FROM doorward_keys WHERE {condition} ORDER BY changed_at, key_id LIMIT ?"
            ));
            let page: Result<Vec<Stored>, Fault> = ask!(&self.connections, connection => {
                let query = query(sql);
                let query = match (&last, since) {
                    (Some((changed, id)), _) => query.bind(*changed).bind(*changed).bind(&**id),
                    (None, Since::Always) => query,
                    (None, Since::Change { after, overlap }) => query.bind(after).bind(overlap),
                };
                let rows = query.bind(PAGE).fetch_all(connection).await?;
                let mut page = Vec::with_capacity(rows.len());
                for row in &rows {
                    page.push(stored!(row));
                }
                Ok(page)
            });
            let page = page?;
            let is_last = page.len() < PAGE as usize;
            rows_read += page.len() as u64;
            if let Some(row) = page.last() {
                newest = newest.max(Some(row.changed));
                last = Some((row.changed, row.id.clone()));
            }
            for row in &page {
                see(MachineKeyId::parse(&row.id), row.read());
            }
            if is_last {
                return Ok(mark.clone().read(began, Instant::now(), rows_read, newest));
            }
        }
    }
}
