//! Names that are not settings: the nearest setting, and names of other programs.

use doorward_rules::tables::Unknown;

use super::{
    keys,
    lists::{ISSUER, ROUTE},
};

pub(super) fn unknown(name: &str) -> Unknown {
    let names: Vec<_> = keys()
        .map(|key| key.name)
        .chain([ROUTE.name, ISSUER.name])
        .collect();
    Unknown::among(name, &names)
}

/// Kubernetes and Docker set environment variables with such names to the addresses of services. A service called
/// `doorward` must not prevent the start of Doorward.
pub(super) fn is_service_link(name: &str) -> bool {
    let Some((_, rest)) = name.rsplit_once("_PORT") else {
        return name.ends_with("_SERVICE_HOST");
    };
    let is_port = rest.strip_prefix('_').is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit())
            && (rest.contains("_TCP") || rest.contains("_UDP"))
    });
    rest.is_empty() || is_port || name.contains("_SERVICE_PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_service_links_are_recognised() {
        for name in [
            "DOORWARD_SERVICE_HOST",
            "DOORWARD_SERVICE_PORT",
            "DOORWARD_SERVICE_PORT_GRPC",
            "DOORWARD_PORT",
            "DOORWARD_PORT_9001_TCP",
            "DOORWARD_PORT_9001_TCP_ADDR",
            "DOORWARD_GRPC_PORT_9001_TCP_PROTO",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for name in [
            "DOORWARD_LISTEN_GRPC",
            "DOORWARD_DATABASE__PROT",
            "DOORWARD_PORTS",
        ] {
            assert!(!is_service_link(name), "{name}");
        }
    }
}
