//! The lists of tables. Only a file can contain them.

use doorward_rules::tables::List;

pub(super) use doorward_rules::routes::ROUTE;

pub(super) static ISSUER: List = List {
    name: "issuer",
    members: &[
        "issuer",
        "audience",
        "jwks",
        "prefix",
        "username",
        "roles",
        "accept_roles",
        "grant",
        "algorithms",
    ],
};
