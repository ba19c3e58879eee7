//! Files that Doorward writes and directories that it trusts, where another user could have interfered.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::Path,
};

use serde_json::Value;

use crate::harness::{Doorward, Home};

const EXPOSED: &str = "others can write to a directory whose files Doorward trusts; chown it to the user that runs Doorward, and chmod it to 700";

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Directories that Doorward warned about, each with the reason.
fn warned(doorward: &Doorward) -> Vec<(String, String)> {
    let text = |line: &Value, name: &str| line["fields"][name].as_str().unwrap().to_owned();
    let lines = doorward.log().into_iter();
    lines
        .filter(|line| line["fields"]["message"] == EXPOSED)
        .map(|line| (text(&line, "directory"), text(&line, "why")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_that_others_can_change_cause_warnings() {
    let home = Doorward::prepare(|_| {});
    let data = home.dir().join("data");
    let keys = data.join("keys");
    let doorward = home.serve().await;
    assert_eq!(warned(&doorward), []);
    let home = doorward.kill();

    mode(&data, 0o777);
    fs::create_dir(&keys).unwrap();
    let canonical = |path: &Path| path.canonicalize().unwrap().display().to_string();
    let by_mode = "its mode lets others write to it".to_owned();
    let doorward = home.serve().await;
    // Who can write to this directory can replace the key directory in it.
    assert_eq!(
        warned(&doorward),
        [
            (canonical(&data), by_mode.clone()),
            (canonical(&data), by_mode.clone())
        ]
    );
    let home = doorward.kill();

    mode(&data, 0o700);
    mode(&keys, 0o770);
    let doorward = home.serve().await;
    assert_eq!(warned(&doorward), [(canonical(&keys), by_mode)]);
    let home = doorward.kill();

    mode(&keys, 0o700);
    // Only root can change the owner of a directory.
    if chown(&keys, Some(12345), None).is_ok() {
        let doorward = home.serve().await;
        let by_owner = "another user owns it".to_owned();
        assert_eq!(warned(&doorward), [(canonical(&keys), by_owner)]);
    }
}

/// The error of a start that fails.
async fn refused(home: &Home) -> String {
    let ran = home.run(&["serve"], "").await;
    assert!(!ran.status.success(), "{ran:?}");
    ran.stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_through_links() {
    let home = Doorward::prepare(|_| {});
    let dir = home.dir().to_owned();
    let victim = dir.join("victim");
    let home = home.with(|settings| {
        settings
            .env(
                "DOORWARD_AUDIT__TO",
                dir.join("audit.log").display().to_string(),
            )
            .env(
                "DOORWARD_LISTEN__GRPC",
                format!("unix:{}", dir.join("s").display()),
            );
    });
    let data = dir.join("data");
    for (link, what) in [
        (
            dir.join("audit.log"),
            "is a symbolic link, which is not followed",
        ),
        (
            dir.join("s.lock"),
            "is a symbolic link, which is not followed",
        ),
        (dir.join("s"), "there is a file that is no socket"),
        (
            data.join("doorward.db"),
            "is a symbolic link, which is not followed",
        ),
        (data.join("jwt.secret"), "its path is a dangling link"),
    ] {
        fs::create_dir_all(&data).unwrap();
        symlink(&victim, &link).unwrap();
        let said = refused(&home).await;
        assert!(said.contains(what), "{}: {said}", link.display());
        assert!(!victim.exists(), "{}", link.display());
        fs::remove_file(&link).unwrap();
        fs::remove_dir_all(&data).unwrap();
    }
    // Without links, the same files are made.
    let doorward = home.serve().await;
    for made in ["audit.log", "s.lock", "data/doorward.db", "data/jwt.secret"] {
        let found = fs::symlink_metadata(dir.join(made)).unwrap();
        assert_eq!(found.permissions().mode() & 0o7777, 0o600, "{made}");
    }
    drop(doorward);
}

/// Links at the draft names of earlier versions, which another user could guess from the process id.
#[tokio::test(flavor = "multi_thread")]
async fn the_draft_of_the_secret_cannot_be_guessed() {
    let home = Doorward::prepare(|_| {});
    let (data, victim) = (home.dir().join("data"), home.dir().join("victim"));
    fs::create_dir(&data).unwrap();
    fs::write(&victim, "precious").unwrap();
    // Hundreds of processes may start before Doorward does.
    let own = std::process::id();
    let last = fs::read_to_string("/proc/sys/kernel/ns_last_pid").unwrap();
    let last: u32 = last.trim().parse().unwrap_or(own);
    for id in last..last + 20_000 {
        symlink(&victim, data.join(format!(".jwt.secret.draft-{id}"))).unwrap();
    }
    let doorward = home.serve().await;
    assert!((last..last + 20_000).contains(&doorward.pid()));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    let secret = fs::read_to_string(data.join("jwt.secret")).unwrap();
    assert!(secret.len() > 32 && !secret.contains("precious"));
}
