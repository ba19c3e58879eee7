//! Authorizers that are not Doorward: one at an address, one that allows everything, or a program as in
//! `examples/bench/peers`.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::{
    harness::{Doorward, Process},
    null::Null,
    scenario::Need,
    world::{ADA, BOB, Subject, add_users, logged_in},
};

/// What must run until the matrix ends.
#[expect(dead_code, reason = "they run until they are dropped")]
pub enum Running {
    Null(Null),
    Peer(Process, TempDir),
    Elsewhere,
}

/// The authorizer at this address, with tokens from a file.
pub fn at(
    address: SocketAddr,
    tokens: &Path,
    lacks: Vec<Need>,
) -> anyhow::Result<(Subject, Running)> {
    let text = fs::read_to_string(tokens).with_context(|| tokens.display().to_string())?;
    let read: BTreeMap<String, String> = toml::from_str(&text).ok().with_context(|| {
        format!(
            "{}: not lines of the form `bob = \"TOKEN\"`",
            tokens.display()
        )
    })?;
    for who in [ADA.0, BOB.0] {
        ensure!(
            read.contains_key(who),
            "{}: no token for {who}",
            tokens.display()
        );
    }
    let tokens = read
        .into_iter()
        .map(|(name, token)| (name, format!("Bearer {token}")));
    let subject = Subject::Other {
        address,
        tokens: tokens.collect(),
        lacks,
    };
    Ok((subject, Running::Elsewhere))
}

/// The authorizer that allows everything.
pub async fn null(doorward: PathBuf, lacks: Vec<Need>) -> anyhow::Result<(Subject, Running)> {
    let (_, tokens) = issued(doorward).await?;
    let null = Null::start().await?;
    let subject = Subject::Other {
        address: null.address,
        tokens,
        lacks,
    };
    Ok((subject, Running::Null(null)))
}

/// A program that prints its address, and reads the secret of the tokens from JWT_SECRET.
pub async fn peer(
    program: &Path,
    doorward: PathBuf,
    lacks: Vec<Need>,
) -> anyhow::Result<(Subject, Running)> {
    let (secret, tokens) = issued(doorward).await?;
    let dir = tempfile::tempdir()?;
    let program = fs::canonicalize(program)
        .with_context(|| format!("{}: build it with `make peers`", program.display()))?;
    let mut command = Command::new(program);
    command.env("JWT_SECRET", secret).current_dir(dir.path());
    let mut process = Process::start("peer", &mut command, dir.path());
    let address = process
        .ready(async |process| process.stdout().strip_suffix('\n')?.parse().ok())
        .await;
    let subject = Subject::Other {
        address,
        tokens,
        lacks,
    };
    Ok((subject, Running::Peer(process, dir)))
}

/// A secret of HS256, and tokens of both users that are signed with it. The Doorward that makes them stops afterwards.
async fn issued(doorward: PathBuf) -> anyhow::Result<(String, BTreeMap<String, String>)> {
    let home = Doorward::prepare(|settings| {
        settings.binary(doorward);
    });
    home.run(&["migrate"], "").await.ok();
    add_users(&home).await;
    let doorward = home.serve().await;
    let tokens = logged_in(doorward.http).await?;
    Ok((doorward.home().secret(), tokens))
}
