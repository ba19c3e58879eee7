//! `[login]`: how logins are answered, and what hashing may use.

use std::num::NonZeroUsize;

use super::{
    fault::ValueFault,
    key::{Key, Optional, Section},
    memory::HashMemory,
    reader::Reader,
    value::{number, one_of},
};
use crate::{
    actions::hashing::HashPriority,
    domain::decision::{LoginReply, Realm},
};

/// Settings of logins.
#[derive(Debug)]
pub struct LoginSettings {
    /// Who answers a successful login.
    pub(crate) reply: LoginReply,
    /// The realm of challenges.
    pub(crate) realm: Realm,
    /// How many passwords are hashed at once.
    pub hash_threads: usize,
    /// How much memory hashing may use, in KiB.
    pub(crate) hash_memory: u64,
    /// How hashing competes for the CPU.
    pub(crate) hash_priority: HashPriority,
    /// How many logins wait for hashing.
    pub(crate) hash_queue: usize,
}

pub(super) static KEYS: Section = &[
    &REPLY,
    &REALM,
    &HASH_THREADS,
    &HASH_MEMORY,
    &HASH_PRIORITY,
    &HASH_QUEUE,
];

static REPLY: Key<LoginReply> = Key::new(
    "login.reply",
    "direct",
    |text| {
        one_of(
            text,
            &[
                ("direct", LoginReply::Direct),
                ("through", LoginReply::Through),
            ],
        )
    },
    "Who answers a successful login: `direct` (Doorward) or `through` (the gateway's own route, with the token added).",
)
.reloads();

static REALM: Key<Realm> = Key::new(
    "login.realm",
    "doorward",
    |text| Realm::parse(text).ok_or(ValueFault::Realm),
    "The realm in challenges.",
)
.reloads();

static HASH_THREADS: Optional<usize> = Key::new(
    "login.hash_threads",
    "one per core",
    |text| number(text, 1, 256),
    "How many passwords are hashed at once, each on one core, 1 to 256.",
)
.optional();

static HASH_MEMORY: Key<HashMemory> = Key::new(
    "login.hash_memory",
    "auto",
    HashMemory::parse,
    "Memory for hashing, in bytes or with a unit, as in `128MiB`. One of Doorward's own hashes takes 19 MiB; other hashes take what their rows say. A login waits until its hash fits; a hash that never fits is refused as `unsupported-hash`. `auto` is 19 MiB per hashing thread plus 64 MiB for one hash of PHP, but at most half of the memory of the control group or the machine.",
);

static HASH_PRIORITY: Key<HashPriority> = Key::new(
    "login.hash_priority",
    "idle",
    |text| {
        one_of(
            text,
            &[
                ("idle", HashPriority::Idle),
                ("normal", HashPriority::Normal),
            ],
        )
    },
    "`idle`: hashing runs when nothing else needs the CPU, so that a flood of logins does not delay checks. `normal`: hashing competes for the CPU, for a Doorward that shares its control group with busy programs.",
);

static HASH_QUEUE: Key<usize> = Key::new(
    "login.hash_queue",
    "64",
    |text| number(text, 1, 10_000),
    "How many logins wait for hashing before Doorward answers further ones 503, 1 to 10000. One account may take half of the places, and so may one address.",
);

impl LoginSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let hash_threads = reader.find(&HASH_THREADS).unwrap_or_else(cores);
        Self {
            reply: reader.get(&REPLY),
            realm: reader.get(&REALM),
            hash_threads,
            hash_memory: reader.get(&HASH_MEMORY).kib(hash_threads),
            hash_priority: reader.get(&HASH_PRIORITY),
            hash_queue: reader.get(&HASH_QUEUE),
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
