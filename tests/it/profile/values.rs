//! Which value counts, and how it arrives.

use sdl::profile::Protect;

use super::{cause, kafka, profile};

#[test]
fn a_value_arrives_as_it_was_written() {
    for value in
        [r"p\wd", r#""x""#, "'x'", "a#b", "a ; b", "# a", "a=b:c", r"ends\", "$HOME ${HOME} $", "pä§wörd", "%(x)s", "a\tb"]
    {
        let section = kafka(&format!("servers = a:1\npassword = {value}\nusername = u\n")).unwrap();
        assert_eq!(section.password.unwrap().reveal(), value);
        assert_eq!(section.username.as_deref(), Some("u"), "the line after `{value}` is a line of its own");
    }
}

#[test]
fn blanks_comments_and_line_ends_are_ignored() {
    let section = kafka("\r\n  # servers = b:1\r\n; servers = c:1\r\n\tservers:a:1  \r\ncluster_id=u\r\n").unwrap();
    assert_eq!((section.servers.as_str(), section.cluster_id.as_deref()), ("a:1", Some("u")));
    let marked = profile("\u{feff}[local_kafka]\nservers = a:1\n").load().unwrap();
    assert_eq!(marked.section_names().collect::<Vec<_>>(), ["local_kafka"], "a byte order mark is no part of a name");
}

#[test]
fn a_variable_wins_over_the_file() {
    let made = profile("[local_kafka]\nservers = a:1\nkafka.socket.timeout.ms = 1\n[my-kafka.eu]\nservers = b:1\n")
        .variable("SDL_LOCAL_KAFKA_SERVERS", "x:1")
        .variable("SDL_LOCAL_KAFKA_KAFKA_SOCKET_TIMEOUT_MS", "2")
        .variable("SDL_LOCAL_KAFKA_KAFKA_FETCH_MAX_BYTES", "3")
        .variable("SDL_MY_KAFKA_EU_SERVERS", "y:1")
        .load()
        .unwrap();
    let kafka = made.kafka("local_kafka").unwrap();
    assert_eq!(kafka.servers, "x:1");
    let properties: Vec<_> = kafka.properties.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
    assert_eq!(properties, [("socket.timeout.ms", "2"), ("fetch.max.bytes", "3")]);
    assert_eq!(made.kafka("my-kafka.eu").unwrap().servers, "y:1");
}

#[test]
fn an_empty_value_is_none() {
    let made = profile("[local_kafka]\nservers = a:1\nusername = u\npassword =\n").variable("SDL_LOCAL_KAFKA_USERNAME", "");
    let section = made.load().unwrap().kafka("local_kafka").unwrap();
    assert_eq!((section.username, section.password), (None, None));
    assert_eq!(cause(kafka("servers =\n")), "missing key `servers`");
}

#[test]
fn references_are_expanded_once() {
    let made = profile("[local_kafka]\nservers = ${env:HOST}:${env:PORT}\nusername = u\npassword = ${file:/run/password}\n")
        .variable("HOST", "${env:PORT}")
        .variable("PORT", "9092")
        .file("/run/password", "  ${env:PORT}\\ \r\n");
    let section = made.load().unwrap().kafka("local_kafka").unwrap();
    assert_eq!(section.servers, "${env:PORT}:9092");
    assert_eq!(section.password.unwrap().reveal(), "  ${env:PORT}\\ ", "all but the last line break is the secret");
}

#[test]
fn a_missing_reference_fails_only_the_section_that_uses_it() {
    let text = "[local_kafka]\nservers = a:1\n[remote_kafka]\nservers = b:1\nusername = u\npassword = ${env:GONE}\n";
    let profile = profile(text).load().unwrap();
    assert!(profile.kafka("local_kafka").is_ok());
    let error = profile.kafka("remote_kafka").unwrap_err();
    assert_eq!(error.to_string(), "cannot read section `remote_kafka`");
    assert_eq!(error.causes(), ["key `password` at ./database.ini:6 needs the variable `GONE`, which is not set"]);
    assert_eq!(
        cause(kafka("servers = ${file:/gone}\n")),
        "key `servers` at ./database.ini:2 needs the file `/gone`: there is no such file"
    );
    assert_eq!(cause(kafka("servers = ${env:X\n")), "key `servers` at ./database.ini:2 has a `${` without its `}`");
}

#[test]
fn an_invalid_value_is_reported_without_the_value() {
    for (lines, expected) in [
        ("servers = a:1\nsecurity_protocol = canary\n", "one of `PLAINTEXT`, `SASL_PLAINTEXT`, `SSL`, `SASL_SSL`"),
        (
            "servers = a:1\nsasl_mechanism = canary\n",
            "one of `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`, `OAUTHBEARER`, `AWS_MSK_IAM`",
        ),
        ("servers = a:1\nprotect = canary\n", "one of `off`, `confirm`, `readonly`"),
    ] {
        let cause = cause(kafka(lines));
        assert!(cause.ends_with(&format!("at ./database.ini:3 is not {expected}")), "{cause}");
        assert!(!cause.contains("canary"));
    }
    let mongo = |lines: &str| cause(profile(&format!("[mongodb]\n{lines}")).load().unwrap().mongo("mongodb"));
    assert_eq!(mongo("host = a\nport = 0\n"), "key `port` at ./database.ini:3 is not a port between 1 and 65535");
    assert_eq!(mongo("host = a\ntls = maybe\n"), "key `tls` at ./database.ini:3 is not `true` or `false`");
    let not_a_host = "key `host` at ./database.ini:2 is not a name or an address; a connection string belongs to `uri`";
    assert_eq!(mongo("host = mongodb://a:27017\n"), not_a_host);
    assert_eq!(mongo("host = a:27017\n"), not_a_host);
    assert!(profile("[mongodb]\nhost = ::1\n").load().unwrap().mongo("mongodb").is_ok());
    let no_scheme = mongo("uri = a:27017\n");
    assert!(no_scheme.ends_with("is not a connection string, `mongodb://host:27017`"), "{no_scheme}");
    assert_eq!(mongo("host = a\nuri = mongodb://a\n"), "key `host` at ./database.ini:2 is not wanted beside `uri`");
    let elastic = |lines: &str| cause(profile(&format!("[elasticsearch]\n{lines}")).load().unwrap().elastic("elasticsearch"));
    assert!(elastic("url = localhost:9200\n").contains("is not `http://host:9200`"));
    assert!(elastic("url = http://a:9200,http://b:99999/x\n").ends_with(": the port of `http://b:99999/x` is above 65535"));
    assert!(
        elastic("url = http://u:canary@a:9200\n")
            .ends_with("is not a URL without user and password, which have keys of their own")
    );
    assert!(elastic("url = http://a\nusername = u\napi_key = k\n").ends_with("is not wanted beside `username` or `bearer`"));
    assert_eq!(elastic("url = http://a\nusername = u\n"), "missing key `password`");
}

#[test]
fn enumerated_values_are_case_insensitive() {
    let section = kafka("servers = a:1\nsecurity_protocol = sasl_ssl\nsasl_mechanism = scram-sha-256\nprotect = ReadOnly\nusername = u\npassword = p\n").unwrap();
    assert_eq!(
        (section.protocol(), section.mechanism(), section.protect),
        ("SASL_SSL", Some("SCRAM-SHA-256"), Protect::ReadOnly)
    );
}

#[test]
fn booleans_are_written_as_in_configparser() {
    let tls = |word: &str| profile(&format!("[mongodb]\nhost = a\ntls = {word}\n")).load().unwrap().mongo("mongodb").unwrap().tls;
    assert_eq!(["true", "Yes", "ON", "1"].map(tls), [true; 4]);
    assert_eq!(["false", "No", "OFF", "0"].map(tls), [false; 4]);
}

#[test]
fn a_username_alone_means_sasl_plaintext_and_plain_with_a_warning_off_this_machine() {
    for (servers, warned) in
        [("localhost:9092", 0), ("127.0.0.1:9092, [::1]:9092", 0), ("broker:9092", 1), ("localhost:1,broker:1", 1)]
    {
        let section = kafka(&format!("servers = {servers}\nusername = u\npassword = p\n")).unwrap();
        assert_eq!((section.protocol(), section.mechanism()), ("SASL_PLAINTEXT", Some("PLAIN")));
        assert_eq!(section.warnings().len(), warned, "{servers}");
    }
    assert!(
        kafka("servers = broker:1\nusername = u\npassword = p\nsecurity_protocol = SASL_PLAINTEXT\n")
            .unwrap()
            .warnings()
            .is_empty()
    );
    assert_eq!(kafka("servers = a:1\n").unwrap().protocol(), "PLAINTEXT");
    assert_eq!(cause(kafka("servers = a:1\nsecurity_protocol = SASL_SSL\n")), "missing key `username`");
    assert_eq!(cause(kafka("servers = a:1\nusername = u\n")), "missing key `password`");
}

#[test]
fn a_password_or_a_mechanism_without_a_username_is_refused() {
    assert_eq!(cause(kafka("servers = a:1\npassword = p\n")), "missing key `username`");
    assert_eq!(cause(kafka("servers = a:1\nsasl_mechanism = PLAIN\n")), "missing key `username`");
    assert!(kafka("servers = a:1\npassword = p\nkafka.sasl.username = u\n").is_ok());
    let mongo = |lines: &str| cause(profile(&format!("[mongodb]\n{lines}")).load().unwrap().mongo("mongodb"));
    assert_eq!(mongo("host = a\npassword = p\n"), "missing key `username`");
    let elastic = |lines: &str| {
        let text = format!("[elasticsearch]\nurl = https://a\n{lines}");
        cause(profile(&text).load().unwrap().elastic("elasticsearch"))
    };
    assert_eq!(elastic("password = p\n"), "missing key `username`");
    let beside = "key `password` at ./database.ini:3 is not wanted beside `api_key` or `bearer`";
    assert_eq!(elastic("password = p\napi_key = k\n"), beside);
}

#[test]
fn a_login_and_tls_files_that_the_protocol_ignores_draw_a_warning() {
    let login = "servers = a:1\nusername = u\npassword = p\nsecurity_protocol = SSL\n";
    let expected = "`local_kafka` ignores `username` and `password`: `security_protocol` is SSL, without login";
    assert_eq!(kafka(login).unwrap().warnings(), [expected]);
    let files = "servers = a:1\nssl_ca_location = ca.pem\n";
    let expected = "`local_kafka` ignores its TLS files: `security_protocol` is PLAINTEXT, without encryption";
    assert_eq!(kafka(files).unwrap().warnings(), [expected]);
    assert!(kafka(&format!("{files}security_protocol = SSL\n")).unwrap().warnings().is_empty());
}

#[test]
fn disabled_verification_draws_a_warning() {
    let insecure =
        profile("[elasticsearch]\nurl = https://a\ninsecure = true\n").load().unwrap().elastic("elasticsearch").unwrap();
    assert_eq!(insecure.warnings().len(), 1);
    let off = kafka("servers = a:1\nkafka.enable.ssl.certificate.verification = false\n").unwrap();
    assert_eq!(off.warnings().len(), 1);
}

#[test]
fn the_default_section_is_inherited_by_the_sections_that_have_its_keys() {
    let text = "[DEFAULT]\nservers = a:1\nusername = u\nhost = h\nsomething = else\n[local_kafka]\nusername = own\npassword = p\n\
                [remote_kafka]\npassword = p\n[mongodb]\ndefault_collection = c\n[run.tail]\n";
    let profile = profile(text).load().unwrap();
    let local = profile.kafka("local_kafka").unwrap();
    assert_eq!((local.servers.as_str(), local.username.as_deref()), ("a:1", Some("own")));
    assert_eq!(profile.kafka("remote_kafka").unwrap().username.as_deref(), Some("u"));
    let mongo = profile.mongo("mongodb").unwrap();
    assert_eq!((mongo.host.as_deref(), mongo.username.as_deref()), (Some("h"), Some("u")));
    assert!(profile.run("tail").unwrap().is_empty());
    assert_eq!(profile.section_names().filter(|name| *name == "DEFAULT").count(), 0);
}

#[test]
fn a_list_over_several_lines_is_one_list() {
    assert_eq!(kafka("servers =\n    a:1,\n    # not this\n    b:1\n").unwrap().servers, "a:1,b:1");
    assert_eq!(kafka("SERVERS = a:1\n").unwrap().servers, "a:1");
}

#[test]
fn sections_of_other_programs_are_left_alone() {
    let other = "[postgresql]\nhost = localhost\ndatabase = suppliers\nuser = someone\npassword = secret\n\
                 [grafana]\nurl = http://g\ntoken = t\n[logging]\nlevel = debug\n";
    let made = profile(&format!("[local_kafka]\nservers = a:1\n{other}")).load().unwrap();
    assert!(made.kafka("local_kafka").is_ok());
    assert_eq!(["postgresql", "grafana", "logging"].map(|name| made.kind(name)), [None; 3]);
    assert_eq!(cause(made.mongo("postgresql")), "unknown key `database` at ./database.ini:5");
    assert_eq!(cause(kafka("servers = a:1\npasword = p\n")), "unknown key `pasword` at ./database.ini:3");
}

#[test]
fn values_that_configparser_interpolates_draw_a_warning_without_the_value() {
    let made = profile("[local_kafka]\nservers = a:1\nusername = %(user)s\npassword = canary%%b\n[logging]\nformat = %%d\n");
    let warnings = made.load().unwrap().warnings().to_vec();
    assert_eq!(
        warnings,
        [("username", 3, "%(...)s"), ("password", 4, "%%")].map(|(key, line, found)| format!(
            "`{key}` at ./database.ini:{line} contains `{found}`, which is taken as it is written: Python's configparser would replace it"
        ))
    );
}

#[test]
fn property_names_of_other_kafka_tools_suggest_the_key() {
    for (name, key) in [
        ("bootstrap.servers", "servers"),
        ("bootstrap_servers", "servers"),
        ("metadata.broker.list", "servers"),
        ("sasl.username", "username"),
        ("sasl.mechanisms", "sasl_mechanism"),
        ("security.protocol", "security_protocol"),
        ("ssl.ca.location", "ssl_ca_location"),
    ] {
        let error = kafka(&format!("{name} = x\n")).unwrap_err();
        assert_eq!(sdl::error::Error::from(error).hint(), Some(format!("use `{key}`")), "{name}");
    }
    let error = kafka("servers = a:1\nfetch.max.bytes = 1\n").unwrap_err();
    assert_eq!(
        sdl::error::Error::from(error).hint().as_deref(),
        Some("write librdkafka's properties with a prefix: `kafka.fetch.max.bytes`")
    );
}

#[test]
fn a_comment_after_a_value_is_named_if_the_value_is_invalid() {
    let mongo = |lines: &str| cause(profile(&format!("[mongodb]\n{lines}")).load().unwrap().mongo("mongodb"));
    assert_eq!(
        mongo("host = a\nport = 27017 ; the default\n"),
        "key `port` at ./database.ini:3 is not a port between 1 and 65535: `; the default` is part of the value"
    );
    assert_eq!(
        mongo("host = a\ntls = true # always\n"),
        "key `tls` at ./database.ini:3 is not `true` or `false`: `# always` is part of the value"
    );
}

#[test]
fn a_comment_after_a_name_that_a_server_would_accept_is_refused() {
    let mongo = |lines: &str| cause(profile(&format!("[mongodb]\nhost = a\n{lines}")).load().unwrap().mongo("mongodb"));
    let elastic = |lines: &str| {
        let text = format!("[elasticsearch]\nurl = http://a\n{lines}");
        cause(profile(&text).load().unwrap().elastic("elasticsearch"))
    };
    let expected = |key: &str| format!("`# a comment` is part of the value of key `{key}` at ./database.ini:3");
    for key in ["default_consumer_group_id", "default_consumer_topic", "default_producer_topic", "cluster_id", "username"] {
        assert_eq!(cause(kafka(&format!("servers = a:1\n{key} = x   # a comment\n"))), expected(key));
    }
    for key in ["default_database", "default_db_name", "default_collection", "consumer_group_id", "auth_database"] {
        assert_eq!(mongo(&format!("{key} = x\t# a comment\n")), expected(key));
    }
    for key in ["default_index", "consumer_group_id"] {
        assert_eq!(elastic(&format!("{key} = x # a comment\n")), expected(key));
        assert_eq!(elastic(&format!("{key} = # a comment\n")), expected(key), "nothing but a comment");
    }
    let error = kafka("servers = a:1\ncluster_id = x ; c\n").unwrap_err();
    let hint = "put the comment on a line of its own; ${env:NAME} stands for a value that contains `#` or `;`";
    assert_eq!(sdl::error::Error::from(error).hint().as_deref(), Some(hint));

    let other = "[local_kafka]\nservers = a:1\nusername = ${env:USER}\npassword = a # b\n[other_kafka]\nservers = a:1 # c\n";
    let other = profile(other).variable("USER", "a # b").variable("SDL_LOCAL_KAFKA_CLUSTER_ID", "c # d").load().unwrap();
    let section = other.kafka("local_kafka").unwrap();
    assert_eq!((section.username.as_deref(), section.cluster_id.as_deref()), (Some("a # b"), Some("c # d")));
    assert!(other.warnings().is_empty());
}

#[test]
fn a_comment_after_a_property_a_rule_or_a_flag_draws_a_warning() {
    let text = "[local_kafka]\nservers = a:1\nkafka.client.id = x # one\nkafka.sasl.password = y # z\n[shape.a]\n\
                drop = b ; two\nwhere = c = 'C # D'\ndefault.color = #fff\n[run.tail]\ngroup = g # three\n[logging]\nlevel = d # e\n";
    let warnings = profile(text).load().unwrap().warnings().to_vec();
    let expected =
        [("# one", "kafka.client.id", 3), ("; two", "drop", 6), ("# three", "group", 10)].map(|(comment, key, line)| {
            format!("`{comment}` is part of the value of `{key}` at ./database.ini:{line}: put a comment on a line of its own")
        });
    assert_eq!(warnings, expected);
}

#[test]
fn a_certificate_needs_its_key_and_a_key_its_certificate() {
    assert_eq!(cause(kafka("servers = a:1\nssl_certificate_location = c.pem\n")), "missing key `ssl_key_location`");
    assert_eq!(cause(kafka("servers = a:1\nssl_key_location = c.key\n")), "missing key `ssl_certificate_location`");
    assert!(kafka("servers = a:1\nssl_certificate_location = c.pem\nssl_key_location = c.key\n").is_ok());
    assert!(kafka("servers = a:1\nssl_certificate_location = c.pem\nkafka.ssl.key.pem = k\n").is_ok());
    let elastic = |lines: &str| {
        cause(profile(&format!("[elasticsearch]\nurl = https://a\n{lines}")).load().unwrap().elastic("elasticsearch"))
    };
    assert_eq!(elastic("client_cert = c.pem\n"), "missing key `client_key`");
    assert_eq!(elastic("client_key = c.key\n"), "missing key `client_cert`");
}
