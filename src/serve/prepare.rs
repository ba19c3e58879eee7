//! What Doorward checks and creates before it serves: directories, the settings of the user table, tables.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::bail;
use doorward_rules::{
    keys::SecretSource,
    private::{Exposed, exposed},
};

use crate::{
    config::Settings,
    domain::policy::Endpoint,
    doors::listen::Address,
    observe::causes,
    tables::{
        database::{Database, Fault, Server},
        store::Store,
        users::UsersFault,
    },
};

/// Existing directories of files that decide who gets in.
fn trusted_directories(settings: &Settings) -> BTreeSet<PathBuf> {
    let secret = match &settings.jwt.keys.secret {
        SecretSource::File(path) => Some(&**path),
        SecretSource::Given(_) | SecretSource::Missing => None,
    };
    let databases = [
        Some(&settings.database.place),
        settings.state.place.as_ref(),
    ];
    let tables = databases.into_iter().flatten().filter_map(|database| {
        let Database::Sqlite(path) = database else {
            return None;
        };
        Some(&**path)
    });
    let sockets = [&settings.listen.grpc, &settings.listen.http];
    let sockets = sockets.into_iter().filter_map(|address| {
        let Address::Unix(path) = address else {
            return None;
        };
        Some(&**path)
    });
    let files = secret.into_iter().chain(tables).chain(sockets);
    files
        .filter_map(Path::parent)
        .chain([&*settings.jwt.keys.dir])
        .map(Path::to_owned)
        .collect()
}

pub(super) async fn prepare(settings: &Settings, store: &Store) -> anyhow::Result<()> {
    for dir in trusted_directories(settings) {
        if let Some(Exposed { dir, why }) = exposed(&dir) {
            tracing::warn!(
                directory = %dir.display(),
                why,
                "others can write to a directory whose files Doorward trusts; chown it to the user that runs Doorward, and chmod it to 700"
            );
        }
    }
    if settings.users.plaintext {
        tracing::warn!(
            "users.plaintext is on: whoever reads the user table has the passwords; set users.update_password, and switch it off when `doorward users hashes` counts none"
        );
    }
    let places = [&settings.database.place, settings.state_database()];
    let exposed = |server: &&Server| server.can_be_impersonated();
    if let Some(server) = places
        .into_iter()
        .filter_map(Database::server)
        .find(exposed)
    {
        tracing::warn!(
            host = server.host,
            "the certificate of the database is not verified: whoever is on the network path can answer in its place; set database.tls to verify-identity, and database.tls_ca"
        );
    }
    for endpoint in &settings.endpoints {
        let missing = match endpoint {
            Endpoint::Register if !store.users.takes_users() => "users.insert",
            Endpoint::Register
                if settings.users.mapping.is_some()
                    && settings.self_service.register_roles.iter().next().is_some() =>
            {
                bail!(
                    "self_service.register_roles: your own user table holds the roles; users.grant gives roles to every user"
                )
            }
            Endpoint::Password if !store.users.takes_hashes() => "users.update_password",
            Endpoint::Login
            | Endpoint::Logout
            | Endpoint::Refresh
            | Endpoint::Register
            | Endpoint::Password
            | Endpoint::SignIn
            | Endpoint::SignOut
            | Endpoint::SignedIn
            | Endpoint::Keys
            | Endpoint::KeysPage => continue,
        };
        bail!(
            "/{} is switched on, but {missing} does not say how to change the table",
            endpoint.name()
        );
    }
    if settings.users.mapping.is_none() && matches!(settings.database.place, Database::Sqlite(_)) {
        store.users.migrate().await?;
    }
    if let Database::Sqlite(_) = settings.state_database() {
        store.state.migrate().await?;
    }
    // Bearer requests work without the database.
    match store.users.probe().await {
        Err(fault @ UsersFault::Mapping(_)) => return Err(fault.into()),
        Err(fault @ UsersFault::Database(Fault::NoTable(_)))
            if settings.users.mapping.is_some() =>
        {
            return Err(fault.into());
        }
        Err(fault) => {
            tracing::warn!(cause = %causes(&fault), "logins get 503 until this is fixed");
        }
        Ok(()) => {}
    }
    report_servers(settings, store).await;
    Ok(())
}

/// Reports what keeps a database server from being the right one. It may be another one after a failover, so this is no
/// reason not to start.
async fn report_servers(settings: &Settings, store: &Store) {
    let changes_users = settings
        .endpoints
        .iter()
        .any(|endpoint| matches!(endpoint, Endpoint::Register | Endpoint::Password));
    for (connections, whose, is_written) in [
        (
            &store.users.connections,
            "of the users",
            store.together || changes_users,
        ),
        (&store.state.connections, "of Doorward's own tables", true),
    ] {
        if is_written && let Ok(true) = connections.is_read_only().await {
            tracing::error!(
                "the database {whose} takes no writes: it is a standby, or set to read-only; requests that write, such as logouts or registrations, get 503 until its URL leads to the primary"
            );
        }
        if let Ok(true) = connections.answers_early().await {
            tracing::warn!(
                "the database {whose} is a node of a Galera cluster that answers before it knows what other nodes have written: an old password may still be good there for a moment; set wsrep_sync_wait to 3 at every node"
            );
        }
        if store.together {
            break;
        }
    }
}
