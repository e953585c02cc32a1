//! Logins by tokens and by signatures of AWS, on scripted servers.

use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use sdl::connectors::elastic::ElasticClient;
use serde_json::json;

use crate::harness::{CLIENT_SECRET, HttpStub, KafkaStub, Reply, TokenServer, created, token, token_until};
use crate::profile::profile;
use crate::run::{Ended, Folder, ended};

/// Runs a command that contacts a cluster with these keys; no output may show a secret.
fn contact(servers: &str, keys: &str) -> Ended {
    let ended = Folder::with_profile(&format!("[local_kafka]\nservers = {servers}\n{keys}")).run("tail logins -n 1");
    assert!(!format!("{ended:?}").contains(CLIENT_SECRET), "{ended:?}");
    ended
}

/// Expects one clear error.
#[track_caller]
fn fails(keys: &str, cause: &str, hint: &str) {
    let ended = contact("127.0.0.1:1", keys);
    let expected = format!("error: cannot connect to `local_kafka`\n  caused by: {cause}\nhint: {hint}\n");
    assert_eq!((ended.stderr.as_str(), ended.code), (expected.as_str(), Some(1)));
}

const SECURED: &str = "security_protocol = SASL_PLAINTEXT\nsasl_mechanism = OAUTHBEARER\n";

#[test]
fn a_client_that_the_token_endpoint_refuses_is_named() {
    let server = TokenServer::start(Duration::from_secs(60));
    fails(
        &server.keys("stranger"),
        "the token endpoint does not accept client `stranger` (wrong ***)",
        "correct `oauth_client_id` or `oauth_client_secret` under [local_kafka]",
    );
}

#[test]
fn an_endpoint_that_is_down_is_named() {
    let closed = TcpListener::bind("127.0.0.215:0").unwrap().local_addr().unwrap();
    let server = TokenServer::start(Duration::from_secs(60));
    let url = format!("http://{closed}/token");
    fails(
        &server.keys("loader").replace(&server.url(), &url),
        &format!("{url}: connecting: connection refused"),
        "correct `oauth_token_url` or `oauth_ca_location` under [local_kafka], or see whether the token endpoint is up",
    );
}

#[test]
fn a_command_or_file_without_a_token_is_named() {
    fails(
        &format!("{SECURED}oauth_token_command = /no/such/program {CLIENT_SECRET}\n"),
        "cannot run the token command `/no/such/program`: there is no such file",
        "correct `oauth_token_command` under [local_kafka]",
    );
    fails(
        &format!("{SECURED}oauth_token_command = echo {CLIENT_SECRET} {CLIENT_SECRET}\n"),
        "the token command `echo` does not print a token, which is one word",
        "run it by hand: its output is not shown here",
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, token_until("loader", SystemTime::now() - Duration::from_secs(60))).unwrap();
    let path = file.path().display().to_string();
    fails(
        &format!("{SECURED}oauth_token_file = {path}\n"),
        &format!("the token in the file `{path}` is expired"),
        "see whether the program that renews it runs",
    );
}

#[test]
fn a_ca_file_that_is_none_is_named() {
    let server = TokenServer::start(Duration::from_secs(60));
    let file = tempfile::NamedTempFile::new().unwrap();
    let keys = format!("{}oauth_ca_location = {}\n", server.keys("loader"), file.path().display());
    let ended = contact("127.0.0.1:1", &keys);
    let expected = "error: cannot connect to `local_kafka`\n  caused by: the file of `oauth_ca_location` is not a PEM certificate\n\
                    hint: correct `oauth_ca_location` under [local_kafka]\n";
    assert_eq!((ended.stderr.as_str(), ended.code), (expected, Some(2)));
}

#[test]
fn the_broker_gets_the_token_with_its_extensions() {
    let (server, broker) = (TokenServer::start(Duration::from_secs(60)), KafkaStub::accepting_tokens());
    let keys = format!("{}oauth_scope = kafka read\noauth_extensions = logicalCluster=lkc-1,poolId=p 2\n", server.keys("loader"));
    contact(&broker.servers(), &keys);
    let request = server.requests().remove(0);
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/token"));
    assert_eq!(String::from_utf8(request.body).unwrap(), "grant_type=client_credentials&scope=kafka%20read");
    let logins = broker.logins();
    assert!(logins.len() > 1, "every client logs in: {logins:?}");
    for login in logins {
        let has = |part: &str| login.contains(part);
        assert!(has("auth=Bearer eyJ") && has("\u{1}logicalCluster=lkc-1\u{1}") && has("\u{1}poolId=p 2\u{1}"), "{login:?}");
    }
    assert_eq!(server.issued(), 1, "one token for all clients of the section");
}

#[test]
fn the_broker_gets_the_token_of_a_command_and_of_a_file() {
    let broker = KafkaStub::accepting_tokens();
    let text = token("loader", Duration::from_secs(60));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, format!("{text}\n")).unwrap();
    for key in
        [format!("oauth_token_command = cat {}", file.path().display()), format!("oauth_token_file = {}", file.path().display())]
    {
        let before = broker.logins().len();
        contact(&broker.servers(), &format!("{SECURED}{key}\n"));
        let logins = broker.logins().split_off(before);
        assert!(!logins.is_empty() && logins.iter().all(|login| login.contains(&text)), "{key}: {logins:?}");
    }
}

#[test]
fn the_broker_gets_a_request_that_aws_credentials_sign() {
    use base64::Engine as _;
    let broker = KafkaStub::accepting_tokens();
    let keys = "security_protocol = SASL_PLAINTEXT\nsasl_mechanism = AWS_MSK_IAM\naws_region = eu-central-1\n";
    let folder = Folder::with_profile(&format!("[local_kafka]\nservers = {}\n{keys}", broker.servers()));
    let run = |command: &mut std::process::Command| ended(command.env("AWS_EC2_METADATA_DISABLED", "true"));
    let none = run(&mut folder.sdl("tail logins -n 1"));
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("caused by: there are no AWS credentials"), "{}", none.stderr);
    let mut command = folder.sdl("tail logins -n 1");
    command.env("AWS_ACCESS_KEY_ID", "AKID").env("AWS_SECRET_ACCESS_KEY", CLIENT_SECRET);
    let with = run(&mut command);
    assert!(!format!("{with:?}").contains(CLIENT_SECRET), "{with:?}");
    let login = broker.logins().pop().expect("a login");
    let token = login.split("auth=Bearer ").nth(1).and_then(|rest| rest.split('\u{1}').next()).expect("a token");
    let url = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).unwrap();
    let url = String::from_utf8(url).unwrap();
    assert!(url.starts_with("https://kafka.eu-central-1.amazonaws.com/?Action=kafka-cluster%3AConnect&"), "{url}");
    assert!(url.contains("X-Amz-Credential=AKID%2F") && url.contains("&X-Amz-Signature="), "{url}");
}

#[tokio::test]
async fn each_request_to_opensearch_is_signed() {
    let server = HttpStub::search(created);
    let text = format!("[opensearch]\nurl = {}/behind\naws_region = eu-central-1\n", server.url());
    let behind = HttpStub::start(|request| match request.path.as_str() {
        "/behind/" => Reply::Json(200, json!({"version": {"number": "3.6.0", "distribution": "opensearch"}})),
        _ => Reply::Json(200, json!({})),
    });
    let text = text.replace(&server.url(), &behind.url());
    let made = profile(&text).variable("AWS_ACCESS_KEY_ID", "AKID").variable("AWS_SECRET_ACCESS_KEY", CLIENT_SECRET);
    let section = made.load().unwrap().elastic("opensearch").unwrap();
    ElasticClient::connect(&section, Duration::from_secs(10)).await.unwrap();
    let requests = behind.requests();
    assert!(requests.len() > 1);
    for request in &requests {
        let signed = &request.headers["authorization"];
        assert!(signed.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"), "{signed}");
        assert!(
            signed.contains("/eu-central-1/es/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, "),
            "{signed}"
        );
        assert!(request.headers.contains_key("x-amz-date") && !request.path.contains('*'), "{}", request.path);
    }
    assert!(requests.iter().any(|request| request.path.contains("nodes.%2A.version%2C")), "the query is sent as it is signed");
}

#[tokio::test]
async fn a_signature_that_aws_refuses_is_named() {
    let server =
        HttpStub::start(|_| Reply::Json(403, json!({"message": "The security token included in the request is invalid."})));
    let text = format!("[opensearch]\nurl = {}\naws_region = eu-central-1\n", server.url());
    let made = profile(&text).variable("AWS_ACCESS_KEY_ID", "AKID").variable("AWS_SECRET_ACCESS_KEY", CLIENT_SECRET);
    let section = made.load().unwrap().elastic("opensearch").unwrap();
    let Err(error) = ElasticClient::connect(&section, Duration::from_secs(10)).await else { panic!("it is refused") };
    let text = sdl::error::Error::from(error).render();
    assert!(text.contains("logging in: authentication failed for the AWS credentials"), "{text}");
    assert!(text.contains("hint: correct the AWS credentials, `aws_region` or `aws_service` under [opensearch]"), "{text}");
}

#[tokio::test]
async fn a_proxy_stands_between() {
    let proxy = HttpStub::start(|request| match request.path.as_str() {
        "http://search.invalid:9200/" => Reply::Json(200, json!({"version": {"number": "3.6.0", "distribution": "opensearch"}})),
        _ => Reply::Json(200, json!({})),
    });
    let text = format!(
        "[opensearch]\nurl = http://search.invalid:9200\nproxy = {}\nproxy_username = u\nproxy_password = {CLIENT_SECRET}\n",
        proxy.url()
    );
    let section = profile(&text).load().unwrap().elastic("opensearch").unwrap();
    ElasticClient::connect(&section, Duration::from_secs(10)).await.unwrap();
    let requests = proxy.requests();
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|request| request.headers["proxy-authorization"].starts_with("Basic ")));
}

#[test]
fn a_profile_of_the_working_folder_that_others_can_write_reads_no_secret() {
    let folder = Folder::with_profile("[local_kafka]\nservers = 127.0.0.1:1\nusername = u\npassword = ${env:SECRET}\n");
    folder.mode("database.ini", 0o666);
    let ended = ended(folder.sdl("tail logins -n 1").env("SECRET", CLIENT_SECRET));
    let expected = "error: cannot read section `local_kafka`\n  caused by: the reference in key `password` at ./database.ini:4 is refused: \
                    another user owns the file of the working folder, or others can write it\nhint: read it; if it is meant, run \
                    `chown $USER ./database.ini && chmod go-w ./database.ini`, or name it with --profile ./database.ini\n";
    assert!(ended.stderr.ends_with(expected), "{}", ended.stderr);
    assert_eq!(ended.code, Some(2));
}
