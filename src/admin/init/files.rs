//! The texts that `doorward init` writes and prints.

use std::path::Path;

use crate::cli::{Gateway, UserDatabase};

/// What the files depend on.
pub(super) struct Answers {
    pub(super) gateway: Gateway,
    pub(super) database: UserDatabase,
    /// `None` for Doorward's own table.
    pub(super) table: Option<Table>,
}

/// An existing table.
pub(super) struct Table {
    pub(super) name: String,
    pub(super) username: String,
    pub(super) password: String,
}

/// The files of a gateway: those of the repository, which tests start.
pub(super) fn gateway_files(gateway: Gateway) -> &'static [(&'static str, &'static str)] {
    match gateway {
        Gateway::Envoy => &[("envoy.yaml", include_str!("../../../envoy/envoy.yaml"))],
        Gateway::EnvoyHttp => &[("envoy.yaml", include_str!("../../../envoy/envoy-http.yaml"))],
        Gateway::Nginx => &[(
            "nginx.conf",
            include_str!("../../../examples/nginx/nginx.conf"),
        )],
        Gateway::Caddy => &[(
            "Caddyfile",
            include_str!("../../../examples/caddy/Caddyfile"),
        )],
        Gateway::Haproxy => &[
            (
                "haproxy.cfg",
                include_str!("../../../examples/haproxy/haproxy.cfg"),
            ),
            (
                "doorward.lua",
                include_str!("../../../examples/haproxy/doorward.lua"),
            ),
        ],
        Gateway::Traefik => &[
            (
                "traefik.yaml",
                include_str!("../../../examples/traefik/traefik.yaml"),
            ),
            (
                "dynamic.yaml",
                include_str!("../../../examples/traefik/dynamic.yaml"),
            ),
        ],
    }
}

/// The settings, with what each of them means.
pub(super) fn settings(answers: &Answers) -> String {
    let Answers {
        gateway,
        database,
        table,
    } = answers;
    let mut text = String::from(HEAD);
    text += &client_address(*gateway);
    text += match database {
        UserDatabase::Sqlite => "",
        UserDatabase::Mysql => MYSQL,
        UserDatabase::Postgres => POSTGRES,
    };
    text += &match table {
        Some(Table {
            name,
            username,
            password,
        }) => format!(
            "
# Your table. More columns (id, roles, admin, active) are in docs/users.md, and so is how Doorward may replace old hashes.
[users]
table = {}
username = {}
password = {}
",
            quoted(name),
            quoted(username),
            quoted(password)
        ),
        None => "\n# Users are in a table of Doorward's own, which `doorward user` manages.\n".to_owned(),
    };
    text + ROUTES
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

const HEAD: &str = "\
#:schema doorward.schema.json
# For editors. Make it with: doorward config schema > doorward.schema.json

# Settings of Doorward. Check them with: doorward config check
# Every setting: docs/settings.md. Each can also be an environment variable: listen.grpc is DOORWARD_LISTEN__GRPC.

# Who may ask Doorward: the addresses of your gateway. Others are refused.
trusted_proxies = [\"127.0.0.0/8\", \"::1/128\"]

";

fn client_address(gateway: Gateway) -> String {
    let (client, door) = match gateway {
        Gateway::Envoy => (
            "\
# The client of a request, for limits on guessing: the peer of Envoy's connection. Behind a load balancer, set
# \"x-envoy-external-address\" or \"x-forwarded-for:N\" (docs/gateways/envoy.md).
client_address = \"peer\"
",
            "Envoy asks at grpc",
        ),
        Gateway::EnvoyHttp => (
            "\
# The client of a request, for limits on guessing: a header that envoy.yaml sets.
client_address = \"x-envoy-external-address\"
",
            "Envoy asks at http",
        ),
        Gateway::Nginx | Gateway::Caddy | Gateway::Haproxy | Gateway::Traefik => (
            "\
# The client of a request, for limits on guessing: the last address that the gateway wrote.
client_address = \"x-forwarded-for:1\"
",
            "the gateway asks at http",
        ),
    };
    format!(
        "\
{client}
# Addresses that Doorward listens on: {door}.
[listen]
grpc = \"127.0.0.1:9001\"
http = \"127.0.0.1:9002\"
ops = \"127.0.0.1:9003\"
"
    )
}

const MYSQL: &str = "
# The password is not here: put it into a file, and its name into MYSQL_PASSWORD_FILE.
[database]
host = \"127.0.0.1\"
user = \"doorward\"
name = \"auth\"
# tls = \"verify-identity\"    # for a server that is not on this machine
";

const POSTGRES: &str = "
# The password is not here: put it into a file, and its name into DOORWARD_DATABASE__PASSWORD_FILE.
[database]
url = \"postgres://doorward@127.0.0.1:5432/auth\"
# tls = \"verify-identity\"    # for a server that is not on this machine
";

const ROUTES: &str = r#"
# A route says what a request needs. The most specific route decides; the order does not matter. If no route matches, the
# request is refused. Try one with: doorward policy check GET /admin/users

# Exchanges a user name and a password for a token.
[[route]]
path = "/login"
allow = "login"

# Revokes the token of the request.
[[route]]
path = "/logout"
allow = "logout"

# Anybody.
[[route]]
path = "/healthz"
methods = ["GET"]
allow = "public"

# A token of a user with this role.
[[route]]
path = "/admin/*"
allow = "role:admin"

# Any valid token.
[[route]]
path = "/*"
allow = "signed-in"
"#;

/// What to run, in order.
pub(super) fn next_commands(answers: &Answers, dir: &Path) -> String {
    let file = |name: &str| dir.join(name).display().to_string();
    let doorward = match dir == Path::new(".") {
        // It reads ./doorward.toml by itself.
        true => "doorward".to_owned(),
        false => format!("doorward --config {}", file("doorward.toml")),
    };
    let mut commands = vec![];
    let password = match answers.database {
        UserDatabase::Sqlite => None,
        UserDatabase::Mysql => Some("MYSQL_PASSWORD_FILE"),
        UserDatabase::Postgres => Some("DOORWARD_DATABASE__PASSWORD_FILE"),
    };
    if let Some(password) = password {
        commands.push(format!(
            "export {password}=…    # a file with the password of the database user"
        ));
        commands.push(format!("{doorward} keys generate ES256"));
        commands.push(format!("{doorward} migrate"));
    }
    if answers.table.is_none() {
        commands.push(format!("{doorward} user add NAME --admin"));
    } else {
        commands.push(format!(
            "{doorward} users hashes    # can everybody log in?"
        ));
    }
    commands.push(format!("{doorward} serve"));
    commands.push(match answers.gateway {
        Gateway::Envoy | Gateway::EnvoyHttp => format!("envoy -c {}", file("envoy.yaml")),
        Gateway::Nginx => format!("nginx -c $PWD/{}", file("nginx.conf")),
        Gateway::Caddy => format!("caddy run --config {}", file("Caddyfile")),
        Gateway::Haproxy => format!("haproxy -f {}", file("haproxy.cfg")),
        Gateway::Traefik => format!(
            "(cd {} && traefik --configfile=traefik.yaml)",
            dir.display()
        ),
    });
    commands.push("curl -i -X POST -u NAME http://localhost:8080/login".to_owned());
    format!(
        "The gateway listens on 127.0.0.1:8080, and your service is on 127.0.0.1:8081. Next:\n\n  {}",
        commands.join("\n  ")
    )
}
