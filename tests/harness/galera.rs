//! A Galera cluster: two nodes of MariaDB, and an optional arbitrator.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Weak},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    sync::Mutex,
    time::{sleep, timeout},
};

use super::{
    MariaDb, MySqlLike, Process, START, free_address, mysql_like::Access, process::succeeded,
    program, until,
};

/// Timeouts for a silent node; the default timeout is more than twice as long.
const TIMES: &str = "evs.suspect_timeout=PT2S;evs.inactive_timeout=PT4S;evs.keepalive_period=PT0.5S;evs.inactive_check_period=PT0.2S";

const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";

/// A cluster of two nodes.
pub struct Galera {
    // Declared before `dir`, so that the processes end before the directory is removed.
    pub nodes: [Node; 2],
    arbitrator: Option<Process>,
    dir: TempDir,
}

/// One node of the cluster.
pub struct Node {
    process: Process,
    dir: PathBuf,
    places: Places,
    settings: Vec<String>,
}

/// The addresses of a node.
#[derive(Clone, Copy)]
struct Places {
    clients: SocketAddr,
    group: SocketAddr,
    /// For incremental state transfer (IST).
    missed: SocketAddr,
    /// For state snapshot transfer (SST).
    all: SocketAddr,
}

impl Galera {
    /// Starts both nodes with server options such as `--wsrep-sync-wait=3`.
    ///
    /// # Panics
    ///
    /// If they do not start.
    pub async fn start(settings: &[&str]) -> Self {
        let installed = installed().await;
        for _ in 0..4 {
            if let Some(galera) = Self::try_start(installed.path(), settings).await {
                return galera;
            }
        }
        panic!("no ports stay free for a cluster");
    }

    async fn try_start(installed: &Path, settings: &[&str]) -> Option<Self> {
        let dir = directory();
        let places = [(); 2].map(|()| Places {
            clients: free_address(),
            group: free_address(),
            missed: free_address(),
            all: free_address(),
        });
        let [one, other] = places.map(|places| places.group);
        let common = [
            format!("--wsrep-cluster-address=gcomm://{one},{other}"),
            format!("--wsrep-cluster-name=doorward-{}", one.port()),
        ];
        let settings: Vec<_> = (settings.iter().map(|setting| (*setting).to_owned()))
            .chain(common)
            .collect();
        let mut nodes = Vec::new();
        for (name, places) in ["one", "other"].into_iter().zip(places) {
            let dir = dir.path().join(name);
            run(Command::new("cp")
                .args(["-a", "--"])
                .args([installed, &dir]));
            let mut node = Node {
                process: launch(&dir, places, &settings, &begin(&dir, nodes.is_empty())),
                dir,
                places,
                settings: settings.clone(),
            };
            if !node.joined().await {
                return None;
            }
            nodes.push(node);
        }
        Some(Self {
            nodes: <[Node; 2]>::try_from(nodes).ok()?,
            arbitrator: None,
            dir,
        })
    }

    /// Adds an arbitrator, which has a vote but no data: with it, one node is a majority.
    ///
    /// # Panics
    ///
    /// If it does not join.
    pub async fn arbitrate(&mut self) {
        let at = free_address();
        let [one, other] = [&self.nodes[0], &self.nodes[1]].map(|node| node.places.group);
        let mut garbd = Command::new(program("garbd"));
        garbd
            .arg(format!("--address=gcomm://{one},{other}"))
            .arg(format!("--group=doorward-{}", one.port()))
            .arg("--name=arbitrator")
            .arg(format!("--workdir={}", self.dir.path().display()))
            .arg(format!(
                "--options=gmcast.listen_addr=tcp://{at};base_host={};base_port={};pc.recovery=false;{TIMES}",
                at.ip(),
                at.port()
            ));
        self.arbitrator = Some(Process::start("garbd", &mut garbd, self.dir.path()));
        until("the arbitrator has joined", START, async || {
            (self.nodes[0].size() == "3").then_some(())
        })
        .await;
    }
}

impl Node {
    /// The settings that Doorward needs to reach this node.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        Access::env(self.places.clients)
    }

    /// Runs statements as an administrator, in Doorward's database.
    ///
    /// # Panics
    ///
    /// If the node refuses.
    pub fn sql(&self, statements: &str) -> String {
        Access::sql::<MariaDb>(&self.dir.join("socket"), statements)
    }

    /// Like [`Node::sql`], in a separate thread, for slow statements.
    pub fn sql_meanwhile(&self, statements: &'static str) -> tokio::task::JoinHandle<String> {
        let socket = self.dir.join("socket");
        tokio::task::spawn_blocking(move || Access::sql::<MariaDb>(&socket, statements))
    }

    /// Kills the node (SIGKILL).
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Restarts the node after [`Node::kill`]: it finds its last position and gets the missing writes from the other
    /// node.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn restart(&mut self) {
        let recovered = server(&self.dir, self.places, &self.settings)
            .arg("--wsrep-recover")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&recovered.stderr);
        let position = said.rsplit("Recovered position: ").next();
        let position = position.and_then(|rest| rest.split_whitespace().next());
        let begin = [format!("--wsrep-start-position={}", position.unwrap())];
        self.process = launch(&self.dir, self.places, &self.settings, &begin);
        assert!(self.joined().await, "{}", self.process.output());
    }

    /// The number of votes in the cluster that this node sees.
    fn size(&self) -> String {
        let status = self.sql("SHOW STATUS LIKE 'wsrep_cluster_size'");
        status
            .split_whitespace()
            .last()
            .unwrap_or_default()
            .to_owned()
    }

    /// `true` once the node has joined the cluster and answers, `false` if a port was taken.
    async fn joined(&mut self) -> bool {
        let clients = self.places.clients;
        for _ in 0..START.as_millis() / PAUSE.as_millis() {
            let log = self.process.stderr();
            if log.contains("Address already in use") || log.contains("Bind on TCP/IP port") {
                return false;
            }
            let joined = ["ready for connections.\n", "Synchronized with group"];
            if joined.iter().all(|line| log.contains(line.trim_end())) && greets(clients).await {
                return true;
            }
            let ended = self.process.exited();
            assert!(ended.is_none(), "{ended:?}\n{}", self.process.output());
            sleep(PAUSE).await;
        }
        panic!("a node has not joined\n{}", self.process.output());
    }
}

const PAUSE: Duration = Duration::from_millis(50);

async fn greets(address: SocketAddr) -> bool {
    let greeting = timeout(Duration::from_secs(1), async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        stream.read_u8().await.ok()
    });
    matches!(greeting.await, Ok(Some(_)))
}

/// The data that all clusters start from. A temporary node creates the database and the user, and stops. So both
/// nodes know their position, and neither needs a state transfer.
async fn installed() -> Arc<TempDir> {
    static INSTALLED: Mutex<Weak<TempDir>> = Mutex::const_new(Weak::new());
    let mut last = INSTALLED.lock().await;
    if let Some(installed) = last.upgrade() {
        return installed;
    }
    let dir = directory();
    let (installer, arguments) = MariaDb::INSTALLER;
    run(MariaDb::command(installer)
        .arg("--no-defaults")
        .arg(format!("--datadir={}", dir.path().join("data").display()))
        .args(as_somebody())
        .args(arguments)
        .args(MariaDb::SMALL_AND_FAST));
    let places = Places {
        clients: free_address(),
        group: free_address(),
        missed: free_address(),
        all: free_address(),
    };
    let settings = ["--wsrep-cluster-address=gcomm://".to_owned()];
    let mut node = Node {
        process: launch(
            dir.path(),
            places,
            &settings,
            &["--wsrep-new-cluster".into()],
        ),
        dir: dir.path().to_owned(),
        places,
        settings: settings.into(),
    };
    assert!(node.joined().await, "{}", node.process.output());
    Access::make::<MariaDb>(&node.dir.join("socket"));
    node.process.signal(rustix::process::Signal::TERM);
    node.process.end(START).await;
    for left in ["data/galera.cache", "data/gvwstate.dat"] {
        // A shutdown does not always leave both files.
        let _ = fs::remove_file(dir.path().join(left));
    }
    let installed = Arc::new(dir);
    *last = Arc::downgrade(&installed);
    installed
}

/// The options with which a node starts from the installed data.
fn begin(dir: &Path, is_first: bool) -> Vec<String> {
    let state = fs::read_to_string(dir.join("data/grastate.dat")).unwrap();
    let value = |name: &str| {
        let mut lines = state.lines();
        let value = lines.find_map(|line| line.strip_prefix(name));
        value.unwrap().trim().to_owned()
    };
    let position = format!(
        "--wsrep-start-position={}:{}",
        value("uuid:"),
        value("seqno:")
    );
    let new = is_first.then(|| "--wsrep-new-cluster".to_owned());
    new.into_iter().chain([position]).collect()
}

fn launch(dir: &Path, places: Places, settings: &[String], begin: &[String]) -> Process {
    let mut command = server(dir, places, settings);
    Process::start(MariaDb::SERVER, command.args(begin), dir)
}

fn server(dir: &Path, places: Places, settings: &[String]) -> Command {
    let Places {
        clients,
        group,
        missed,
        all,
    } = places;
    let mut command = MariaDb::command(MariaDb::SERVER);
    command
        .arg("--no-defaults")
        .arg(format!("--datadir={}", dir.join("data").display()))
        .arg(format!("--socket={}", dir.join("socket").display()))
        .arg(format!("--pid-file={}", dir.join("pid").display()))
        .arg(format!("--bind-address={}", clients.ip()))
        .arg(format!("--port={}", clients.port()))
        .args(as_somebody())
        .args(["--skip-name-resolve", "--character-set-server=utf8mb4"])
        .args(MariaDb::SMALL_AND_FAST)
        .args(["--binlog-format=ROW", "--innodb-autoinc-lock-mode=2"])
        .args(["--wsrep-on=ON", "--wsrep-sst-method=rsync"])
        .arg(format!("--wsrep-provider={PROVIDER}"))
        .arg(format!("--wsrep-node-address={group}"))
        .arg(format!("--wsrep-node-incoming-address={clients}"))
        .arg(format!("--wsrep-sst-receive-address={all}"))
        .arg(format!(
            "--wsrep-provider-options=base_host={};base_port={};gmcast.listen_addr=tcp://{group};ist.recv_addr={missed};gcache.size=16M;{TIMES}",
            group.ip(),
            group.port()
        ))
        .args(settings)
        .current_dir(dir);
    command
}

/// The scripts for state transfer do not work as root.
fn as_somebody() -> Option<&'static str> {
    rustix::process::geteuid()
        .is_root()
        .then_some("--user=mysql")
}

fn directory() -> TempDir {
    let dir = tempfile::Builder::new()
        .prefix("galera-")
        .tempdir()
        .unwrap();
    if as_somebody().is_some() {
        run(Command::new("chown").arg("mysql:").arg(dir.path()));
    }
    dir
}

fn run(command: &mut Command) {
    let ran = command.output();
    let ran = ran.unwrap_or_else(|fault| panic!("{command:?}: {fault}"));
    succeeded(&format!("{command:?}"), &ran);
}
