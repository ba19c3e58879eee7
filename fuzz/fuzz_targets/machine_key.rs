//! Values of the header of keys, one per line, and Basic credentials with a key as their password.

#![no_main]

use std::sync::{Arc, LazyLock};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use doorward::domain::{
    account::{Roles, Username},
    credential::{Credential, CredentialFault, Login},
    machine_key::{KeyHash, KeyName, MachineKeyId, PREFIX, is_well_formed},
    machine_keys::{KeyEntry, KeyRefusal, MachineKeyFault, MachineKeys, Owner, OwnerState},
    path::{Path, Tolerance},
    revocation::Revocations,
};
use doorward_fuzz::NOW;
use libfuzzer_sys::fuzz_target;

/// The only key that exists. It is public, so use it for nothing else.
const KEY: &str =
    "dwk_0123456789abcdef_5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a38a0114d";
const HASH: &str = "644f5daec9a508e6fbdeec94d8258a10f1231a6ba671aedecc80b1449c069f44";

static KEYS: LazyLock<MachineKeys> = LazyLock::new(|| {
    let keys = MachineKeys::default();
    keys.have_been_read();
    let entry = KeyEntry {
        hash: KeyHash::parse(HASH).unwrap(),
        name: KeyName::parse("deploy").unwrap(),
        limits: None,
        expires: None,
        ended: false,
    };
    let owner = Owner {
        subject: "7".into(),
        username: Username::parse("ada").unwrap(),
        state: OwnerState::Active(Arc::new(Roles::default())),
    };
    keys.set(MachineKeyId::of(KEY).unwrap(), entry, Arc::new(owner));
    keys
});

fuzz_target!(|bytes: &[u8]| {
    let values: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
    let read = Credential::parse_key(values.iter().copied());
    match (&*values, read) {
        ([value], Credential::Key(key)) => {
            assert_eq!(key.expose().as_bytes(), *value, "two spellings");
            verify(key.expose());
        }
        ([_], read) => assert_eq!(read, Credential::Malformed(CredentialFault::Key)),
        (_, read) => assert_eq!(read, Credential::Malformed(CredentialFault::Several)),
    }
    if let Ok(text) = str::from_utf8(bytes) {
        verify(text);
        password(text);
    }
});

/// Nothing but the key itself is accepted.
fn verify(text: &str) {
    let path = Path::parse(b"/", Tolerance::default()).unwrap();
    match KEYS.verify(text, &path, NOW, &Revocations::new(None)) {
        Ok(_) => assert_eq!(text, KEY),
        Err(KeyRefusal::Invalid(MachineKeyFault::Malformed)) => assert!(!is_well_formed(text)),
        Err(KeyRefusal::Invalid(MachineKeyFault::Unknown)) => {
            assert!(is_well_formed(text) && text != KEY);
        }
        Err(refusal) => panic!("{refusal:?}"),
    }
}

fn password(text: &str) {
    let value = format!("Basic {}", BASE64_STANDARD.encode(text));
    if let Credential::Basic(basic) = Credential::parse([value.as_bytes()])
        && let Some(key) = Login::key_in(basic)
    {
        let (_, password) = text.split_once(':').unwrap();
        assert_eq!(*key, password);
        assert!(key.starts_with(PREFIX));
    }
}
