//! A cache of verified tokens, so that each asymmetric signature is verified only once. The cache key is a keyed hash
//! of the exact token. Expiry and revocation are checked on every request. A cache belongs to one set of keys, and is
//! dropped with it.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::{
    principal::Principal,
    revocation::{Endings, Generation},
    session::NoRandomness,
};

/// The claims of a verified token.
#[derive(Debug)]
pub(super) struct Good {
    pub(super) principal: Arc<Principal>,
    pub(super) token: Box<str>,
    pub(super) session: Option<Box<str>>,
    pub(super) generation: Generation,
    /// The claim `exp`, in seconds.
    pub(super) expires: u64,
    /// The claim `iat`, in seconds.
    pub(super) issued: u64,
    /// The claim `auth_time`, in seconds.
    pub(super) since: Option<u64>,
}

/// A token in the cache.
pub(super) type Remembered = (Fingerprint, Good);

impl Good {
    pub(super) fn endings(&self) -> Endings<'_> {
        Endings {
            subject: &self.principal.identity().subject,
            token: &self.token,
            session: self.session.as_deref(),
            generation: self.generation,
        }
    }
}

/// A keyed hash of the exact token; nobody can choose tokens that collide. It is valid in every cache, so a token is
/// hashed once, however many caches are searched: a cache takes fingerprints, not tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(u128);

/// The key of all fingerprints, drawn once per process.
static KEY: OnceLock<(u64, u64)> = OnceLock::new();

/// Draws the key of the token cache at the start. Otherwise the first token would need random bytes, and its request
/// would fail if the system provides none.
///
/// # Errors
///
/// [`NoRandomness`].
pub fn draw_key() -> Result<(), NoRandomness> {
    let mut bytes = [0; 16];
    // Not aws-lc, which aborts instead of returning an error.
    getrandom::fill(&mut bytes).map_err(|_| NoRandomness)?;
    let drawn = u128::from_ne_bytes(bytes);
    // An earlier key stays.
    let _ = KEY.set(((drawn >> 64) as u64, drawn as u64));
    Ok(())
}

impl Fingerprint {
    fn of(token: &str) -> Self {
        #[cfg(test)]
        HASHED.with(|hashed| hashed.set(hashed.get() + 1));
        // A panic leaves the cell empty, so the next token tries again.
        let (high, low) = *KEY.get_or_init(|| uuid::Uuid::new_v4().as_u64_pair());
        let mut hasher = SipHasher13::new_with_keys(high, low);
        std::hash::Hasher::write(&mut hasher, token.as_bytes());
        Self(hasher.finish128().as_u128())
    }

    fn tag(self) -> u64 {
        self.0 as u64
    }
}

/// A token together with its fingerprint.
#[derive(Clone, Copy)]
pub(super) struct Hashed<'a> {
    pub(super) token: &'a str,
    pub(super) fingerprint: Fingerprint,
}

impl<'a> Hashed<'a> {
    pub(super) fn of(token: &'a str) -> Self {
        Self {
            token,
            fingerprint: Fingerprint::of(token),
        }
    }
}

#[cfg(test)]
thread_local! {
    /// How many tokens this thread has hashed.
    pub(super) static HASHED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// The token cache: a few hundred bytes per token, and at most [`SETS`] times [`WAYS`] tokens. Copies share it.
#[derive(Clone)]
pub(super) struct TokenCache {
    sets: Arc<[Set]>,
    /// How many tokens there are.
    count: Arc<AtomicUsize>,
}

/// The slots of one hash bucket. Comparing tags avoids loading the entries of other tokens.
#[derive(Default)]
struct Set {
    tags: [AtomicU64; WAYS],
    entries: [ArcSwapOption<Remembered>; WAYS],
}

const SETS: usize = 4096;
const WAYS: usize = 8;

impl TokenCache {
    pub(super) fn new() -> Self {
        Self {
            sets: (0..SETS).map(|_| Set::default()).collect(),
            count: Arc::default(),
        }
    }

    /// The cached token, if any; takes no lock.
    pub(super) fn find(&self, of: Fingerprint) -> Option<Arc<Remembered>> {
        let set = self.set(of)?;
        let alike = set.tags.iter().zip(&set.entries);
        alike
            .filter(|(tag, _)| tag.load(Ordering::Relaxed) == of.tag())
            .find_map(|(_, entry)| {
                let entry = entry.load();
                let entry = entry.as_ref().filter(|entry| entry.0 == of)?;
                Some(Arc::clone(entry))
            })
    }

    /// Caches a token, in a free or expired slot, or else in any slot.
    pub(super) fn remember(&self, of: Fingerprint, good: Good, now: u64) {
        let Some(set) = self.set(of) else {
            return;
        };
        let free = set.entries.iter().position(|entry| {
            let entry = entry.load();
            entry.as_ref().is_none_or(|entry| entry.1.expires <= now)
        });
        // Picks the slot by bits of the hash that did not pick the bucket.
        let place = free.unwrap_or((of.tag() >> 32) as usize % WAYS);
        if let (Some(tag), Some(entry)) = (set.tags.get(place), set.entries.get(place)) {
            if entry.swap(Some(Arc::new((of, good)))).is_none() {
                self.count.fetch_add(1, Ordering::Relaxed);
            }
            tag.store(of.tag(), Ordering::Relaxed);
        }
    }

    fn set(&self, of: Fingerprint) -> Option<&Set> {
        self.sets.get((of.0 >> 64) as usize % SETS)
    }

    /// How many tokens are cached, expired ones included.
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verified(..)")
    }
}
