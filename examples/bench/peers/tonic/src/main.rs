//! An authorizer as people write it by hand in Rust: tonic, envoy-types for the messages, jsonwebtoken for the token, and no
//! rules except that a valid token is required. With the argument `null`, it allows every request without reading it.
//!
//! Prints its address, and reads the secret of the tokens from JWT_SECRET.

use std::{env, error::Error, sync::Arc};

use envoy_types::ext_authz::v3::{
    CheckRequestExt as _, CheckResponseExt as _, DeniedHttpResponseBuilder, OkHttpResponseBuilder,
    pb::{
        Authorization, AuthorizationServer, CheckRequest, CheckResponse, HeaderAppendAction,
        HttpStatusCode,
    },
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

#[derive(Deserialize)]
struct Claims {
    username: String,
    admin: bool,
    roles: Vec<String>,
}

struct Null;

#[tonic::async_trait]
impl Authorization for Null {
    async fn check(&self, _: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Ok(Response::new(CheckResponse::with_status(Status::ok(""))))
    }
}

struct Naive {
    key: DecodingKey,
    validation: Validation,
}

impl Naive {
    fn new(secret: &str) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&["doorward"]);
        validation.set_audience(&["doorward"]);
        Self {
            key: DecodingKey::from_secret(secret.as_bytes()),
            validation,
        }
    }

    fn claims(&self, check: &CheckRequest) -> Option<Claims> {
        let header = check.get_client_headers()?.get("authorization")?;
        let token = header.strip_prefix("Bearer ")?;
        let token = decode(token, &self.key, &self.validation).ok()?;
        Some(token.claims)
    }
}

#[tonic::async_trait]
impl Authorization for Naive {
    async fn check(&self, check: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let Some(claims) = self.claims(check.get_ref()) else {
            let mut denied = DeniedHttpResponseBuilder::new();
            denied
                .set_http_status(HttpStatusCode::Unauthorized)
                .set_body("Unauthorized");
            let mut response = CheckResponse::with_status(Status::unauthenticated(""));
            response.set_http_response(denied);
            return Ok(Response::new(response));
        };
        let roles = match &*claims.roles {
            [] => "-".to_owned(),
            roles => roles.join(","),
        };
        let mut allowed = OkHttpResponseBuilder::new();
        for (name, value) in [
            ("x-auth-user", claims.username),
            ("x-auth-roles", roles),
            ("x-auth-admin", claims.admin.to_string()),
        ] {
            let overwrite = Some(HeaderAppendAction::OverwriteIfExistsOrAdd);
            allowed.add_header(name, value, overwrite, false);
        }
        let mut response = CheckResponse::with_status(Status::ok(""));
        response.set_http_response(allowed);
        Ok(Response::new(response))
    }
}

async fn serve(authorizer: impl Authorization) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    Server::builder()
        .add_service(AuthorizationServer::from_arc(Arc::new(authorizer)))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1).as_deref() {
        Some("null") => serve(Null).await,
        _ => serve(Naive::new(&env::var("JWT_SECRET")?)).await,
    }
}
