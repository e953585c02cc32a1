//! Logins by tokens and signatures, proxies, and profiles that somebody else wrote.

use std::path::Path;
use std::sync::Arc;

use sdl::error::Error;
use sdl::profile::{ElasticLogin, Profile, ProfileError, TokenSource};

use super::{Made, cause, kafka, profile};

/// Returns the cause and the hint of an error.
fn told<T: std::fmt::Debug>(outcome: Result<T, ProfileError>) -> (String, String) {
    let error = outcome.unwrap_err();
    (error.causes().join("; "), Error::from(error).hint().unwrap())
}

const ENDPOINT: &str = "servers = a:1\nsasl_mechanism = oauthbearer\noauth_token_url = https://idp/token\noauth_client_id = x\n\
                        oauth_client_secret = s\n";

#[test]
fn a_section_gets_its_tokens_from_an_endpoint() {
    let section = kafka(&format!("{ENDPOINT}oauth_scope = kafka\noauth_extensions = logicalCluster=lkc-1, poolId=p\n")).unwrap();
    assert_eq!((section.protocol(), section.mechanism()), ("SASL_SSL", Some("OAUTHBEARER")), "tokens are sent over TLS");
    let tokens = section.tokens.unwrap();
    let TokenSource::Endpoint(endpoint) = tokens.source else { panic!("{tokens:?}") };
    assert_eq!((endpoint.url.as_str(), endpoint.client_id.as_str()), ("https://idp/token", "x"));
    assert_eq!((endpoint.client_secret.reveal(), endpoint.scope.as_deref()), ("s", Some("kafka")));
    let pairs: Vec<_> = tokens.extensions.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(pairs, ["logicalCluster=lkc-1", "poolId=p"]);
}

#[test]
fn a_section_gets_its_tokens_from_a_command_a_file_or_aws() {
    let source = |keys: &str| kafka(&format!("servers = a:1\n{keys}")).unwrap().tokens.unwrap().source;
    let command = source("sasl_mechanism = OAUTHBEARER\noauth_token_command = gcloud auth  print-access-token\n");
    assert_eq!(command, TokenSource::Command(["gcloud", "auth", "print-access-token"].map(str::to_owned).to_vec()));
    let file = source("sasl_mechanism = OAUTHBEARER\noauth_token_file = /run/token\n");
    assert_eq!(file, TokenSource::File("/run/token".to_owned()));
    let aws = source("sasl_mechanism = AWS_MSK_IAM\naws_region = eu-central-1\n");
    assert!(matches!(aws, TokenSource::Aws(access) if access.region == "eu-central-1"));
}

#[test]
fn a_missing_or_conflicting_key_is_named_with_a_hint() {
    const OAUTH: &str = "servers = a:1\nsasl_mechanism = OAUTHBEARER\n";
    let at = |line: usize| format!("at ./database.ini:{line}");
    for (keys, cause, hint) in [
        (OAUTH.to_owned(), "missing key `oauth_token_url`".to_owned(), "add `oauth_token_url = https://host/token` under"),
        (
            format!("{OAUTH}oauth_token_url = https://a/t\n"),
            "missing key `oauth_client_id`".to_owned(),
            "add `oauth_client_id = NAME` under",
        ),
        (
            ENDPOINT.replace("oauth_client_secret = s\n", ""),
            "missing key `oauth_client_secret`".to_owned(),
            "add `oauth_client_secret = ${env:NAME}` under",
        ),
        (
            format!("{ENDPOINT}oauth_token_file = /t\n"),
            format!("key `oauth_token_file` {} stands beside `oauth_token_url`", at(7)),
            "remove one of the two",
        ),
        (
            format!("{OAUTH}oauth_token_file = /t\noauth_scope = x\n"),
            format!("key `oauth_scope` {} has no use with `oauth_token_file`", at(5)),
            "remove it, or set `oauth_token_url`",
        ),
        (
            format!("{ENDPOINT}username = u\n"),
            format!("key `username` {} has no use with `sasl_mechanism = OAUTHBEARER`", at(7)),
            "remove it, or use another mechanism",
        ),
        (
            "servers = a:1\nusername = u\npassword = p\noauth_scope = x\n".to_owned(),
            format!("key `oauth_scope` {} is for `sasl_mechanism = OAUTHBEARER` only", at(5)),
            "set `sasl_mechanism`, or remove it",
        ),
        (
            "servers = a:1\nsasl_mechanism = AWS_MSK_IAM\n".to_owned(),
            "missing key `aws_region`".to_owned(),
            "add `aws_region = eu-central-1` under",
        ),
        (
            "servers = a:1\naws_region = eu-central-1\n".to_owned(),
            format!("key `aws_region` {} is for `sasl_mechanism = AWS_MSK_IAM` only", at(3)),
            "set `sasl_mechanism`, or remove it",
        ),
        (
            format!("{ENDPOINT}oauth_extensions = a1=x\n"),
            format!("key `oauth_extensions` {} is not a list of `name=value` with commas, the names of letters", at(7)),
            "set `oauth_extensions` to a list",
        ),
        (
            ENDPOINT.replace("https://idp/token", "https://u:p@idp/token"),
            format!("key `oauth_token_url` {} is not a URL such as `https://host/token`, without user and password", at(4)),
            "set `oauth_token_url` to a URL",
        ),
        (
            "servers = a:1\nsasl_mechanism = AWS_MSK_IAM\naws_region = EU/1\n".to_owned(),
            format!("key `aws_region` {} is not a region, as in `eu-central-1`", at(4)),
            "set `aws_region` to a region",
        ),
        (
            "servers = a:1\nsasl.oauthbearer.token.endpoint.url = x\n".to_owned(),
            format!("unknown key `sasl.oauthbearer.token.endpoint.url` {}", at(3)),
            "use `oauth_token_url`",
        ),
    ] {
        let (found, told) = told(kafka(&keys));
        assert_eq!(found, cause, "{keys}");
        assert!(told.starts_with(hint), "{keys}: {told}");
    }
}

#[test]
fn a_client_secret_that_is_sent_unencrypted_draws_a_warning() {
    let warnings = |url: &str| kafka(&ENDPOINT.replace("https://idp/token", url)).unwrap().warnings();
    assert_eq!(
        warnings("http://idp:80/token"),
        ["`local_kafka` sends its client secret unencrypted: use `https://` in `oauth_token_url`"]
    );
    assert_eq!(warnings("http://127.0.0.1:80/token"), Vec::<String>::new());
}

#[test]
fn opensearch_is_reached_by_a_proxy_and_signed_requests() {
    let search = |section: &str, keys: &str| {
        let text = format!("[{section}]\nurl = https://a\n{keys}");
        profile(&text).load().unwrap().elastic(section)
    };
    let section = search("opensearch", "aws_region = eu-central-1\nproxy = http://p:3128\n").unwrap();
    assert!(matches!(&section.login, ElasticLogin::Aws { service, .. } if service == "es"));
    assert_eq!(section.proxy.map(|proxy| (proxy.url, proxy.login)), Some(("http://p:3128".to_owned(), None)));
    let login = search("elasticsearch", "proxy = http://p\nproxy_username = u\nproxy_password = s\n").unwrap();
    assert_eq!(login.proxy.unwrap().login.unwrap().0, "u");
    for (section, keys, wrong) in [
        (
            "elasticsearch",
            "aws_region = r\n",
            "key `aws_region` at ./database.ini:3 is for OpenSearch: Elasticsearch knows no signatures of AWS",
        ),
        ("opensearch", "aws_region = r\napi_key = k\n", "key `api_key` at ./database.ini:4 stands beside `aws_region`"),
        ("opensearch", "aws_service = es\n", "key `aws_service` at ./database.ini:3 has no use without `aws_region`"),
        ("opensearch", "aws_region = r\naws_service = s3\n", "key `aws_service` at ./database.ini:4 is not one of `es`, `aoss`"),
        ("opensearch", "proxy_password = p\n", "key `proxy_password` at ./database.ini:3 has no use without `proxy`"),
        ("opensearch", "proxy = p:3128\n", "key `proxy` at ./database.ini:3 is not `http://host:3128` or `https://host:3128`"),
        ("opensearch", "proxy = http://p\nproxy_username = u\n", "missing key `proxy_password`"),
        ("opensearch", "proxy = http://p\nproxy_password = u\n", "missing key `proxy_username`"),
    ] {
        assert_eq!(cause(search(section, keys)), wrong, "{keys}");
    }
    let with_password = search("opensearch", "proxy = http://u:canary@p:3128\n");
    let text = format!("{:?} {}", with_password, cause(with_password.clone()));
    assert!(text.contains("`proxy_username` and `proxy_password` hold them") && !text.contains("canary"), "{text}");
}

const REFUSED: &str = "is refused: another user owns the file of the working folder, or others can write it";

#[test]
fn a_foreign_profile_of_the_working_folder_reads_no_secret_and_runs_nothing() {
    for (lines, what) in [
        ("username = u\npassword = ${env:SECRET}\n", "the reference in key `password` at ./database.ini:4"),
        ("username = u\npassword = ${file:/run/secret}\n", "the reference in key `password` at ./database.ini:4"),
        ("kafka.client.id = ${env:SECRET}\n", "the reference in key `kafka.client.id` at ./database.ini:3"),
        ("sasl_mechanism = OAUTHBEARER\noauth_token_command = x\n", "key `oauth_token_command` at ./database.ini:4"),
        ("sasl_mechanism = OAUTHBEARER\noauth_token_file = /x\n", "key `oauth_token_file` at ./database.ini:4"),
        ("sasl_mechanism = AWS_MSK_IAM\naws_region = r\n", "key `aws_region` at ./database.ini:4"),
        ("kafka.plugin.library.paths = /x\n", "key `kafka.plugin.library.paths` at ./database.ini:3"),
        ("kafka.ssl.providers = /x\n", "key `kafka.ssl.providers` at ./database.ini:3"),
        ("kafka.sasl.kerberos.kinit.cmd = x\n", "key `kafka.sasl.kerberos.kinit.cmd` at ./database.ini:3"),
    ] {
        let text = format!("[local_kafka]\nservers = a:1\n{lines}");
        let made = || profile(&text).variable("SECRET", "canary").file("/run/secret", "canary").foreign();
        let loaded = made().load().unwrap();
        let (cause, hint) = told(loaded.kafka("local_kafka"));
        assert_eq!(cause, format!("{what} {REFUSED}"));
        let expected = "read it; if it is meant, run `chown $USER ./database.ini && chmod go-w ./database.ini`, or name it with \
                        --profile ./database.ini";
        assert_eq!(hint, expected);
        // A file that the user names is meant.
        let named = Profile::load(Some(Path::new("./database.ini")), Arc::new(made())).unwrap();
        named.kafka("local_kafka").unwrap();
    }
    let run = profile("[run.tail]\ncount = ${env:SECRET}\n").variable("SECRET", "1").foreign().load().unwrap();
    assert!(cause(run.run("tail")).ends_with(REFUSED));
}

#[test]
fn a_foreign_profile_without_secrets_of_the_user_is_read() {
    let made = profile("[local_kafka]\nservers = a:1\nusername = u\n").variable("SDL_LOCAL_KAFKA_PASSWORD", "${env:S}");
    let section = made.variable("S", "own").foreign().load().unwrap().kafka("local_kafka").unwrap();
    assert_eq!(section.password.unwrap().reveal(), "own", "a variable is the user's own word");
    let elsewhere = Made::default().variable("HOME", "/home/u").variable("S", "own").foreign();
    let elsewhere = elsewhere.file("/home/u/.config/sdl/database.ini", "[local_kafka]\nservers = ${env:S}\n");
    assert_eq!(elsewhere.load().unwrap().kafka("local_kafka").unwrap().servers, "own", "not of the working folder");
}
