//! The database is down, or the authorizer itself.

use std::time::Duration;

use rustix::process::Signal;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    columns::Column,
    findings::Findings,
    harness::{Database, MariaDb, Service, basic},
    requests::{Answer, ask, status},
    world::{ADA, Authorizer, BOB, World, add_users, data, doors, logged_in},
};

/// The limit for a change of state.
const SOON: Duration = Duration::from_secs(20);

pub async fn database(world: &World, column: Column, found: &mut Findings) -> anyhow::Result<()> {
    let mut database = Database::<MariaDb>::start().await;
    let env = database.env();
    let home = world.home(column, |settings| {
        settings.envs(env);
    })?;
    let keys = data(&home).join("keys");
    let home = home.with(|settings| {
        settings.env("DOORWARD_JWT__KEYS_DIR", keys.display().to_string());
    });
    home.run(&["migrate"], "").await.ok();
    add_users(&home).await;
    let doorward = home.serve().await;
    let bearers = logged_in(doorward.http).await?;
    let service = Service::start().await;
    let gateway = column
        .start(&world.scenarios, None, doors(&doorward), service.address)
        .await?;
    let [ada, bob] = [ADA.0, BOB.0].map(|name| bearers.get(name).cloned().unwrap_or_default());
    let basic = basic(BOB.0, BOB.1);
    let answer = async |method: &str, path: &str, shown: &str| -> anyhow::Result<Answer> {
        let headers = [("authorization", shown)];
        let headers = if shown.is_empty() { &[][..] } else { &headers };
        let answer = ask(gateway.edge, method, path, headers, Vec::new(), None).await;
        answer.map_err(anyhow::Error::msg)
    };
    database.kill();
    for (path, shown, expected) in [
        ("/echo", &*bob, 200),
        ("/admin/list", &ada, 200),
        ("/admin/list", &bob, 403),
        ("/echo", "", 401),
    ] {
        let status = answer("GET", path, shown).await?.status;
        let expected = world.scenarios.translated(column.proxy(), expected);
        if status < 300 && expected >= 300 {
            found.open(format!("without the database: {path}: {status}"));
        }
        found.demand(status == expected, || {
            format!("without the database: {path}: {status} instead of {expected}")
        });
    }
    let before = service.requests();
    let status = answer("POST", "/login", &basic).await?.status;
    found.demand(status >= 500, || {
        format!("a login without the database: {status}")
    });
    if service.requests() > before {
        found.open("a login without the database reached the service");
    }
    database.restart().await;
    let start = Instant::now();
    while answer("POST", "/login", &basic).await?.status != 200 {
        if start.elapsed() > SOON {
            found.refused(format!("{SOON:?} after the restart, a login still fails"));
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

pub async fn authorizer(world: &World, column: Column, found: &mut Findings) -> anyhow::Result<()> {
    let setup = world.setup(column, None).await?;
    let edge = setup.gateway.edge;
    let [ada, bob] = [setup.bearer(ADA.0)?, setup.bearer(BOB.0)?];
    let before = status(edge, "/echo", Some(&bob)).await?;
    found.demand(before == 200, || format!("before it is down: {before}"));
    match &setup.authorizer {
        Authorizer::Doorward(doorward) => {
            doorward.signal(Signal::KILL);
            while TcpStream::connect(doorward.http).await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        }
        Authorizer::Other(relay) => relay.cut(),
    }
    let judges_itself = matches!(column, Column::Filter(_));
    let arrived = setup.arrived();
    for (path, shown, is_allowed) in [
        ("/echo", None, false),
        ("/admin/list", None, false),
        ("/admin/list", Some(&*bob), false),
        ("/echo", Some("Bearer a.b.c"), false),
        ("/echo", Some(&*bob), true),
        ("/admin/list", Some(&ada), true),
    ] {
        let status = status(edge, path, shown).await?;
        // The module knows the rules: it denies by them, and allows until its feed is too old.
        let expected = match (judges_itself, is_allowed) {
            (false, _) => 500..600,
            (true, false) => 400..500,
            (true, true) => 200..201,
        };
        if status < 300 && !(judges_itself && is_allowed) {
            found.open(format!("{path}: {status}"));
        }
        found.demand(expected.contains(&status), || format!("{path}: {status}"));
    }
    if !judges_itself && setup.arrived() > arrived {
        found.open("a request reached the service");
    }
    if judges_itself {
        let start = Instant::now();
        while status(edge, "/echo", Some(&bob)).await? != 503 {
            if start.elapsed() > SOON {
                found.open(format!("after {SOON:?}, tokens still pass"));
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}
