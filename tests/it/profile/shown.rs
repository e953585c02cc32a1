//! Output and warnings of `profile list` and `profile show`.

use super::profile;
use crate::run::{Folder, ended};

#[test]
fn a_secret_readable_by_others_draws_a_warning() {
    let literal = "[local_kafka]\nservers = a:1\nusername = u\npassword = canary\n";
    let exposed = profile(literal).exposed().load().unwrap();
    let expected = "others can read `./database.ini`, which holds secrets of `local_kafka`: run `chmod 600 ./database.ini`";
    assert_eq!(exposed.warnings(), [expected]);
    assert!(profile(literal).load().unwrap().warnings().is_empty());
    let reference = "[local_kafka]\nservers = a:1\nusername = u\npassword = ${env:X}\n";
    assert!(profile(reference).exposed().load().unwrap().warnings().is_empty());
}

#[test]
fn the_warning_is_on_stderr_unless_quiet() {
    let folder = Folder::with_profile("[local_kafka]\nservers = a:1\nusername = u\npassword = canary\n");
    folder.mode("database.ini", 0o644);
    let warning = "WARN others can read `./database.ini`, which holds secrets of `local_kafka`: run `chmod 600 ./database.ini`\n";
    let stderr = folder.run("profile list").stderr;
    assert!(stderr.ends_with(warning) && stderr.lines().count() == 1, "{stderr}");
    assert_eq!(folder.run("profile list -q").stderr, "");
}

#[test]
fn list_shows_kind_and_address_of_each_section() {
    let folder = Folder::with_profile(
        "[local_kafka]\nservers = localhost:9092\n\n[mongodb]\nuri = mongodb://u:canary@a:1,b:2/x?y=z\n[shape.login]\nmask = user_id\n[old]\nusername = x\n",
    );
    let ended = ended(folder.sdl("profile").env("SDL_ELASTICSEARCH_URL", "http://e:9200"));
    let expected = "\
SECTION        TYPE           SERVERS            FROM
local_kafka    kafka          localhost:9092     ./database.ini:1
mongodb        mongodb        mongodb://a:1,b:2  ./database.ini:4
shape.login    shape          -                  ./database.ini:6
old            -              -                  ./database.ini:8
elasticsearch  elasticsearch  http://e:9200      variables
";
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str(), ended.code), (expected, "", Some(0)));
    let json: serde_json::Value = serde_json::from_str(&folder.run("profile list -o json").stdout).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["sections"][1]["servers"], "mongodb://a:1,b:2");
    assert_eq!(json["sections"][3]["type"], serde_json::Value::Null);
}

#[test]
fn show_names_the_origin_of_each_value() {
    let folder = Folder::with_profile(
        "[local_kafka]\nservers = localhost:9092\nusername = u\npassword = canary\nkafka.sasl.oauthbearer.config = canary\n",
    );
    let ended = ended(
        folder.sdl("profile show local_kafka").env("SDL_LOCAL_KAFKA_USERNAME", "v").env("SDL_LOCAL_KAFKA_CLUSTER_ID", "abc"),
    );
    let expected = "\
SECTION      KEY                            VALUE           FROM
local_kafka  servers                        localhost:9092  ./database.ini:2
local_kafka  username                       v               SDL_LOCAL_KAFKA_USERNAME
local_kafka  password                       ***             ./database.ini:4
local_kafka  kafka.sasl.oauthbearer.config  ***             ./database.ini:5
local_kafka  cluster_id                     abc             SDL_LOCAL_KAFKA_CLUSTER_ID
local_kafka  security_protocol              SASL_PLAINTEXT  default
local_kafka  sasl_mechanism                 PLAIN           default
local_kafka  protect                        off             default
";
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str(), ended.code), (expected, "", Some(0)));
    let json: serde_json::Value = serde_json::from_str(&folder.run("profile show -o json").stdout).unwrap();
    assert_eq!(
        json["values"][2],
        serde_json::json!({"section": "local_kafka", "key": "password", "value": "***", "from": "./database.ini:4"})
    );
}

#[test]
fn show_marks_the_references_that_cannot_be_expanded() {
    let text = "[local_kafka]\nservers = ${env:HOST}:9092\nusername = u\npassword = ${env:NOPE}\nmask_key = ${file:/nope}\n\
                [other]\nservers = b:1\n";
    let folder = Folder::with_profile(text);
    let shown = ended(folder.sdl("profile show local_kafka").env("HOST", "a"));
    let expected = "\
SECTION      KEY                VALUE                              FROM
local_kafka  servers            ${env:HOST}:9092                   ./database.ini:2
local_kafka  username           u                                  ./database.ini:3
local_kafka  password           *** (variable NOPE is not set)     ./database.ini:4
local_kafka  mask_key           *** (file /nope: there is no such file)  ./database.ini:5
";
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&shown.stdout)[..words(expected).len()], words(expected)[..]);
    let error = "\
error: cannot read section `local_kafka`
  caused by: key `password` at ./database.ini:4 needs the variable `NOPE`, which is not set
hint: export NOPE=...
";
    assert_eq!((shown.stderr.as_str(), shown.code), (error, Some(2)));
    let set = ended(folder.sdl("profile show").env("HOST", "a").env("NOPE", "canary"));
    assert!(set.stdout.contains(" b:1 ") && !set.stdout.contains("canary"), "every section is shown: {}", set.stdout);
    assert!(set.stderr.contains("needs the file `/nope`: there is no such file"), "{}", set.stderr);
    assert_eq!((folder.run("profile show other").code, folder.run("profile list").code), (Some(0), Some(0)));
}
