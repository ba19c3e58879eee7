//! A gRPC client whose service is behind Envoy, and gRPC clients of Doorward itself.

use std::process::Command;

use bytes::Bytes;
use doorward::doors::wire::{
    self,
    envoy::service::auth::v3::{
        AttributeContext, CheckRequest, CheckResponse, attribute_context,
        authorization_client::AuthorizationClient, check_response::HttpResponse,
    },
};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use prost_types::FileDescriptorProto;
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{
    front::{BOB, Front, basic},
    harness::{Doorward, Envoy},
};

async fn channel(address: std::net::SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

/// The path of any gRPC method works, because the gateway answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_behind_envoy_sees_a_grpc_status() {
    let rules = "
        [[route]]
        path = '/login'
        allow = 'login'
        [[route]]
        path = '/envoy.service.auth.v3.Authorization/*'
        allow = 'role:admin'
    ";
    for version in Envoy::VERSIONS {
        let front = Front::open(
            version,
            |settings| {
                settings.toml(rules);
            },
            |config| config,
        )
        .await;
        let bob = front.bearer(BOB).await;
        let channel = channel(front.envoy.edge).await;
        let call = async |bearer: Option<&str>| {
            let mut request = tonic::Request::new(CheckRequest::default());
            if let Some(bearer) = bearer {
                request
                    .metadata_mut()
                    .insert("authorization", bearer.parse().unwrap());
            }
            AuthorizationClient::new(channel.clone())
                .check(request)
                .await
                .err()
                .unwrap()
        };
        let nothing = call(None).await;
        assert_eq!(
            (nothing.code(), nothing.message()),
            (Code::Unauthenticated, "Missing token"),
            "{version}"
        );
        let no_role = call(Some(&bob)).await;
        assert_eq!(
            (no_role.code(), no_role.message()),
            (Code::PermissionDenied, "Not authorized"),
            "{version}"
        );
        assert_eq!(front.service.requests(), 0);
    }
}

/// The contract, as a client without proto files learns it through reflection.
pub async fn reflected(doorward: &Doorward) -> DescriptorPool {
    let mut client = ServerReflectionClient::new(channel(doorward.grpc).await);
    let mut questions = vec![MessageRequest::FileContainingSymbol(wire::SERVICE.into())];
    let mut found: Vec<FileDescriptorProto> = Vec::new();
    while let Some(question) = questions.pop() {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(question),
        };
        let answers = client.server_reflection_info(tokio_stream::iter([request]));
        let answer = answers.await.unwrap().into_inner().message().await;
        let answer = answer.unwrap().unwrap();
        let Some(MessageResponse::FileDescriptorResponse(files)) = answer.message_response else {
            panic!("{answer:?}");
        };
        for bytes in files.file_descriptor_proto {
            let file = FileDescriptorProto::decode(&*bytes).unwrap();
            if found.iter().any(|known| known.name() == file.name()) {
                continue;
            }
            let needed = file.dependency.iter().cloned();
            questions.extend(needed.map(MessageRequest::FileByFilename));
            found.push(file);
        }
    }
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_protos(found).unwrap();
    pool
}

/// Sends a check in JSON, in the form that people write for grpcurl, and gives the response in JSON.
pub async fn check_json(
    doorward: &Doorward,
    pool: &DescriptorPool,
    json: &str,
) -> serde_json::Value {
    let request = pool
        .get_message_by_name("envoy.service.auth.v3.CheckRequest")
        .unwrap();
    let mut reader = serde_json::Deserializer::from_str(json);
    let request = DynamicMessage::deserialize(request, &mut reader).unwrap();
    let request = CheckRequest::decode(&*request.encode_to_vec()).unwrap();
    let mut client = AuthorizationClient::new(channel(doorward.grpc).await);
    let response = client.check(request).await.unwrap().into_inner();
    let descriptor = pool
        .get_message_by_name("envoy.service.auth.v3.CheckResponse")
        .unwrap();
    let response = DynamicMessage::decode(descriptor, &*response.encode_to_vec()).unwrap();
    let options = SerializeOptions::new();
    response
        .serialize_with_options(serde_json::value::Serializer, &options)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_proto_files_logs_in_and_checks_a_token() {
    let doorward = Doorward::start(|_| {}).await;
    doorward.add_user(BOB.0, BOB.1, &[]).await;
    let pool = reflected(&doorward).await;
    let login = serde_json::json!({"attributes": {"request": {"http": {
        "method": "POST", "path": "/login", "headers": {"authorization": basic(BOB.0, BOB.1)},
    }}}});
    let answer = check_json(&doorward, &pool, &login.to_string()).await;
    assert_eq!(answer["deniedResponse"]["status"]["code"], "OK", "{answer}");
    let token = answer["deniedResponse"]["body"].as_str().unwrap();
    let check = serde_json::json!({"attributes": {"request": {"http": {
        "method": "GET", "path": "/profile", "headers": {"authorization": format!("Bearer {token}")},
    }}}});
    let answer = check_json(&doorward, &pool, &check.to_string()).await;
    assert_eq!(
        answer["okResponse"]["headers"][0]["header"]["value"], "bob",
        "{answer}"
    );

    // The same with grpcurl, if it is installed.
    let grpcurl = |json: &str| {
        Command::new("grpcurl")
            .args(["-plaintext", "-d", json, &doorward.grpc.to_string()])
            .arg("envoy.service.auth.v3.Authorization/Check")
            .output()
    };
    match grpcurl(&check.to_string()) {
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("grpcurl is not installed: asked through the reflection client alone");
        }
        Err(fault) => panic!("{fault}"),
        Ok(ran) => {
            assert!(
                ran.status.success(),
                "{}",
                String::from_utf8_lossy(&ran.stderr)
            );
            let said: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
            assert_eq!(
                said["okResponse"]["headers"][0]["header"]["value"], "bob",
                "{said}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_reported_for_the_server_and_the_service() {
    let doorward = Doorward::start(|_| {}).await;
    let mut client = HealthClient::new(channel(doorward.grpc).await);
    for service in ["", wire::SERVICE] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let status = client.check(request).await.unwrap().into_inner().status();
        assert_eq!(status.as_str_name(), "SERVING", "{service}");
    }
    let request = HealthCheckRequest {
        service: "other".into(),
    };
    assert_eq!(
        client.check(request).await.unwrap_err().code(),
        Code::NotFound
    );
}

fn check(http: attribute_context::HttpRequest) -> CheckRequest {
    CheckRequest {
        attributes: Some(AttributeContext {
            source: None,
            request: Some(attribute_context::Request { http: Some(http) }),
        }),
    }
}

fn status(response: &CheckResponse) -> (i32, i32) {
    let denied = match &response.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => denied.status.as_ref().unwrap().code,
        Some(HttpResponse::OkResponse(_)) | None => 0,
    };
    (response.status.as_ref().unwrap().code, denied)
}

#[tokio::test(flavor = "multi_thread")]
async fn incomplete_checks_are_denied() {
    let doorward = Doorward::start(|_| {}).await;
    let mut client = AuthorizationClient::new(channel(doorward.grpc).await);
    let http = |method: &'static str, path: &'static str| attribute_context::HttpRequest {
        method: Bytes::from_static(method.as_bytes()),
        path: Bytes::from_static(path.as_bytes()),
        ..attribute_context::HttpRequest::default()
    };
    for (request, expected) in [
        (CheckRequest::default(), (3, 400)),
        (
            CheckRequest {
                attributes: Some(AttributeContext::default()),
            },
            (3, 400),
        ),
        (check(http("", "/")), (3, 400)),
        (check(http("GET", "")), (3, 400)),
        (check(http("CONNECT", "")), (3, 400)),
        (check(http("OPTIONS", "*")), (3, 400)),
        (check(http("GET", "/")), (16, 401)),
    ] {
        let response = client.check(request).await.unwrap().into_inner();
        assert_eq!(status(&response), expected);
    }
}
