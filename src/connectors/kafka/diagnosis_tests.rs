//! The lines are those of librdkafka 2.12.1 in front of Kafka 4.3.1, as `ClientLog` keeps them.

use super::*;
use crate::profile::Secret;

fn section(protocol: &str) -> KafkaSection {
    KafkaSection {
        name: "remote_kafka".to_owned(),
        servers: "broker:9092".to_owned(),
        username: protocol.starts_with("SASL").then(|| "loader".to_owned()),
        password: protocol.starts_with("SASL").then(|| Secret::new("canary".to_owned())),
        security_protocol: Some(protocol.to_owned()),
        ..KafkaSection::default()
    }
}

/// Returns the cause and the hint of one line.
fn diagnosed(section: &KafkaSection, line: &str, flaw: Option<CertificateFlaw>) -> (String, String) {
    let failure = diagnose(section, &[line.to_owned()], flaw, Duration::from_secs(10));
    assert_eq!(failure.what, "cannot connect to `remote_kafka`");
    assert_eq!(failure.causes.len(), 1, "one clear cause");
    (failure.causes[0].clone(), failure.hint.expect("a hint"))
}

#[track_caller]
fn means(protocol: &str, line: &str, cause: &str, hint_part: &str) {
    let (found, hint) = diagnosed(&section(protocol), line, None);
    assert_eq!(found, cause);
    assert!(hint.contains(hint_part), "{hint}");
}

#[test]
fn a_refused_connection_is_named() {
    let line = "broker:9092/bootstrap: Connect to 127.0.0.1:9092 failed: Connection refused (in state CONNECT)";
    means("PLAINTEXT", line, "broker:9092: connecting: connection refused", "`servers` under [remote_kafka]");
}

#[test]
fn a_name_that_does_not_resolve_is_named() {
    let line = "broker:9092/bootstrap: Failed to resolve 'broker:9092': Name or service not known (in state CONNECT)";
    means("PLAINTEXT", line, "broker:9092: looking up the name: the name does not resolve", "correct `servers`");
}

#[test]
fn an_advertised_name_that_does_not_resolve_is_named() {
    let line = "kafka:29092/1: Failed to resolve 'kafka:29092': Name or service not known (in state CONNECT)";
    let cause = "broker 1, advertised as kafka:29092: looking up the name: the name does not resolve";
    means("PLAINTEXT", line, cause, "advertised.listeners");
}

#[test]
fn a_request_without_an_answer_names_the_brokers_that_cannot_be_reached() {
    let request = || Failure::new("cannot list the groups of `remote_kafka`").because("no answer in time");
    let explained = |lines: &[&str]| {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        explain(&section("PLAINTEXT"), request(), &lines)
    };
    let one = "kafka:29092/1: Failed to resolve 'kafka:29092': Name or service not known (in state CONNECT)";
    let two = "10.0.0.2:9092/2: Connect to 10.0.0.2:9092 failed: Connection refused (in state CONNECT)";
    let server = "broker:9092/bootstrap: Connect to 127.0.0.1:9092 failed: Connection refused (in state CONNECT)";
    let failure = explained(&[server, one, two]);
    assert_eq!(
        failure.causes,
        [
            "no answer in time",
            "broker 2, advertised as 10.0.0.2:9092: connecting: connection refused",
            "broker 1, advertised as kafka:29092: looking up the name: the name does not resolve",
        ]
    );
    assert_eq!(failure.hint.as_deref(), Some("start the broker, or correct its `advertised.listeners`"));
    assert_eq!(explained(&[server]).causes.last().map(String::as_str), Some("broker:9092: connecting: connection refused"));
    assert_eq!(explained(&[]), request());
}

#[test]
fn a_dot_at_the_end_of_a_name_is_named_where_tls_refuses_it() {
    let alert = "SSL handshake failed: error:0A000417:SSL routines::ssl/tls alert illegal parameter: SSL alert number 47 (in state SSL_HANDSHAKE)";
    let cause = |server: &str| format!("{server}: TLS handshake: the name ends with a dot, which TLS does not allow");
    let line = format!("ssl://broker.:9092/bootstrap: {alert}");
    means("SSL", &line, &cause("broker.:9092"), "remove the dot at the end of the name in `servers`");
    let line = format!("ssl://broker.:9092/1: {alert}");
    means("SSL", &line, &cause("broker 1, advertised as broker.:9092"), "`advertised.listeners`");
}

#[test]
fn a_wrong_password_is_a_lasting_authentication_failure() {
    for line in [
        "sasl_plaintext://broker:9092/bootstrap: SASL authentication error: Authentication failed: Invalid username or password (in state AUTH_REQ)",
        "sasl_plaintext://broker:9092/bootstrap: SASL authentication error: Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256 (in state AUTH_REQ)",
    ] {
        let cause = "broker:9092: logging in: authentication failed for `loader` (PLAIN)";
        means("SASL_PLAINTEXT", line, cause, "correct `username`, `password` or `sasl_mechanism`");
        assert!(is_lasting(&section("SASL_PLAINTEXT"), &[line.to_owned()]));
    }
}

#[test]
fn a_mechanism_that_the_broker_does_not_offer_is_named() {
    let line = "sasl_ssl://broker:9092/bootstrap: SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported mechanisms: SCRAM-SHA-512 (in state AUTH_HANDSHAKE)";
    let cause = "broker:9092: logging in: the broker does not offer PLAIN, but SCRAM-SHA-512";
    means("SASL_SSL", line, cause, "set `sasl_mechanism` under [remote_kafka] to one of SCRAM-SHA-512");
}

#[test]
fn a_login_on_a_port_that_accepts_none_is_named() {
    let line = "sasl_plaintext://broker:9092/bootstrap: SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL state: broker's supported mechanisms:  (in state AUTH_HANDSHAKE)";
    means(
        "SASL_PLAINTEXT",
        line,
        "broker:9092: logging in: the broker accepts no login on this port",
        "remove `security_protocol = SASL_PLAINTEXT`, `username` and `password` under [remote_kafka], or use the port",
    );
    let given = |change: fn(&mut KafkaSection)| {
        let mut section = section("SASL_PLAINTEXT");
        section.security_protocol = None;
        change(&mut section);
        diagnosed(&section, line, None).1
    };
    let hint = given(|_| {});
    assert!(hint.starts_with("remove `username` and `password` under [remote_kafka]"), "the protocol is implied: {hint}");
    let hint = given(|section| section.sasl_mechanism = Some("PLAIN".to_owned()));
    assert!(hint.starts_with("remove `username`, `password` and `sasl_mechanism` under [remote_kafka]"), "{hint}");
    let hint = given(|section| section.security_protocol = Some("SASL_SSL".to_owned()));
    let set = "set `security_protocol = SSL`, and remove `username` and `password` under [remote_kafka], or use the port";
    assert!(hint.starts_with(set), "without a protocol there would be no TLS: {hint}");
    let hint = given(|section| {
        (section.username, section.password) = (None, None);
        section.security_protocol = Some("SASL_SSL".to_owned());
        section.properties = vec![("sasl.mechanism".to_owned(), Secret::new("OAUTHBEARER".to_owned()))];
    });
    assert!(hint.starts_with("set `security_protocol = SSL`, and remove `kafka.sasl.mechanism` under [remote_kafka]"), "{hint}");
}

#[test]
fn a_hint_names_the_property_that_takes_the_place_of_a_key() {
    let by_property = |name: &str, value: &str| {
        let properties = vec![(name.to_owned(), Secret::new(value.to_owned()))];
        KafkaSection { security_protocol: None, properties, ..section("PLAINTEXT") }
    };
    let in_handshake = "ssl://broker:9092/bootstrap: SSL transport error: Broken pipe (in state SSL_HANDSHAKE)";
    let (cause, hint) = diagnosed(&by_property("security.protocol", "ssl"), in_handshake, None);
    assert!(cause.ends_with("the broker does not speak TLS on this port"), "{cause}");
    assert!(hint.starts_with("set `kafka.security.protocol = PLAINTEXT` under [remote_kafka]"), "{hint}");
    let unknown_ca = "ssl://broker:9092/bootstrap: SSL handshake failed: certificate verify failed (in state SSL_HANDSHAKE)";
    let (_, hint) = diagnosed(&by_property("ssl.ca.location", "ca.pem"), unknown_ca, Some(CertificateFlaw::UnknownCa));
    assert!(hint.starts_with("set `kafka.ssl.ca.location` under [remote_kafka]"), "{hint}");
}

#[test]
fn a_missing_login_is_named() {
    let line = "broker:9092/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (in state UP)";
    means(
        "PLAINTEXT",
        line,
        "broker:9092: first request: the broker closed the connection: it requires a login",
        "SASL_PLAINTEXT",
    );
}

#[test]
fn plain_text_on_a_tls_port_is_named() {
    let line =
        "broker:9092/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (in state APIVERSION_QUERY)";
    means(
        "PLAINTEXT",
        line,
        "broker:9092: first request: the broker closed the connection: it requires TLS on this port",
        "security_protocol = SSL",
    );
    means(
        "SASL_PLAINTEXT",
        line,
        "broker:9092: first request: the broker closed the connection: it requires TLS on this port",
        "SASL_SSL",
    );
}

#[test]
fn tls_on_a_plain_text_port_is_named() {
    let ends = [
        "Disconnected: connection closed by peer",
        "Disconnected: connection reset by peer",
        "Disconnected: SSL connection closed by peer",
        "SSL transport error: Broken pipe",
        "error:0A000126:SSL routines::unexpected eof while reading",
    ];
    let in_handshake = ends.map(|end| format!("SSL handshake failed: {end} (in state SSL_HANDSHAKE)"));
    let before_it = ends.iter().flat_map(|end| ["SSL_HANDSHAKE", "CONNECT"].map(|state| format!("{end} (in state {state})")));
    let others = [
        "SSL handshake failed: Disconnected: connection closed by peer: connecting to a PLAINTEXT broker listener? (in state SSL_HANDSHAKE)",
        "Disconnected: during SSL connection handshake (in state SSL_HANDSHAKE)",
    ];
    for text in in_handshake.into_iter().chain(before_it).chain(others.map(str::to_owned)) {
        let line = format!("ssl://broker:9092/bootstrap: {text}");
        let cause = "broker:9092: TLS handshake: the broker does not speak TLS on this port";
        means("SSL", &line, cause, "security_protocol = PLAINTEXT");
        means("SASL_SSL", &line, cause, "= SASL_PLAINTEXT");
    }
}

#[test]
fn a_connection_closed_after_the_handshake_is_named() {
    let line = "ssl://broker:9092/bootstrap: Disconnected: connection closed by peer (in state APIVERSION_QUERY)";
    means("SSL", line, "broker:9092: first request: the broker closed the connection", "see the log of the broker");
}

#[test]
fn the_flaw_of_an_invalid_certificate_is_named() {
    let line = "ssl://broker:9092/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be verified, verify that ssl.ca.location is correctly configured or root CA certificates are installed (install ca-certificates package) (in state SSL_HANDSHAKE)";
    let cases = [
        (Some(CertificateFlaw::UnknownCa), "is signed by a CA that is not trusted here", "ssl_ca_location"),
        (Some(CertificateFlaw::Expired), "has expired", "renew"),
        (Some(CertificateFlaw::NotYetValid), "is not valid yet", "clock"),
        (Some(CertificateFlaw::OtherName), "is for another host name", "`servers`"),
        (Some(CertificateFlaw::Other(23)), "is not valid (OpenSSL verification code 23)", "see its dates, names and CA"),
        (None, "is not valid", "see its dates, names and CA"),
    ];
    for (flaw, cause, hint_part) in cases {
        let (found, hint) = diagnosed(&section("SSL"), line, flaw);
        assert_eq!(found, format!("broker:9092: TLS handshake: the broker's certificate {cause}"));
        assert!(hint.contains(hint_part), "{hint}");
    }
}

#[test]
fn a_missing_or_rejected_client_certificate_is_named() {
    let line = "ssl://broker:9092/bootstrap: Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate: SSL alert number 42 (in state APIVERSION_QUERY)";
    means("SSL", line, "broker:9092: TLS handshake: the broker requires a client certificate", "ssl_certificate_location");
    let with_one = KafkaSection { ssl_certificate_location: Some("client.pem".to_owned()), ..section("SSL") };
    assert_eq!(
        diagnosed(&with_one, line, None).0,
        "broker:9092: TLS handshake: the broker rejects the client certificate, or requires one"
    );
}

#[test]
fn the_protocol_of_a_server_other_than_kafka_is_named() {
    let line = |size: u32| {
        format!(
            "broker:9092/bootstrap: Receive failed: Invalid response size {size} (0..100000000): increase receive.message.max.bytes (in state APIVERSION_QUERY)"
        )
    };
    means(
        "PLAINTEXT",
        &line(1_213_486_160),
        "broker:9092: first request: the server speaks HTTP, not the Kafka protocol",
        "servers",
    );
    means(
        "PLAINTEXT",
        &line(1_397_966_893),
        "broker:9092: first request: the server does not speak the Kafka protocol",
        "servers",
    );
    let cause = "broker:9092: first request: the broker closed the connection: it requires TLS on this port";
    means("PLAINTEXT", &line(0x1503_0300), cause, "security_protocol = SSL");
}

#[test]
fn a_missing_answer_is_named_with_the_servers_and_the_timeout() {
    let failure = diagnose(&section("PLAINTEXT"), &[], None, Duration::from_secs(10));
    assert_eq!(failure.causes, ["broker:9092: no answer within 10s"]);
}

#[test]
fn a_lasting_cause_precedes_a_transient_one() {
    let section = KafkaSection { servers: "a:1,b:2".to_owned(), ..section("SASL_PLAINTEXT") };
    let wrong = "sasl_plaintext://a:1/bootstrap: SASL authentication error: Authentication failed (in state AUTH_REQ)".to_owned();
    let refused =
        "sasl_plaintext://b:2/bootstrap: Connect to 127.0.0.1:2 failed: Connection refused (in state CONNECT)".to_owned();
    let lines = [wrong, refused];
    assert!(!is_lasting(&section, &lines), "b may still start");
    let failure = diagnose(&section, &lines, None, Duration::from_secs(10));
    assert!(failure.causes[0].starts_with("a:1: logging in"), "{:?}", failure.causes);
}

#[test]
fn an_unknown_log_line_is_shown_without_secrets() {
    let line = "sasl_plaintext://broker:9092/bootstrap: Something new about canary happened (in state AUTH_REQ)";
    let (cause, _) = diagnosed(&section("SASL_PLAINTEXT"), line, None);
    assert_eq!(cause, "broker:9092: first request: Something new about *** happened");
}

#[test]
fn files_of_the_client_are_named_by_their_keys() {
    let reason = "ssl.key.location failed: error:05800074:x509 certificate routines::key values mismatch";
    let failure = diagnose_creation(&section("SSL"), reason);
    assert!(failure.causes[0].starts_with("the file of `ssl_key_location` is not the PEM key"), "{:?}", failure.causes);
}

/// What one stop of a broker, and then its start, make librdkafka log, as a [`ClientLog`] keeps it.
const STOP: [&str; 7] = [
    "127.0.0.1:31312/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (in state UP)",
    "127.0.0.1:31312/1: Disconnected: connection closed by peer: receive 0 after POLLIN (in state UP)",
    "GroupCoordinator: 127.0.0.1:31312: Disconnected: connection closed by peer: receive 0 after POLLIN (in state UP)",
    "127.0.0.1:31312/1: Connect to ipv4#127.0.0.1:31312 failed: Connection refused (in state CONNECT)",
    "GroupCoordinator: 127.0.0.1:31312: Connect to ipv4#127.0.0.1:31312 failed: Connection refused (in state CONNECT)",
    "127.0.0.1:31312/bootstrap: Connect to ipv4#127.0.0.1:31312 failed: Connection refused (in state CONNECT)",
    "Consumer group session timed out (in join-state steady) after 45042 ms without a successful response from the group coordinator (broker 1, last error was Success): revoking assignment and rejoining group",
];

fn outage_of(lines: &[&str]) -> Option<String> {
    outage(&section("PLAINTEXT"), &lines.iter().map(ToString::to_string).collect::<Vec<_>>())
}

#[test]
fn a_broker_that_stops_has_one_reason_whichever_connection_meets_it() {
    for seen in 4..=STOP.len() {
        assert_eq!(outage_of(&STOP[..seen]).as_deref(), Some("127.0.0.1:31312: connection refused"), "{seen} lines");
    }
    assert_eq!(outage_of(&STOP[..3]).as_deref(), Some("127.0.0.1:31312: the broker closed the connection"));
    assert_eq!(
        outage_of(&STOP[5..]).as_deref(),
        Some("127.0.0.1:31312: connection refused"),
        "only the bootstrap server is known"
    );
    assert_eq!(outage_of(&STOP[6..]), None, "nothing about a connection");
}

#[test]
fn a_broker_that_is_frozen_does_not_answer() {
    let lines = [
        "127.0.0.1:31312/1: Timed out FetchRequest in flight (after 61042ms, timeout #0)",
        "127.0.0.1:31312/1: Timed out 1 in-flight, 0 retry-queued, 0 out-queue, 0 partially-sent requests",
        "GroupCoordinator: 127.0.0.1:31312: 1 request(s) timed out: disconnect (average rtt 1.042ms) (in state UP)",
        "127.0.0.1:31312/1: ApiVersionRequest failed: Local: Timed out: probably due to broker version < 0.10 (see api.version.request configuration) (in state APIVERSION_QUERY)",
        "127.0.0.1:31312/1: Connection setup timed out in state APIVERSION_QUERY (in state APIVERSION_QUERY)",
    ];
    for seen in 1..=lines.len() {
        assert_eq!(outage_of(&lines[..seen]).as_deref(), Some("127.0.0.1:31312: no answer"), "{seen} lines");
    }
    assert_eq!(silence(&section("PLAINTEXT")).as_deref(), Some("broker:9092: no answer"), "the same words without a line");
    assert_eq!(silence(&KafkaSection { servers: "a:1,b:2".to_owned(), ..section("PLAINTEXT") }), None, "one of them may answer");
}

#[test]
fn the_brokers_with_the_newest_cause_are_named_once_each() {
    let refused = |broker: u32| {
        format!("b{broker}:9092/{broker}: Connect to ipv4#10.0.0.{broker}:9092 failed: Connection refused (in state CONNECT)")
    };
    let lines: Vec<String> = (1..=5).rev().map(refused).collect();
    let reason = |lines: &[String]| outage(&section("PLAINTEXT"), lines);
    assert_eq!(reason(&lines[3..]).as_deref(), Some("b1:9092, b2:9092: connection refused"));
    assert_eq!(reason(&lines).as_deref(), Some("b1:9092, b2:9092, b3:9092 and 2 more: connection refused"));
}

#[test]
fn the_last_reason_of_a_client_is_an_outage_or_in_its_own_words() {
    let reason = |last: &str| last_reason(&section("PLAINTEXT"), &[STOP[3].to_owned(), last.to_owned()]);
    assert_eq!(reason(STOP[4]).as_deref(), Some("127.0.0.1:31312: connection refused"));
    assert_eq!(reason("orders/0: the topic is gone").as_deref(), Some("orders/0: the topic is gone"));
}

fn with_tokens() -> KafkaSection {
    let endpoint = crate::profile::TokenEndpoint {
        url: "https://idp/token".to_owned(),
        client_id: "x".to_owned(),
        client_secret: Secret::new("canary".to_owned()),
        scope: None,
        ca_location: None,
    };
    KafkaSection {
        username: None,
        password: None,
        sasl_mechanism: Some("OAUTHBEARER".to_owned()),
        tokens: Some(TokenAccess { source: TokenSource::Endpoint(endpoint), extensions: Vec::new() }),
        ..section("SASL_PLAINTEXT")
    }
}

#[test]
fn a_token_that_the_broker_refuses_is_named() {
    for line in [
        "sasl_plaintext://broker:9092/bootstrap: SASL authentication error: {\"status\":\"invalid_token\"} (in state AUTH_REQ)",
        "sasl_plaintext://broker:9092/bootstrap: SASL OAUTHBEARER authentication failed (principal=x): {} (in state AUTH_REQ)",
    ] {
        let (cause, hint) = diagnosed(&with_tokens(), line, None);
        assert_eq!(cause, "broker:9092: logging in: authentication failed for the token of client `x` (OAUTHBEARER)");
        assert_eq!(hint, "correct `oauth_client_id`, `oauth_scope` or `oauth_extensions` under [remote_kafka]");
    }
}

#[test]
fn a_missing_token_explains_the_logins_that_fail_and_no_other_outage() {
    const MISSING: &str = "Failed to acquire SASL OAUTHBEARER token: https://idp/token: connecting: connection refused";
    const REFUSED: &str = "sasl_plaintext://broker:9092/1: SASL authentication error: {} (in state AUTH_REQ)";
    const DOWN: &str = "sasl_plaintext://broker:9092/1: Connect to 127.0.0.1:9092 failed: Connection refused (in state CONNECT)";
    let why = |lines: &[&str]| outage(&with_tokens(), &lines.iter().map(ToString::to_string).collect::<Vec<_>>());
    let missing = "https://idp/token: connecting: connection refused";
    // What librdkafka 2.12 logs when the session of a connection ends with its token.
    let state = "SASL OAUTHBEARER mechanism handshake failed: Broker: Request not valid in current SASL state: broker's supported mechanisms: ";
    let of_state = format!("GroupCoordinator: 127.0.0.1:9092: {state} (in state AUTH_HANDSHAKE)");
    let transport =
        "SASL OAUTHBEARER mechanism handshake failed: Local: Broker transport failure: broker's supported mechanisms: (n/a)";
    let of_transport = format!("sasl_plaintext://broker:9092/1: {transport} (in state DOWN)");
    for line in [&of_state, &of_transport] {
        assert_eq!(why(&[MISSING, line, REFUSED]).as_deref(), Some(missing), "{line}");
    }
    for lines in [&[MISSING][..], &[MISSING, REFUSED], &[REFUSED, MISSING], &[DOWN, MISSING]] {
        assert_eq!(why(lines).as_deref(), Some(missing), "{lines:?}");
    }
    assert_eq!(why(&[MISSING, DOWN]).as_deref(), Some("broker:9092: connection refused"));
}
