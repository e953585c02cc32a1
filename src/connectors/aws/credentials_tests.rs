use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;

use super::*;

/// A server that answers by path, and its URL.
fn server(answer: impl Fn(&str, &str, &str) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let (mut head, mut length) = (String::new(), 0);
            while reader.read_line(&mut head).unwrap_or(0) > 2 {
                let line = head.lines().last().unwrap_or_default().to_lowercase();
                length = line.strip_prefix("content-length: ").and_then(|text| text.parse().ok()).unwrap_or(length);
            }
            let mut body = vec![0; length];
            let _ = reader.read_exact(&mut body);
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let (status, text) = answer(&path, &head, &String::from_utf8_lossy(&body));
            let reply = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            let _ = reader.get_mut().write_all(reply.as_bytes());
        }
    });
    url
}

async fn found(variables: &[(&'static str, &str)]) -> Result<AwsCredentials, AccessError> {
    AwsCredentialsChain::new(AwsAccess::with("eu-central-1", variables)).credentials(0).await
}

#[tokio::test]
async fn variables_come_first() {
    let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_SESSION_TOKEN", "token")];
    let credentials = found(&[&keys[..], &[("AWS_PROFILE", "other")]].concat()).await.unwrap();
    assert_eq!((credentials.access_key_id.as_str(), credentials.secret_access_key.reveal()), ("id", "secret"));
    assert_eq!(credentials.session_token.unwrap().reveal(), "token");
}

const STS: &str = "<R><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
                   <SessionToken>t/+=</SessionToken><Expiration>2026-01-02T03:04:05Z</Expiration></Credentials></R>";

#[tokio::test]
async fn a_web_identity_is_exchanged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token").display().to_string();
    std::fs::write(&file, "j.w.t\n").unwrap();
    let url = server(|_, _, body| {
        let is_right = body.contains("Action=AssumeRoleWithWebIdentity") && body.contains("WebIdentityToken=j.w.t");
        if is_right { (200, STS.to_owned()) } else { (400, "<Code>InvalidIdentityToken</Code>".to_owned()) }
    });
    let variables = [("AWS_WEB_IDENTITY_TOKEN_FILE", &*file), ("AWS_ROLE_ARN", "arn:role"), ("AWS_ENDPOINT_URL_STS", &*url)];
    let credentials = found(&variables).await.unwrap();
    assert_eq!((credentials.access_key_id.as_str(), credentials.expires_at), ("ASIA", Some(1_767_323_045_000)));
    std::fs::write(&file, "other").unwrap();
    let error = found(&variables).await.unwrap_err();
    assert_eq!(error.text, "AWS STS does not give the credentials of role `arn:role`: `InvalidIdentityToken`");
    assert!(error.is_lasting);
}

#[tokio::test]
async fn a_profile_assumes_the_role_of_its_source() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let credentials = write("credentials", "[base]\naws_access_key_id = B\naws_secret_access_key = b\n");
    let config = write(
        "config",
        "[profile work]\nrole_arn = arn:work\nsource_profile = base\nexternal_id = x\n[profile loop]\nrole_arn = a\nsource_profile = \
         loop2\n[profile loop2]\nrole_arn = a\nsource_profile = loop\n[profile sso]\nsso_session = s\n",
    );
    let url = server(|_, head, body| {
        let is_signed = head.contains("authorization: AWS4-HMAC-SHA256 Credential=B/");
        let is_right = is_signed && body.contains("RoleArn=arn%3Awork") && body.contains("ExternalId=x");
        if is_right { (200, STS.to_owned()) } else { (403, "<Code>AccessDenied</Code>".to_owned()) }
    });
    let of = async |profile: &str| {
        let files = [("AWS_SHARED_CREDENTIALS_FILE", &*credentials), ("AWS_CONFIG_FILE", &*config)];
        found(&[&files[..], &[("AWS_PROFILE", profile), ("AWS_ENDPOINT_URL_STS", &*url)]].concat()).await
    };
    assert_eq!(of("base").await.unwrap().access_key_id, "B");
    assert_eq!(of("work").await.unwrap().access_key_id, "ASIA");
    for (profile, text) in [
        ("gone", "the AWS profile `gone` is not in AWS's files"),
        ("loop", "the AWS profile `loop` refers to itself"),
        ("sso", "the AWS profile `sso` gets its credentials by `sso_session`, which sdl does not support"),
    ] {
        assert_eq!(of(profile).await.unwrap_err().text, text);
    }
}

#[tokio::test]
async fn a_container_and_an_instance_give_their_own() {
    let document = r#"{"AccessKeyId":"C","SecretAccessKey":"s","Token":"t","Expiration":"2026-01-02T03:04:05Z"}"#;
    let url = server(move |path, head, _| {
        let (is_asked, has_token) =
            (head.contains("authorization: container"), head.contains("x-aws-ec2-metadata-token: session"));
        match path {
            "/container" if is_asked => (200, document.to_owned()),
            "/latest/api/token" if head.starts_with("PUT") => (200, "session".to_owned()),
            "/latest/meta-data/iam/security-credentials/" if has_token => (200, "role\n".to_owned()),
            "/latest/meta-data/iam/security-credentials/role" if has_token => (200, document.to_owned()),
            _ => (401, String::new()),
        }
    });
    let container = format!("{url}/container");
    let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", &*container), ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container")];
    assert_eq!(found(&variables).await.unwrap().access_key_id, "C");
    assert_eq!(found(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &*url)]).await.unwrap().access_key_id, "C");
    let none = found(&[("AWS_EC2_METADATA_DISABLED", "true")]).await.unwrap_err();
    assert!(none.text.starts_with("there are no AWS credentials") && none.is_lasting, "{}", none.text);
}

#[test]
fn credentials_are_asked_for_over_tls_or_on_this_machine() {
    for url in ["https://x", "http://127.0.0.1:80/x", "http://[::1]:1", "http://localhost", "http://169.254.170.23/v1"] {
        assert!(is_trusted(url), "{url}");
    }
    for url in ["http://x", "http://127.0.0.1.x/", "ftp://localhost", "http://localhost@x/"] {
        assert!(!is_trusted(url), "{url}");
    }
}
