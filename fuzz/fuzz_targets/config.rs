//! The text of `doorward.toml`.

#![no_main]

use std::{collections::BTreeMap, io};

use doorward::config::{Settings, Sources};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let loaded = Settings::load(Sources {
        flags: Vec::new(),
        environment: BTreeMap::new(),
        file: Some((FILE.into(), text.into())),
        read: &|_| Err(io::ErrorKind::NotFound.into()),
    });
    match loaded {
        Ok(settings) => {
            assert!(!settings.policy.rules().is_empty());
            assert!(settings.login.hash_threads > 0 && settings.database.connections > 0);
        }
        Err(faults) => {
            assert!(!faults.0.is_empty());
            for fault in &faults.0 {
                assert!(fault.place.starts_with(FILE), "{fault}");
                assert!(!fault.what.is_empty());
            }
            let _ = faults.to_string();
        }
    }
});

const FILE: &str = "doorward.toml";
