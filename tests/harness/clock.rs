//! A clock that a test can set, for one Doorward: the library of faketime under it.

use std::{fs, path::PathBuf, process::Command};

use super::{Home, program};

/// The clock of one Doorward. All of its programs read it.
#[derive(Debug)]
pub struct Clock(PathBuf);

impl Clock {
    /// Puts one under the programs of `home`, at first with the time of the machine.
    ///
    /// # Panics
    ///
    /// If the library cannot be found.
    pub fn under(home: Home) -> (Home, Self) {
        let clock = Self(home.dir().join("clock"));
        clock.set(0);
        // The path of the faketime library depends on the machine; the program knows it.
        let said = Command::new(program("faketime"))
            .args(["-m", "-f", "+0", "sh", "-c", "printf %s \"$LD_PRELOAD\""])
            .output()
            .unwrap();
        let library = String::from_utf8(said.stdout).unwrap();
        let file = clock.0.display().to_string();
        let home = home.with(|settings| {
            settings
                .env("LD_PRELOAD", library)
                .env("FAKETIME_TIMESTAMP_FILE", file)
                .env("FAKETIME_NO_CACHE", "1");
        });
        (home, clock)
    }

    /// Sets how many seconds it is ahead.
    ///
    /// # Panics
    ///
    /// If its file cannot be written.
    pub fn set(&self, offset: i64) {
        // Replaced by a rename, because programs read it all the time.
        let draft = self.0.with_extension("draft");
        fs::write(&draft, format!("{offset:+}\n")).unwrap();
        fs::rename(draft, &self.0).unwrap();
    }
}
