//! Certificates for tests, made by openssl, and curl, which checks them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A certificate authority with its directory.
pub struct Authority {
    dir: PathBuf,
    name: &'static str,
}

impl Authority {
    /// Makes `NAME.crt` and `NAME.key`.
    pub fn new(dir: &Path, name: &'static str) -> Self {
        fs::create_dir_all(dir).unwrap();
        openssl(
            dir,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN={name} -addext basicConstraints=critical,CA:TRUE -keyout {name}.key -out {name}.crt"
            ),
        );
        Self {
            dir: dir.to_owned(),
            name,
        }
    }

    /// Issues `NAME.crt` and `NAME.key` for these subject alternative names, valid for `days` from now on.
    pub fn issue(&self, name: &str, alternatives: &str, days: i32) {
        let Self { dir, name: own } = self;
        let extensions = format!("subjectAltName={alternatives}\nbasicConstraints=CA:FALSE\n");
        fs::write(dir.join(format!("{name}.ext")), extensions).unwrap();
        openssl(
            dir,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
            ),
        );
        openssl(
            dir,
            &format!(
                "x509 -req -in {name}.csr -CA {own}.crt -CAkey {own}.key -days {days} -extfile {name}.ext -out {name}.crt"
            ),
        );
    }
}

pub fn openssl(dir: &Path, arguments: &str) {
    let ran = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(dir)
        .output()
        .expect("openssl is installed");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{arguments}: {said}");
}

/// The answer that curl gets, or its error.
pub fn curl(arguments: &[&str]) -> Result<String, String> {
    let ran = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "10"])
        .args(arguments)
        .output()
        .expect("curl is installed");
    match ran.status.success() {
        true => Ok(String::from_utf8_lossy(&ran.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&ran.stderr).into_owned()),
    }
}
